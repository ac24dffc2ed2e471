"""Whatever people repair, in whatever order: nothing is lost, done twice, or stuck in silence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from adapters.contract import Command, Outcome, OutcomeKind
from fulfillment import operations, stuck
from fulfillment.actions import Action
from fulfillment.audit.verifying import verify
from fulfillment.authority.actors import Actor
from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.callbacks import Report
from fulfillment.engine.plans import rest, scanning
from fulfillment.errors import FulfillmentError
from fulfillment.models import (
    IS_UNRESOLVED,
    MANUAL_OPEN,
    CaseCategory,
    FalloutCase,
    Hold,
    HoldScope,
    ManualTask,
    Plan,
    Task,
)
from fulfillment.models import Command as CommandRow
from fulfillment.operations.releasing import release_hold
from fulfillment.operations.repair import Request
from fulfillment.states import (
    PLAN_SELECTABLE,
    TASK_SUCCESSFUL,
    TaskState,
)
from oms.changes import settling
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems
from tests.integration.test_sub_processes import account

pytestmark = pytest.mark.django_db

UNDO: dict[str, Any] = {"action": "undo", "input": {}}
LATE: dict[str, Any] = {"within": "PT5H", "otherwise": "escalate"}
QUESTION: dict[str, Any] = {
    "queue": "desk",
    "role": "clerk",
    "instructions": "Look.",
    "outcomes": {"yes": "proceed", "no": "refuse", "back": "undo", "wait": "ask_customer"},
    **LATE,
}
OUTPUTS: dict[str, dict[str, Any]] = {"one": {"name": "N"}, "create": {"id": "A"}}
TASK_ACTIONS = (
    Action.TASK_RETRY,
    Action.TASK_SKIP,
    Action.TASK_WAIVE,
    Action.TASK_CORRECT,
    Action.TASK_REFERENCE,
    Action.TASK_RECONCILE,
    Action.PLAN_COMPENSATE,
)
SENSIBLE: dict[str, tuple[Action, ...]] = {
    "SUCCEEDED": (Action.PLAN_COMPENSATE, Action.PLAN_COMPENSATE, Action.TASK_REFERENCE),
    "FAILED_FINAL": (
        Action.TASK_RETRY,
        Action.TASK_SKIP,
        Action.TASK_WAIVE,
        Action.TASK_CORRECT,
        Action.TASK_RECONCILE,
    ),
    "AWAITING_MANUAL": (Action.TASK_CORRECT, Action.TASK_WAIVE, Action.TASK_RECONCILE),
    "ACCEPTED": (Action.TASK_RECONCILE, Action.TASK_WAIVE),
    "OUTCOME_UNKNOWN": (Action.TASK_RECONCILE, Action.TASK_WAIVE),
}
ORDER_ACTIONS = (
    Action.PLAN_REGENERATE,
    Action.PLAN_REGENERATE,
    Action.PLAN_REGENERATE,
    Action.PLAN_TERMINATE,
    Action.ORDER_FORCE_COMPLETE,
    Action.ORDER_CANCEL,
)


class Ledger:
    """What target systems did, by key, and what they were sent although it might have happened."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.is_well = False
        self.done: set[str] = set()
        self.in_doubt: set[str] = set()
        self.twice: list[str] = []

    def send(self, command: Command) -> Outcome:
        key = command.idempotency_key
        if command.target == "gamma" and key in self.in_doubt | self.done:
            self.twice.append(f"{command.action} {key}")
        what = "good" if self.is_well else self.dice.choice(["good"] * 6 + BAD)
        match what:
            case "rejected":
                return desk.rejected()
            case "failed":
                return desk.failed(retryable=False)
            case "busy":
                return desk.failed(retry_after=timedelta(seconds=30))
            case "accepted":
                self.in_doubt.add(key)
                return desk.accepted()
            case "unknown":
                self.in_doubt.add(key)
                if self.dice.random() < 0.5:
                    self.done.add(key)
                return desk.unknown()
        self.done.add(key)
        return self._succeeded(command)

    def query(self, command: Command) -> Outcome:
        key = command.idempotency_key
        if key in self.done:
            return self._succeeded(command)
        if key in self.in_doubt and not self.is_well and self.dice.random() < 0.3:
            return desk.unknown()
        return desk.not_found()

    def _succeeded(self, command: Command) -> Outcome:
        return Outcome(kind=OutcomeKind.SUCCEEDED, outputs=OUTPUTS.get(command.action, {}))


