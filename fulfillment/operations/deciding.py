"""Deciding manual tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, JsonValue, StringConstraints

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.plans import deciding
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import storable
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    DecisionMade,
    DefinitionInvalid,
    Fault,
    ManualTaskUnknown,
    OutcomeUnknown,
    SubjectUnknown,
)
from fulfillment.models import ManualState, ManualTask
from fulfillment.operations.catalog import perform
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why
from fulfillment.operations.subjects import context_of, number_of


class DecisionParameters(Parameters):
    outcome: Annotated[str, StringConstraints(max_length=63)] = Field(
        description="One of the task's outcomes."
    )
    values: dict[str, JsonValue] = Field({}, description="What its form asks for, by their names.")


class DecideManualTask(Repair):
    """Choose one of its outcomes, with the values that its form asks for: the order goes on in
    the same moment. Of two people one decides."""

    action = Action.MANUAL_DECIDE
    kind = "decide"
    about = "manual"
    parameters = DecisionParameters

    def find(self, *, name: str) -> Found:
        return manual_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        row = ManualTask.objects.values("state", "outcome").get(pk=found.pk)
        return f"{row['state']} {row['outcome']}".strip()

    def is_offered(self, found: Found) -> bool:
        return ManualTask.objects.filter(pk=found.pk, state=ManualState.OPEN).exists()

    def carry_out(self, unit: Unit, found: Found, parameters: DecisionParameters, why: Why) -> Done:
        known = ManualTask.objects.get(pk=found.pk)
        outcome, values = parameters.outcome, parameters.values
        if outcome not in known.outcomes:
            raise OutcomeUnknown(
                f"{known.title} has no outcome {outcome!r}; it has: {', '.join(known.outcomes)}."
            )
        faults = list(_faults(known, values))
        if faults:
            raise DefinitionInvalid(faults)
        row = deciding.decide(
            unit,
            manual_id=found.pk,
            outcome=outcome,
            values=values,
            actor=why.actor.name,
            reason=why.reason,
        )
        if row not in unit.decided:
            raise DecisionMade(
                f"{row.title}: {row.decided_by or 'somebody else'} was quicker, with "
                f"{row.outcome or str(row.state).lower()}; nothing was changed."
            )
        return Done(
            told=f"{row.title}: {outcome}.",
            before={"state": ManualState.OPEN.value},
            after={"outcome": outcome, "values": dict(values)},
            customer_impact="The order goes on by what was decided.",
            result={"manual": row.pk, "outcome": outcome},
        )


def manual_found(*, name: str) -> Found:
    """A manual task by its number. Raises ManualTaskUnknown."""
    try:
        row = (
            ManualTask.objects.select_related("fulfillment", "task__plan")
            .filter(pk=number_of(name, about="manual task"))
            .first()
        )
    except SubjectUnknown:
        row = None
    if row is None:
        raise ManualTaskUnknown(
            f"There is no manual task {name[:100]}; `manage.py manual list` shows those open."
        )
    subject, plan = f"manual:{row.pk}", row.task.plan
    return Found(
        subject=subject,
        pk=row.pk,
        fulfillment_ids=(row.fulfillment_id,),
        context=context_of(
            subject=subject,
            order=row.fulfillment,
            plan=plan,
            positions=graphs.by_id(plan.graph_id).nodes[row.task.node].items,
        ),
    )


def decide(
    *,
    manual_id: int,
    outcome: str,
    actor: Actor,
    reason: str,
    values: Mapping[str, Any] | None = None,
) -> ManualTask:
    """Decide an open manual task, with the values that its form asks for.

    Of two people one decides, and the other is told what was decided. Raises as
    `catalog.perform` does, ManualTaskUnknown, OutcomeUnknown, DecisionMade, and DefinitionInvalid
    with every fault of the values.
    """
    perform(
        actor=actor,
        request=Request(
            action=Action.MANUAL_DECIDE,
            subject=f"manual:{manual_id}",
            reason=reason,
            parameters={"outcome": outcome, "values": dict(values or {})},
        ),
    )
    return ManualTask.objects.get(pk=manual_id)


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
