"""Why a task is with a person: kept in its audit trail, beside the words for it."""

from __future__ import annotations

import enum


class Stopped(enum.StrEnum):
    """What has to be known, or mended, before it can go on; `why` of its transition's details."""

    DECISION = "decision"
    """Its workflow asks a person."""
    INPUT = "input"
    """What it is to be given, or a question about it, can't be told from the data."""
    PRECONDITION = "precondition"
    EXPIRED = "expired"
    """A value that it uses is out of date."""
    OUTPUTS = "outputs"
    """Confirmed, but what it returned can't be used."""
    REPORTED = "reported"
    """What it waited for was reported with values that don't fit."""
    UNREPORTED = "unreported"
    """What it waits for has not come in time."""
    UNKNOWN = "unknown"
    """Whether it happened is not known, and nobody but a person can find out."""
    QUARANTINED = "quarantined"
    """The same, after it had cost too many workers."""
    DONE_AFTER_ALL = "done_after_all"
    """A command that another had taken the place of has happened."""


MAY_GO_ON = frozenset({Stopped.INPUT, Stopped.PRECONDITION, Stopped.EXPIRED})
"""It never began: what kept it can be looked at anew."""
MAY_HAVE_HAPPENED = frozenset(
    {Stopped.OUTPUTS, Stopped.UNKNOWN, Stopped.QUARANTINED, Stopped.DONE_AFTER_ALL}
)