BAD = ["rejected", "failed", "busy", "accepted", "unknown"]


class _Always(list[Any]):
    """A script that does not end."""

    def __init__(self, answer: Any) -> None:
        super().__init__([answer])

    def pop(self, index: Any = -1) -> Any:
        return self[0]


def scripted(systems: ScriptedSystems, ledger: Ledger) -> None:
    class Scripts(dict[str, list[Any]]):
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def __missing__(self, key: str) -> list[Any]:
            return _Always(self.answer)

    systems.sends = Scripts(ledger.send)
    systems.queries = Scripts(ledger.query)


def a_crooked_workflow() -> None:
    desk.target("alpha", maximum_queries=2)
    desk.target("beta", status_query=False)
    desk.target("gamma", idempotent=False, status_query=False)
    desk.target("delta", domain="billing")
    account()
    decide: list[dict[str, Any]] = [
        {"when": "item.characteristics.big == true", "create": ["more"]},
        {"otherwise": ["less"]},
    ]
    desk.workflow(
        {
            "one": desk.task(outputs={"name": "string"}, compensation=UNDO),
            "two": desk.task(
                "gamma",
                after=["one"],
                compensation={**UNDO, "target": "alpha"},
                fallback=[{"target": "beta", "action": "two_else"}],
            ),
            "account": desk.step(
                use="account",
                depends_on=[{"output": "one.name"}],
                input={"name": "${tasks.one.name}"},
                outputs={"id": "string"},
            ),
            "port": desk.task(
                after=["one"],
                for_each={"over": "${item.characteristics.ports}", "at_once": 2},
                compensation=UNDO,
            ),
            "choose": desk.step(after=["two"], decide=decide),
            "more": desk.task("beta", compensation=UNDO),
            "less": desk.task("gamma"),
            "ask": desk.step(after=["one"], manual=QUESTION),
            "paid": desk.step(after=["one"], wait={"milestone": "paid", **LATE}),
            "extra": desk.task("beta", after=["two"], required=False),
            "after_extra": desk.task(after=["extra"], required=False),
            "close": desk.task(
                after=["more", "less", "port", "ask", "paid"], join="deferred", compensation=UNDO
            ),
            "bill": desk.task("delta", after=["close"], depends_on=[{"output": "account.id"}]),
        },
        activation="close",
        deadline={"within": "P30D"},
    )


def some_time(seconds: float = 300) -> None:
    desk.drain()
    desk.advance(seconds)
    sweeping.sweep()
    rest.look()
    scanning.scan()
    settling.settle_due()
    stuck.detect_stuck()
    operations.escalate_due()


def told_later(ledger: Ledger, order: Order) -> None:
    """What was accepted, or lost, is reported after all; whatever has become of it meanwhile."""
    keys = ledger.in_doubt | ledger.done
    found = CommandRow.objects.filter(fulfillment=order.fulfillment_id, idempotency_key__in=keys)
    for command in found.order_by("pk"):
        if ledger.dice.random() < 0.15:
            ledger.done.add(command.idempotency_key)
            callbacks.receive(
                report=Report(
                    source=command.target_id,
                    event_id=f"e-{ledger.dice.random()}",
                    idempotency_key=command.idempotency_key,
                    body={},
                    outcome=Outcome(
                        kind=OutcomeKind.SUCCEEDED, outputs=OUTPUTS.get(command.action, {})
                    ),
                )
            )


