"""What tests of manual work share: orders that wait for a person, for every reason there is."""

from __future__ import annotations

from typing import Any

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.models import ManualTask, Transition
from oms.models import Order
from tests import by_hand, desk
from tests.desk import ScriptedSystems

EFFECTS = {
    "approved": "proceed",
    "rejected": "refuse",
    "waived": "waive",
    "asked": "ask_customer",
    "requote": "requote",
    "cancelled": "cancel",
}


def an_approval(*, within: str) -> dict[str, Any]:
    """Yes or no, by a manager."""
    return {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look at the amount.",
        "outcomes": {"approved": "proceed", "rejected": "refuse"},
        "within": within,
        "otherwise": "escalate",
    }


def a_question(**more: Any) -> dict[str, Any]:
    return {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Is it worth it?",
        "within": "PT4H",
        "otherwise": "escalate",
        "outcomes": EFFECTS,
        **more,
    }


def asked(*, deadline: str = "P10D", **more: Any) -> Order:
    """review is to be decided; two stands behind it."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(),
            "review": desk.step(after=["one"], title="Review it", manual=a_question(**more)),
            "two": desk.task(after=["review"]),
        },
        deadline={"within": deadline},
    )
    order = desk.order(customer_email="ann@example.com")
    desk.finish()
    return order


def without_its_input(systems: ScriptedSystems) -> Order:
    """two must not begin with the number that one has returned; nothing of two was sent."""
    desk.target("alpha")
    check = {"check": "tasks.one.number != ''", "message": "The number of one is missing."}
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task(depends_on=[{"output": "one.number"}], preconditions=[check]),
            "three": desk.task(after=["two"]),
        }
    )
    systems.sends["one"] = [desk.succeeded(number="")]
    order = desk.order(customer_email="ann@example.com")
    desk.finish()
    return order


def with_unusable_outputs(systems: ScriptedSystems) -> Order:
    """one was done, and has returned no number, which two needs."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task(
                depends_on=[{"output": "one.number"}], input={"number": "${tasks.one.number}"}
            ),
        }
    )
    systems.sends["one"] = [desk.succeeded()]
    order = desk.order()
    desk.finish()
    return order


def in_doubt(systems: ScriptedSystems) -> Order:
    """Nobody knows whether one was done."""
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task(
                depends_on=[{"output": "one.number"}], input={"number": "${tasks.one.number}"}
            ),
        }
    )
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.finish()
    return order


def the_one(order: Order) -> ManualTask:
    """What was asked last about it."""
    return ManualTask.objects.filter(fulfillment=order.fulfillment_id).latest("pk")


def decide(
    order: Order,
    outcome: str,
    *,
    actor: Actor | None = None,
    reason: str = "So it is.",
    **more: Any,
) -> ManualTask:
    return operations.decide(
        manual_id=the_one(order).pk,
        outcome=outcome,
        actor=actor or desk.by("ann"),
        reason=reason,
        **more,
    )


def decide_by_two(order: Order, outcome: str, *, actor: Actor, **parameters: Any) -> Any:
    asked_for = by_hand.request(
        Action.MANUAL_DECIDE, f"manual:{the_one(order).pk}", outcome=outcome, **parameters
    )
    return by_hand.done_by_two(asked_for, actor=actor)


def steps_of(manual: ManualTask) -> list[tuple[str, str, str]]:
    """What its order's audit trail says about it: transition, state after, by whom."""
    rows = Transition.objects.filter(entity="manual", entity_id=str(manual.pk))
    return [(row.name, row.to_state, row.actor) for row in rows.order_by("sequence")]
