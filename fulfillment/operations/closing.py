"""Closing fallout cases by hand."""

from __future__ import annotations

from fulfillment.engine.work import cases
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import CaseUnknown
from fulfillment.models import FalloutCase
from fulfillment.operations.records import log, reason_of


def close_case(*, case_id: int, resolution: str, actor: str) -> bool:
    """Close a fallout case by hand. False when it is closed already.

    What it is about stays as it is: an order that goes on being stuck gets a new case. Raises
    ReasonMissing without a resolution, and CaseUnknown.
    """
    resolution = reason_of(resolution)
    case = FalloutCase.objects.filter(pk=case_id).first()
    if case is None:
        raise CaseUnknown(f"There is no case {case_id}; `manage.py cases list` shows those open.")

    def work(unit: Unit) -> bool:
        closed = cases.resolve_case(unit, case_id=case_id, resolution=resolution)
        if closed:
            log(
                kind="close_case",
                subject=f"case:{case_id}",
                actor=actor,
                reason=resolution,
                before={"state": "OPEN", "title": case.title},
                after={"state": "RESOLVED"},
                now=unit.now,
            )
        return closed

    locked = [] if case.fulfillment_id is None else [case.fulfillment_id]
    return run_unit(work, fulfillment_ids=locked, actor=actor)
