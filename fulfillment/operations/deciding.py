"""Deciding manual tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fulfillment.authority.actors import Actor
from fulfillment.engine.plans import deciding
from fulfillment.engine.store.database import storable
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    DecisionMade,
    DefinitionInvalid,
    Fault,
    ManualTaskUnknown,
    OutcomeUnknown,
)
from fulfillment.models import ManualState, ManualTask
from fulfillment.operations.records import log, reason_of


def decide(
    *,
    manual_id: int,
    outcome: str,
    actor: Actor,
    reason: str,
    values: Mapping[str, Any] | None = None,
) -> ManualTask:
    """Decide an open manual task, with the values that its form asks for.

    Of two people one decides, and the other is told what was decided. Raises ManualTaskUnknown,
    OutcomeUnknown, DecisionMade, ReasonMissing, and DefinitionInvalid with every fault of the
    values.
    """
    reason = reason_of(reason)
    known = ManualTask.objects.filter(pk=manual_id).first()
    if known is None:
        raise ManualTaskUnknown(
            f"There is no manual task {manual_id}; `manage.py manual list` shows those open."
        )
    if outcome not in known.outcomes:
        raise OutcomeUnknown(
            f"{known.title} has no outcome {outcome!r}; it has: {', '.join(known.outcomes)}."
        )

    faults = list(_faults(known, values or {}))
    if faults:
        raise DefinitionInvalid(faults)

    def work(unit: Unit) -> ManualTask:
        row = deciding.decide(
            unit,
            manual_id=manual_id,
            outcome=outcome,
            values=values or {},
            actor=actor.name,
            reason=reason,
        )
        if row not in unit.decided:
            raise DecisionMade(
                f"{row.title}: {row.decided_by or 'somebody else'} was quicker, with "
                f"{row.outcome or str(row.state).lower()}; nothing was changed."
            )
        log(
            kind="decide",
            subject=f"manual:{manual_id}",
            actor=actor.name,
            reason=reason,
            before={"state": ManualState.OPEN.value},
            after={"outcome": outcome, "values": dict(values or {})},
            now=unit.now,
        )
        return row

    return run_unit(work, fulfillment_ids=[known.fulfillment_id], actor=actor.name)


def _faults(manual: ManualTask, values: Mapping[str, Any]) -> Iterator[Fault]:
    """Values that the form does not have, or that are no JSON that can be kept."""
    asked = ", ".join(manual.fields) or "no values"
    for name, value in values.items():
        if name not in manual.fields:
            code = "manual.unknown_value"
            message = f"{manual.title} does not ask for {name!r}; it asks for: {asked}."
        elif not storable(value):
            code = "manual.value_unusable"
            message = f"{name!r} has something in it that is no valid text or number."
        else:
            continue
        yield Fault(code=code, path=f"values.{name}", message=message)
