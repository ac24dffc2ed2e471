"""Read models of manual tasks: how many wait for whom, and what each outcome would do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from fulfillment.actions import Action
from fulfillment.authority.controls import approval_for
from fulfillment.definitions.signs import in_words
from fulfillment.engine.store.database import cursor
from fulfillment.models import MANUAL_OPEN, ManualTask, Transition
from fulfillment.operations.deciding import consequence, implied_by, manual_found

MOST = 100
"""So many of each are counted; there are more when there is one more."""
_LATEST = 20
# Each from a partial index of its own, and never more of them than are told of.
_COUNTS = f"""
SELECT
  (SELECT count(*) FROM (SELECT FROM fulfillment_manualtask
   WHERE state IN ('AWAITING_CUSTOMER', 'CLAIMED', 'OPEN') LIMIT {MOST + 1}) open),
  (SELECT count(*) FROM (
    (SELECT FROM fulfillment_manualtask
     WHERE state IN ('CLAIMED', 'OPEN') AND due_at < (SELECT fulfillment_now()) LIMIT {MOST + 1})
    UNION ALL
    (SELECT FROM fulfillment_manualtask
     WHERE state IN ('CLAIMED', 'OPEN') AND due_at IS NULL LIMIT {MOST + 1})) overdue),
  (SELECT count(*) FROM (SELECT FROM fulfillment_manualtask
   WHERE state = 'CLAIMED' AND claimed_by = %(person)s LIMIT {MOST + 1}) mine),
  (SELECT count(*) FROM (SELECT FROM fulfillment_manualtask
   WHERE state IN ('AWAITING_CUSTOMER', 'CLAIMED', 'OPEN') AND claimed_by = ''
   LIMIT {MOST + 1}) nobodys),
  (SELECT count(*) FROM (SELECT FROM fulfillment_manualtask
   WHERE %(has_roles)s AND state IN ('AWAITING_CUSTOMER', 'CLAIMED', 'OPEN')
     AND role = ANY(%(roles)s::text[]) LIMIT {MOST + 1}) of_roles)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualQueue:
    """How many manual tasks there are to decide."""

    to_decide: int
    overdue: int
    mine: int
    nobodys: int
    of_roles: int
    """For members of one of somebody's roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One outcome that may be chosen."""

    outcome: str
    words: str
    effect: str
    told: str
    """What the order does then."""
    needs: Action | None
    """Who else has to approve it."""


def manual_queue(*, person: str, roles: Collection[str]) -> ManualQueue:
    """For somebody with these roles. One query."""
    given = {"person": person, "roles": sorted(roles), "has_roles": bool(roles)}
    with cursor() as raw:
        raw.execute(_COUNTS, given)
        found = raw.fetchone()
    assert found is not None
    to_decide, overdue, mine, nobodys, of_roles = found
    return ManualQueue(
        to_decide=to_decide, overdue=overdue, mine=mine, nobodys=nobodys, of_roles=of_roles
    )


def waits_for(*, whose: str, person: str, roles: Collection[str]) -> Q:
    """Of manual tasks: those of `mine`, `nobody` or `roles` that are not decided."""
    chosen = {
        "mine": Q(claimed_by=person) & ~Q(claimed_by=""),
        "nobody": Q(claimed_by=""),
        "roles": Q(role__in=sorted(roles)),
    }[whose]
    return chosen & Q(state__in=sorted(MANUAL_OPEN))


def ways(*, manual: ManualTask) -> list[Way]:
    """Its outcomes in their order; a fixed number of queries."""
    return list(_ways(manual))


def past(*, manual: ManualTask) -> Sequence[Transition]:
    """What has happened to it and to the task that it is about, the newest first."""
    about = Q(entity="manual", entity_id=str(manual.pk))
    about |= Q(entity="task", entity_id=str(manual.task_id))
    rows = Transition.objects.filter(about, fulfillment_id=manual.fulfillment_id)
    return list(rows.order_by("-sequence")[:_LATEST])


def in_time(at: datetime, *, now: datetime) -> str:
    """How far away it is: in 3 hours, 2 days ago."""
    seconds = int((at - now).total_seconds())
    length = _length(abs(seconds))
    return f"in {length}" if seconds >= 0 else f"{length} ago"


def _ways(manual: ManualTask) -> Iterator[Way]:
    context = manual_found(name=str(manual.pk)).context
    for outcome, effect in manual.outcomes.items():
        implied = implied_by(manual=manual, outcome=outcome)
        yield Way(
            outcome=outcome,
            words=in_words(outcome).capitalize(),
            effect=effect,
            told=consequence(effect),
            needs=approval_for(action=implied, context=context) if implied else None,
        )


def _length(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        number = seconds // size
        if number:
            return f"{number} {unit}{'s' if number != 1 else ''}"
    return "less than a minute"
