"""Twenty operators at the same orders at once: one winner each, and the others are told."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.audit.verifying import verify
from fulfillment.authority.actors import Actor
from fulfillment.errors import ApprovalNotOpen, NotPossible
from fulfillment.models import Approval, ApprovalState, Operation, Plan
from fulfillment.operations.repair import Request
from fulfillment.states import PLAN_TERMINAL
from oms.models import CancellationRequest, Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.together import together

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")

ORDERS = 6
OPERATORS = 20
EVIDENCE = "The carrier's screen, seen on the phone."


def failed_orders(systems: ScriptedSystems) -> list[Order]:
    """Each has one task that was refused, and one that stands behind it."""
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.rejected()] * ORDERS + [desk.succeeded()]
    made = [desk.order() for _ in range(ORDERS)]
    desk.finish()
    return made


def wanted(action: Action, order: Order, *, version: str = "") -> Request:
    subject = f"order:{order.reference}"
    if action is not Action.ORDER_CANCEL:
        subject = f"task:{desk.tasks_of(order)['one@1'].pk}"
    return Request(
        action=action,
        subject=subject,
        reason=f"{action} by one of many",
        evidence=EVIDENCE,
        expected_version=version,
    )


def seen(action: Action, order: Order, actor: Actor) -> str:
    """The version by which somebody decides; all look before anybody acts."""
    return operations.prepared(actor=actor, request=wanted(action, order)).preview().version


Said = tuple[str, str, str]
"""The order, what was tried, and nothing if it was done; else what its operator was told."""


def tried(order: Order, name: str, work: Callable[[], object]) -> Said:
    try:
        work()
    except (NotPossible, ApprovalNotOpen) as error:
        return order.reference, name, str(error)
    return order.reference, name, ""


def one_operator(
    number: int,
    orders: Sequence[Order],
    actors: Sequence[Actor],
    versions: dict[tuple[Action, str], str],
    approvals: dict[str, int],
) -> list[Said]:
    actor = actors[number]
    name = ("retry", "waive", "cancel", "approve")[number % 4]
    mine = list(orders)
    random.Random(number).shuffle(mine)
    said = []
    for order in mine:
        reference = order.reference
        match name:
            case "retry" | "cancel":
                action = Action.TASK_RETRY if name == "retry" else Action.ORDER_CANCEL
                request = wanted(action, order, version=versions[action, reference])
                work: Callable[[], object] = partial(
                    operations.perform, actor=actor, request=request
                )
            case "waive":
                request = wanted(
                    Action.TASK_WAIVE, order, version=versions[Action.TASK_WAIVE, reference]
                )
                work = partial(_ask, actor, request)
            case _:
                work = partial(
                    operations.approve,
                    approval_id=approvals[reference],
                    actor=actor,
                    reason="one of many",
                )
        said.append(tried(order, name, work))
    return said


def _ask(actor: Actor, request: Request) -> Approval:
    prepared = operations.prepared(actor=actor, request=request)
    return operations.ask_for_approval(prepared=prepared)


def test_twenty_operators_at_the_same_orders_and_one_wins_each(systems: ScriptedSystems) -> None:
    orders = failed_orders(systems)
    looking = people.almighty("vera")
    actors = [people.almighty(f"operator-{number}") for number in range(OPERATORS)]
    versions = {
        (action, order.reference): seen(action, order, looking)
        for order in orders
        for action in (Action.TASK_RETRY, Action.TASK_WAIVE, Action.ORDER_CANCEL)
    }
    approvals = {
        order.reference: _ask(looking, wanted(Action.TASK_WAIVE, order)).pk for order in orders
    }
    sent = systems.actions().count("one")

    said = together(
        *(
            partial(one_operator, number, orders, actors, versions, approvals)
            for number in range(OPERATORS)
        )
    )

    won: dict[str, Counter[str]] = defaultdict(Counter)
    told: dict[str, list[str]] = defaultdict(list)
    for reference, name, trouble in (one for each in said for one in each):
        if trouble:
            told[name].append(trouble)
        else:
            won[reference][name] += 1
    for order in orders:
        mine = won[order.reference]
        assert max(mine["retry"], mine["cancel"], mine["approve"]) <= 1, mine
        # Both are bound to the task as it was seen: one of them has changed it.
        assert mine["retry"] + mine["approve"] <= 1, mine
        assert mine["retry"] + mine["approve"] + mine["cancel"] >= 1, mine
    for name in ("retry", "approve", "cancel"):
        # What was approved is told as what it is: done by whoever has asked for it.
        unnamed = [one for one in told[name] if "operator-" not in one and "by vera" not in one]
        assert unnamed == []
    assert _counted("retry") == sum(mine["retry"] for mine in won.values())
    executed = Approval.objects.filter(state=ApprovalState.EXECUTED)
    assert executed.count() == sum(mine["approve"] for mine in won.values())
    assert CancellationRequest.objects.count() == sum(mine["cancel"] for mine in won.values())

    desk.finish()
    for order in orders:
        order.refresh_from_db()
        mine = won[order.reference]
        assert order.state == ("CANCELLED" if mine["cancel"] else "COMPLETED"), mine
        newest = Plan.objects.filter(fulfillment_id=order.fulfillment_id).latest("version")
        assert newest.state in PLAN_TERMINAL
    assert systems.actions().count("one") - sent <= sum(m["retry"] for m in won.values())
    assert [str(finding) for finding in verify()] == []


def _counted(kind: str) -> int:
    return Operation.objects.filter(kind=kind).count()
