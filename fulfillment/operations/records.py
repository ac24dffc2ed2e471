"""What every operation leaves behind: who did it, why, and how it was before."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from fulfillment.engine.store.database import Row, clean
from fulfillment.errors import NothingToHold, ReasonMissing
from fulfillment.models import Operation, TargetSystem


def reason_of(reason: str) -> str:
    """The reason as it is stored. Raises ReasonMissing."""
    text = clean(reason.strip(), 2000)
    if not text:
        raise ReasonMissing("Say why; whoever looks at it next has to know.")
    return text


def known_target(name: str) -> None:
    """Raises NothingToHold when no row describes the target system."""
    if not TargetSystem.objects.filter(pk=name).exists():
        raise NothingToHold(
            f"There is no target system {name!r}; `manage.py targets list` names them."
        )


def log(
    *,
    kind: str,
    subject: str,
    actor: str,
    reason: str,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Append to the log of operations, in the caller's transaction."""
    Operation.objects.create(
        kind=kind,
        subject=subject[:300],
        actor=actor[:150],
        reason=reason,
        before=before or {},
        after=after or {},
        happened_at=now,
    )


def now_of(raw: psycopg.Cursor[Row]) -> datetime:
    """The database's clock, at this moment of the transaction."""
    raw.execute("SELECT fulfillment_now()")
    row = raw.fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment
