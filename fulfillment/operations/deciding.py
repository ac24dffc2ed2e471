"""Deciding manual tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, JsonValue, StringConstraints

from fulfillment.actions import HIGH_RISK, Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.plans import deciding
from fulfillment.engine.plans.deciding import Choice
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import storable
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    DefinitionInvalid,
    EvidenceMissing,
    Fault,
    ManualTaskUnknown,
    OutcomeUnknown,
    SubjectUnknown,
)
from fulfillment.models import MANUAL_OPEN, ManualTask, Plan, Trouble
from fulfillment.operations.catalog import perform, repair_of
from fulfillment.operations.looking import found_once, one_look
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why
from fulfillment.operations.subjects import context_of, number_of, plans_found

_IMPLIED: Mapping[str, Action] = {
    "waive": Action.TASK_WAIVE,
    "requote": Action.HOLD_PLACE,
    "cancel": Action.ORDER_CANCEL,
}
"""What an effect comes down to, beside deciding."""
_REPAIRED: Mapping[str, Action] = {
    Trouble.UNKNOWN: Action.TASK_RECONCILE,
    Trouble.OUTPUTS: Action.TASK_REFERENCE,
    Trouble.REPORT: Action.SIGNAL_SEND,
}
"""What saying that it is repaired comes down to, by why it had stopped."""
_OF_THE_ORDER = frozenset({"requote", "cancel"})
"""What is done to all of the order, and not just to what was asked about."""
_IMPACTS: Mapping[str, str] = {
    "proceed": "The order goes on by what was decided.",
    "refuse": "What stands behind it is not done.",
    "undo": "The order is given up, and what was done of it is undone.",
    "repair": "The order goes on.",
    "waive": "The order goes on without it.",
    "ask_customer": "The customer is asked, and what they were promised moves on meanwhile.",
    "requote": "The order is held until there is a new quote.",
    "cancel": "The order is cancelled, if that is still possible.",
}


class DecisionParameters(Parameters):
    outcome: Annotated[str, StringConstraints(max_length=63)] = Field(
        description="One of the task's outcomes."
    )
    values: dict[str, JsonValue] = Field({}, description="What its form asks for, by their names.")
    question: Annotated[str, StringConstraints(max_length=1000, strip_whitespace=True)] = Field(
        "",
        description="Of an outcome that asks the customer: the question, word for word as they get "
        "it. Of one that needs a new quote: what has to be quoted.",
    )


class DecideManualTask(Repair):
    """Choose one of its outcomes, with the values that its form asks for, and do what that does in
    the same moment. Of two people one decides."""

    action = Action.MANUAL_DECIDE
    kind = "decide"
    about = "manual"
    parameters = DecisionParameters
    from_states = frozenset(map(str, MANUAL_OPEN))

    def find(self, *, name: str) -> Found:
        return manual_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return manual_version(found)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        return manuals_found(pks=pks)

    def aim(self, found: Found, parameters: DecisionParameters) -> Found:
        known = ManualTask.objects.only("outcomes", "trouble", "origin").get(pk=found.pk)
        effect = known.outcomes.get(parameters.outcome, "")
        implied = implied_by(manual=known, outcome=parameters.outcome)
        if implied is None:
            return found
        aimed = replace(found, implies=(*found.implies, implied))
        return _of_the_order(aimed, implied) if effect in _OF_THE_ORDER else aimed

    def carry_out(self, unit: Unit, found: Found, parameters: DecisionParameters, why: Why) -> Done:
        known = ManualTask.objects.get(pk=found.pk)
        outcome, values = parameters.outcome, parameters.values
        if outcome not in known.outcomes:
            raise OutcomeUnknown(
                f"{known.title} has no outcome {outcome!r}; it has: {', '.join(known.outcomes)}."
            )
        effect = known.outcomes[outcome]
        if not why.evidence and not HIGH_RISK.isdisjoint(found.implies):
            raise EvidenceMissing(
                "Say what you have found out and where it can be seen: a ticket, a screen of the "
                "target system, a name."
            )
        faults = [*_faults(known, values), *_unsaid(effect, parameters)]
        if faults:
            raise DefinitionInvalid(faults)
        decided = deciding.decide(
            unit,
            manual_id=found.pk,
            choice=Choice(
                outcome=outcome,
                values=values,
                question=parameters.question,
                actor=why.actor.name,
                reason=why.reason,
            ),
        )
        row = decided.manual
        after: dict[str, Any] = {"outcome": outcome, "values": dict(values)}
        if row.state in MANUAL_OPEN:
            after |= {"state": str(row.state), "question": parameters.question}
        return Done(
            told=decided.told,
            before={"state": str(known.state), "claimed_by": known.claimed_by},
            after=after,
            customer_impact=_IMPACTS[effect],
            result={"manual": row.pk, "outcome": outcome, "state": str(row.state)},
        )


def implied_by(*, manual: ManualTask, outcome: str) -> Action | None:
    """What choosing this outcome comes down to, beside deciding."""
    effect = manual.outcomes.get(outcome, "")
    if effect == "repair" or (effect == "refuse" and manual.trouble == Trouble.UNKNOWN):
        return _REPAIRED.get(manual.trouble)
    return _IMPLIED.get(effect)


def consequence(effect: str) -> str:
    """What the order does by an outcome with this effect, in one sentence."""
    return _IMPACTS[effect]


def manual_found(*, name: str) -> Found:
    """A manual task by its number. Raises ManualTaskUnknown."""
    number = 0
    with suppress(SubjectUnknown):
        number = number_of(name, about="manual task")
    found = manuals_found(pks=(number,)).get(number)
    if found is None:
        raise ManualTaskUnknown(
            f"There is no manual task {name[:100]}; `manage.py manual list` shows those open."
        )
    return found


@found_once
def manuals_found(*, pks: tuple[int, ...]) -> Mapping[int, Found]:
    """Manual tasks by their numbers; three queries."""
    chosen = ManualTask.objects.filter(pk__in=pks).select_related("fulfillment", "task")
    rows = list(chosen.defer("context", "instructions", "task__outputs"))
    plans = plans_found(pks=frozenset(row.task.plan_id for row in rows))
    with one_look():
        return {row.pk: _found(row, plans[row.task.plan_id]) for row in rows}


def _found(row: ManualTask, plan: Plan) -> Found:
    subject = f"manual:{row.pk}"
    node = graphs.routed(plan.graph_id, row.task.node, row.task.route)
    context = context_of(
        subject=subject,
        order=row.fulfillment,
        plan=plan,
        targets={row.task.target_id or node.target} - {""},
        positions=node.items,
    )
    return Found(
        subject=subject,
        pk=row.pk,
        fulfillment_ids=(row.fulfillment_id,),
        context=replace(context, role=row.role),
        state=row.state,
    )


def _of_the_order(found: Found, action: Action) -> Found:
    """Where that action is done to all of its order: with its items, and what is in use of it."""
    order = repair_of(action).found(subject=f"order:{found.context.order_reference}")
    context = replace(order.context, subject=found.subject, role=found.context.role)
    return replace(found, context=context)


def manual_version(found: Found) -> str:
    """Another text whenever its state, its queue, or who has it, is another."""
    row = ManualTask.objects.values("state", "queue", "claimed_by", "outcome", "escalations").get(
        pk=found.pk
    )
    return " ".join(str(value) for value in row.values() if value)


def decide(
    *,
    manual_id: int,
    outcome: str,
    actor: Actor,
    reason: str,
    values: Mapping[str, Any] | None = None,
    question: str = "",
    evidence: str = "",
) -> ManualTask:
    """Decide an open manual task, with the values that its form asks for.

    Of two people one decides, and the other is told what was decided. Raises as
    `catalog.perform` does, ManualTaskUnknown, OutcomeUnknown, DecisionMade, ManualTaskTaken, and
    DefinitionInvalid with every fault of the values.
    """
    parameters = {"outcome": outcome, "values": dict(values or {}), "question": question}
    perform(
        actor=actor,
        request=Request(
            action=Action.MANUAL_DECIDE,
            subject=f"manual:{manual_id}",
            reason=reason,
            evidence=evidence,
            parameters=parameters,
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


def _unsaid(effect: str, parameters: DecisionParameters) -> Iterator[Fault]:
    """The reason is for those who look into it later; customers are told the question alone."""
    if effect == "ask_customer" and not parameters.question:
        message = "Say what the customer is asked, word for word."
        yield Fault(code="manual.question_missing", path="question", message=message)
