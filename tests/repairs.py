"""What the tests of repairs share: who asks and approves, and what is looked at afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Max, Model

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.work import audit
from fulfillment.errors import Denied
from fulfillment.models import (
    Approval,
    Attempt,
    AuthorityDecision,
    Command,
    FalloutCase,
    FanOut,
    Fulfillment,
    ManualTask,
    Operation,
    OutboxEvent,
    Plan,
    Task,
    Transition,
)
from fulfillment.operations.preparing import Preview
from fulfillment.operations.repair import Done, Request
from fulfillment.states import TASK_MOVING, TASK_SUCCESSFUL, TASK_TERMINAL, PlanState
from oms.models import Order
from tests import people

_ROWS: tuple[type[Model], ...] = (
    Fulfillment,
    Plan,
    Task,
    Command,
    Attempt,
    Transition,
    FalloutCase,
    ManualTask,
    FanOut,
    OutboxEvent,
    Operation,
    Approval,
    Order,
)
REASON, EVIDENCE = "the customer has agreed", "ticket 4711"


def request(action: Action, task: Task, *, version: str = "", **parameters: Any) -> Request:
    return Request(
        action=action,
        subject=f"task:{task.pk}",
        reason=REASON,
        evidence=EVIDENCE,
        parameters=parameters,
        expected_version=version,
    )


def preview(action: Action, task: Task, **parameters: Any) -> Preview:
    """As somebody sees it who may ask for it."""
    wanted = request(action, task, **parameters)
    return operations.prepared(actor=people.anybody("rita", action), request=wanted).preview()


def ask(action: Action, task: Task, *, by: str = "rita", **parameters: Any) -> Approval:
    wanted = request(action, task, **parameters)
    prepared = operations.prepared(actor=people.anybody(by, action), request=wanted)
    return operations.ask_for_approval(prepared=prepared)


def approve(approval: Approval) -> Done:
    _, done = operations.approve(
        approval_id=approval.pk, actor=people.senior(), reason="I have looked at it as well."
    )
    return done


def repair(action: Action, task: Task, **parameters: Any) -> Done:
    """Asked for by one person, approved by another."""
    return approve(ask(action, task, **parameters))


def rows() -> dict[str, list[dict[str, Any]]]:
    """Everything that a repair could change, as it is."""
    return {model.__name__: list(model._default_manager.order_by("pk").values()) for model in _ROWS}


def refused_without_side_effect(action: Action, task: Task, actor: Actor, **values: Any) -> None:
    """Denied, written down as such, and nothing else is other than before."""
    before, decisions = rows(), AuthorityDecision.objects.filter(is_allowed=False).count()
    with pytest.raises(Denied):
        operations.prepared(actor=actor, request=request(action, task, **values))
    assert rows() == before
    assert AuthorityDecision.objects.filter(is_allowed=False).count() == decisions + 1


def refused(error: type[Exception], match: str, action: Action, task: Task, **values: Any) -> None:
    """Not possible as it stands: whoever asks is told, and nothing is other than before."""
    before = rows()
    with pytest.raises(error, match=match):
        preview(action, task, **values)
    with pytest.raises(error, match=match):
        ask(action, task, **values)
    assert rows() == before


def previewed_as_done(action: Action, task: Task, **values: Any) -> Preview:
    """The preview changes nothing, and what is then done is what it has shown."""
    before = rows()
    shown = preview(action, task, **values)
    assert rows() == before
    last = _last_row(task)
    commands = set(Command.objects.values_list("pk", flat=True))
    done = repair(action, task, **values)
    assert (done.told, done.before, done.after) == (
        shown.done.told,
        shown.done.before,
        shown.done.after,
    )
    happened = Transition.objects.filter(fulfillment_id=task.fulfillment_id, sequence__gt=last)
    assert [
        (one["entity"], one["transition"], one["from"], one["to"]) for one in shown.transitions
    ] == [
        (one.entity, one.name, one.from_state, one.to_state)
        for one in happened
        if one.entity != "approval" and one.from_state != one.to_state
    ]
    written = Command.objects.exclude(pk__in=commands).order_by("pk")
    assert [(one["target"], one["action"], one["payload"]) for one in shown.commands] == [
        (one.target_id, one.action, one.payload) for one in written
    ]
    return shown


def _last_row(task: Task) -> int:
    found = Transition.objects.filter(fulfillment_id=task.fulfillment_id).aggregate(
        last=Max("sequence")
    )
    return found["last"] or 0


def record_of(kind: str) -> Operation:
    """What the log of operations says of the only one of its kind."""
    return Operation.objects.get(kind=kind)


def sound(order: Order) -> None:
    """The chain holds, the states are those of the trail, and the plan's counts are right."""
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    plans = Plan.objects.filter(fulfillment_id=order.fulfillment_id)
    for plan in plans.exclude(state=PlanState.SUPERSEDED):  # What goes on has left that one.
        tasks = list(Task.objects.filter(plan=plan, round=0))
        assert plan.tasks_open == sum(task.state not in TASK_TERMINAL for task in tasks)
        assert plan.moving == sum(task.state in TASK_MOVING for task in tasks)
        assert plan.mandatory_open >= sum(
            task.required and task.state not in TASK_SUCCESSFUL for task in tasks
        )
    trail: dict[str, str] = {}
    for row in Transition.objects.filter(fulfillment_id=order.fulfillment_id, entity="task"):
        trail[row.entity_id] = row.to_state
    for task in Task.objects.filter(fulfillment_id=order.fulfillment_id):
        assert trail.get(str(task.pk), "PENDING") == task.state
    helped = FalloutCase.objects.filter(
        fulfillment_id=order.fulfillment_id, state="OPEN", task__state__in=TASK_SUCCESSFUL
    )
    assert all(case.subject.startswith("conflict:") for case in helped)