def attempt(actor: Actor, wanted: Request) -> bool:
    """Whether it was done, by two where it takes two; whoever asked is told why it was not."""
    user = User.objects.get(username=actor.name)
    for role in set(ManualTask.objects.values_list("role", flat=True)):
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    try:
        prepared = operations.prepared(actor=actor, request=wanted)
        if prepared.needs is None:
            prepared.perform()
        else:
            approval = operations.ask_for_approval(prepared=prepared)
            operations.approve(approval_id=approval.pk, actor=people.senior(), reason="Agreed.")
    except FulfillmentError:
        return False
    return True


def wanted(dice: random.Random, order: Order) -> Request | None:
    """Something that somebody might want to do to this order, sensible or not."""
    tasks = list(
        Task.objects.filter(fulfillment_id=order.fulfillment_id)
        .order_by("pk")
        .select_related("plan")
    )
    manual = list(
        ManualTask.objects.filter(
            fulfillment_id=order.fulfillment_id, state__in=sorted(MANUAL_OPEN)
        ).order_by("pk")
    )
    cases = list(
        FalloutCase.objects.filter(IS_UNRESOLVED, fulfillment_id=order.fulfillment_id).order_by(
            "pk"
        )
    )
    kind = dice.choice(["task"] * 8 + ["manual"] * 4 + ["case"] * 2 + ["order"] * 2 + ["hold"])
    if kind == "hold" and dice.random() < 0.6:
        return None
    parameters: dict[str, Any] = {}
    subject, action = "", Action.TASK_RETRY
    if kind == "task" and tasks:
        trouble = [one for one in tasks if one.state in ("FAILED_FINAL", "AWAITING_MANUAL")]
        task = dice.choice(trouble if trouble and dice.random() < 0.6 else tasks)
        subject, action = f"task:{task.pk}", dice.choice(SENSIBLE.get(task.state, TASK_ACTIONS))
        outputs = next(
            (dict(given) for name, given in OUTPUTS.items() if name in task.key.split("@")[0]), {}
        )
        if action is Action.TASK_WAIVE:
            parameters = {"outputs": outputs} if dice.random() < 0.7 else {}
        elif action is Action.TASK_CORRECT:
            parameters = {"patch": {"by_hand": dice.randint(1, 9)}}
        elif action is Action.TASK_REFERENCE:
            parameters = {"reference": "R-1"}
        elif action is Action.TASK_RECONCILE:
            happened = dice.random() < 0.5
            parameters = {
                "happened": happened,
                "outputs": outputs if happened else {},
                "then": dice.choice(["retry", "fail"]),
            }
        elif action is Action.PLAN_COMPENSATE:
            parameters = {"and_then": dice.choice(["redo", "leave"]), "outputs": {}}
    elif kind == "manual" and manual:
        one = dice.choice(manual)
        subject = f"manual:{one.pk}"
        action = dice.choice([Action.MANUAL_DECIDE] * 4 + [Action.MANUAL_RESUME])
        if action is Action.MANUAL_DECIDE:
            outcome = dice.choice(sorted(one.outcomes))
            values: dict[str, Any] = {"happened": dice.random() < 0.5, **_all_outputs(one)}
            parameters = {
                "outcome": outcome,
                "values": {name: value for name, value in values.items() if name in one.fields},
            }
    elif kind == "case" and cases:
        subject = f"case:{dice.choice(cases).pk}"
        action = dice.choice([Action.CASE_ASSIGN, Action.CASE_AWAIT_CUSTOMER, Action.CASE_ESCALATE])
    elif kind == "hold":
        subject, action = f"order:{order.reference}", Action.HOLD_PLACE
        parameters = {"clock_policy": dice.choice(["STOP", "RUN"])}
    elif kind == "order":
        subject, action = f"order:{order.reference}", dice.choice(ORDER_ACTIONS)
    if not subject:
        return None
    return Request(
        action=action, subject=subject, reason="So be it.", evidence="seen", parameters=parameters
    )


