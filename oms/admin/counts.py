"""What the side bar shows beside its lines: how many rows wait behind each.

All of them are one query for each page, and none for a page that only looks at itself again.
"""

from __future__ import annotations

from django.http import HttpRequest

from fulfillment.admin.figures import counted
from fulfillment.queries.workload import MOST_BESIDE, Backlog, backlog

_KEPT = "_desk_backlog"


def to_decide(request: HttpRequest) -> str:
    return _shown(_backlog(request).to_decide)


def fallout(request: HttpRequest) -> str:
    return _shown(_backlog(request).fallout)


def incidents(request: HttpRequest) -> str:
    return _shown(_backlog(request).incidents)


def to_approve(request: HttpRequest) -> str:
    return _shown(_backlog(request).to_approve)


def unmatched(request: HttpRequest) -> str:
    return _shown(_backlog(request).unmatched)


def stuck(request: HttpRequest) -> str:
    return _shown(_backlog(request).stuck)


def _shown(number: int) -> str:
    """Nothing where nothing waits."""
    return counted(number, at_most=MOST_BESIDE) if number else ""


def _backlog(request: HttpRequest) -> Backlog:
    found: Backlog | None = getattr(request, _KEPT, None)
    if found is None:
        found = backlog()
        setattr(request, _KEPT, found)
    return found
