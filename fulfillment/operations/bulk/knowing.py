"""What came of rows that are done: they count once what was wanted has come about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from fulfillment.engine.store.database import Update
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import BulkRow
from fulfillment.operations.bulk.stages import ACTOR
from fulfillment.operations.catalog import repair_of
from fulfillment.operations.repair import CameAbout

_BATCH = 500
_SOONEST, _LATEST = timedelta(seconds=2), timedelta(minutes=1)
_GONE = CameAbout(is_so=False, told="It does not exist any more.")
_KNOWN = Update(
    "fulfillment_bulkrow", guard="state", state="text", told="text", known_at="timestamptz"
)
_LATER = Update("fulfillment_bulkrow", guard="state", look_at="timestamptz")


def look() -> set[int]:
    """Ask about those whose time has come; the jobs in which something is known now."""
    return run_unit(_look, fulfillment_ids=(), actor=ACTOR)


def _look(unit: Unit) -> set[int]:
    rows = list(
        BulkRow.objects.filter(state="DONE", look_at__lte=unit.now)
        .order_by("look_at")
        .select_related("job")
        .select_for_update(of=("self",), skip_locked=True)[:_BATCH]
    )
    by_action: dict[str, list[BulkRow]] = defaultdict(list)
    for row in rows:
        by_action[row.job.action].append(row)
    jobs: set[int] = set()
    for action, some in by_action.items():
        jobs |= _ask(unit, action, some)
    return jobs


def _ask(unit: Unit, action: str, rows: Sequence[BulkRow]) -> set[int]:
    found = repair_of(action).came_about(pks=[row.subject_pk for row in rows])
    known, later = [], []
    for row in rows:
        answer = found.get(row.subject_pk, _GONE)
        assert row.done_at is not None
        if answer.is_so is None and unit.now < row.done_at + row.job.known_within:
            later.append((row.pk, _next_look(row.done_at, unit.now), "DONE"))
            continue
        if answer.is_so:
            row.verify()
        else:
            row.give_up()
        told = answer.told
        if answer.is_so is None:
            told = f"It has not come about within {row.job.known_within}. {told}"
        known.append((row.pk, str(row.state), f"{row.told} {told}", unit.now, "DONE"))
    _KNOWN.run(unit.raw, known)
    _LATER.run(unit.raw, later)
    return {row.job_id for row in rows if row.state != "DONE"}


def _next_look(since: datetime, now: datetime) -> datetime:
    """The longer it takes, the more seldom."""
    return now + min(max((now - since) / 10, _SOONEST), _LATEST)