def _all_outputs(manual: ManualTask) -> dict[str, Any]:
    known = {name: value for given in OUTPUTS.values() for name, value in given.items()}
    return {name: known.get(name, "x") for name in manual.fields if name != "happened"}


def silent(order: Order) -> list[str]:
    """Why nobody would ever learn that it does not go on."""
    order.refresh_from_db()
    if order.is_final:
        return []
    plan = Plan.objects.filter(fulfillment_id=order.fulfillment_id).latest("version")
    if plan.state not in PLAN_SELECTABLE:
        return [f"the order is {order.state} with a plan that is {plan.state}"]
    tasks = list(Task.objects.filter(plan=plan, round=0))
    mine = FalloutCase.objects.filter(IS_UNRESOLVED, fulfillment_id=order.fulfillment_id)
    asked = ManualTask.objects.filter(
        fulfillment_id=order.fulfillment_id, state__in=sorted(MANUAL_OPEN)
    )
    stopped = [one for one in tasks if one.state == TaskState.AWAITING_MANUAL]
    found = [
        f"{one.key} waits for a person whom nobody has asked"
        for one in stopped
        if not asked.filter(task=one).exists()
    ]
    waits = any(one.state in ("ACCEPTED", "OUTCOME_UNKNOWN") for one in tasks)
    if not mine.exists() and not asked.exists() and not waits:
        told = {one.key: str(one.state) for one in tasks if one.state not in TASK_SUCCESSFUL}
        found.append(f"nobody knows that {order.reference} is {plan.state}: {told}")
    return found


def groundless(order: Order) -> Iterator[str]:
    """Cases and questions of what needs nobody any more."""
    for one in ManualTask.objects.filter(
        fulfillment_id=order.fulfillment_id, state__in=sorted(MANUAL_OPEN)
    ).select_related("task__plan"):
        if (
            one.task.state != TaskState.AWAITING_MANUAL
            or one.task.plan.state not in PLAN_SELECTABLE
        ):
            yield f"manual {one.pk} of {one.task.key}, {one.task.state} in {one.task.plan.state}"
    for case in FalloutCase.objects.filter(
        IS_UNRESOLVED, fulfillment_id=order.fulfillment_id
    ).select_related("task__plan"):
        if case.category == CaseCategory.CONFLICT or case.task is None:
            continue
        if case.task.state in TASK_SUCCESSFUL or case.task.plan.state not in PLAN_SELECTABLE:
            yield (
                f"case {case.pk} {case.category} {case.reason_code} of {case.task.key}, "
                f"{case.task.state} in {case.task.plan.state}"
            )


@pytest.mark.parametrize("seed", [3, 5, 105, 111, 116])
def test_whatever_is_repaired_nothing_is_lost_doubled_or_silent(
    systems: ScriptedSystems, seed: int
) -> None:
    dice = random.Random(seed)
    ledger = Ledger(dice)
    scripted(systems, ledger)
    a_crooked_workflow()
    olga = people.almighty()
    orders = [
        desk.order(
            desk.item(characteristics={"big": number % 2 == 0, "ports": ["1", "2", "3"]}),
            customer_email="ann@example.com",
        )
        for number in range(3)
    ]
    done: Counter[bool] = Counter()
    for _ in range(12):
        some_time()
        for order in orders:
            if not dice.randint(0, 3):
                told_later(ledger, order)
            for _ in range(2):
                asked = wanted(dice, order)
                if asked is not None:
                    done[attempt(olga, asked)] += 1
        for order in orders:
            repairs.sound(order)
    ledger.is_well = True
    for hold in Hold.objects.filter(released_at=None).exclude(scope=HoldScope.CHANGE):
        release_hold(hold_id=hold.pk, reason="It is over.", actor=olga)
    for _ in range(12):
        some_time(3600)
    desk.finish()
    found = [f"{o.reference}: {w}" for o in orders for w in [*silent(o), *groundless(o)]]
    assert found == []
    assert done[True] > 5
    assert ledger.twice == []
    for order in orders:
        repairs.sound(order)
    assert list(verify()) == []
