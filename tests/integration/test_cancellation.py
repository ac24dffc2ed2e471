"""Cancelling an order in every state that it can be in (reference §19, §32.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from django.db import OperationalError

from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest
from fulfillment.engine.store import graphs
from fulfillment.engine.work import audit
from fulfillment.models import FalloutCase, Hold, OutboxEvent, Plan
from fulfillment.states import PlanState
from oms.changes import cancelling, settling
from oms.changes.cancelling import Cancellation, NotCancellable, OrderIsComplete
from oms.intake import feasibility
from oms.models import (
    AmendmentState,
    Asset,
    CancellationRequest,
    Notification,
    Order,
    PendingAsset,
)
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_amendment import amend, wish

pytestmark = pytest.mark.django_db


def undone_by(action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "input": {}, **more}


def a_shop(**more: Any) -> None:
    """reserve → ship → activate → last: one undo each, a point of no return at the shipment."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation=undone_by("release", refund="49.50")),
            "ship": desk.task(
                after=["reserve"], point_of_no_return={"kind": "hard", "reason": "It has left."}
            ),
            "last": desk.task(after=["ship"]),
        },
        **more,
    )


def a_service(*, asks: Mapping[str, str] | None = None, **more: Any) -> None:
    """reserve → activate → last, with an undo for the first two; `asks` is what reserve does."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(input=asks or {}, compensation=undone_by("release")),
            "activate": desk.task(
                after=["reserve"],
                compensation=undone_by("deactivate", impact={"customer": "It is switched off."}),
                point_of_no_return={"kind": "soft", "reason": "It runs.", "cost": "10"},
            ),
            "last": desk.task(after=["activate"]),
        },
        **{"activation": "activate", **more},
    )


def cancel(order: Order, *, reason: str = "No longer needed.") -> Cancellation:
    done = cancelling.cancel(order=order, requested_by="client a-client", reason=reason)
    order.refresh_from_db()
    return done


def events(order: Order) -> list[str]:
    rows = OutboxEvent.objects.filter(fulfillment_id=order.fulfillment_id).order_by("pk")
    return [row.event_type for row in rows if row.event_type != "CustomerNotified"]


def told(order: Order) -> list[str]:
    return [one.occasion for one in Notification.objects.filter(order=order).order_by("pk")]


def request_of(order: Order) -> CancellationRequest:
    return CancellationRequest.objects.get(order=order)


def settled_by_asking(systems: ScriptedSystems, action: str, *, times: int = 1) -> None:
    """What was accepted is asked for when its report does not come, and is done."""
    systems.queries[action] = [desk.succeeded()] * times
    desk.advance(3600)
    sweeping.sweep()
    desk.finish()


def test_before_anything_was_sent_it_is_cancelled_at_once(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order(customer_email="c@x.example")
    done = cancel(order)
    assert (done.is_new, str(done.request.state), str(order.state)) == (True, "DONE", "CANCELLED")
    assert order.finished_at == done.request.finished_at == done.request.decided_at
    desk.finish()
    assert systems.actions() == []
    assert events(order) == ["OrderStarted", "OrderCancelled"]
    assert told(order).count("cancelled") == 2
    assert not PendingAsset.objects.exists()
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_after_a_reservation_it_is_released(systems: ScriptedSystems) -> None:
    """no-orphans: nothing that was reserved is left."""
    a_service()
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.finish()
    done = cancel(order)
    assert (str(done.request.state), str(order.state)) == ("UNDOING", "CANCELLING")
    assert (done.standing.total, done.standing.done) == (1, 0)
    systems.sent.clear()
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["release"]
    assert (str(order.state), str(request_of(order).state)) == ("CANCELLED", "DONE")
    assert request_of(order).plan_id == desk.newest_plan_of(order).pk
    assert told(order)[-1] == "cancelled"
    assert events(order)[-1] == "OrderCancelled"


def test_after_a_shipment_it_is_denied_and_the_order_goes_on(systems: ScriptedSystems) -> None:
    a_shop()
    systems.sends["last"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    before = desk.states_of(order)
    done = cancel(order)
    assert (str(done.request.state), str(order.state)) == ("DENIED", "IN_PROGRESS")
    (refusal,) = done.request.refusals
    assert (refusal["code"], refusal["task"]) == ("point_of_no_return", "ship@1")
    assert "It has left." in refusal["message"]
    assert refusal["items"] == ["1"]
    assert desk.states_of(order) == before
    assert events(order)[-1] == "CancellationDenied"
    assert "cancelled" not in told(order)
    assert Hold.objects.filter(released_at=None).count() == 0
    again = cancel(order)
    assert (again.request.number, str(again.request.state)) == (2, "DENIED")
    assert desk.plan_of(order).version == 1


def test_after_an_activation_it_costs_and_the_service_is_switched_off(
    systems: ScriptedSystems,
) -> None:
    a_service()
    systems.sends["last"] = [desk.failed(retryable=False)]
    order = desk.order(desk.item(one_off_price=20, currency="EUR"), billing_account="BA-1")
    desk.finish()
    assert Asset.objects.get().state == "ACTIVE"
    quote = cancel(order).request.quote
    assert quote["verdict"] == "cost"
    assert quote["sums"] == [{"direction": "cost", "currency": "EUR", "amount": "10.0000"}]
    assert quote["impacts"] == [
        {"task": "activate@1", "kind": "customer", "text": "It is switched off."}
    ]
    assert Asset.objects.get().state == "ACTIVE"
    systems.sent.clear()
    desk.finish()
    assert systems.actions() == ["deactivate", "release"]
    assert Asset.objects.get().state == "INACTIVE"


def test_a_decision_that_could_not_be_made_is_made_soon(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still under way is looked at after a minute again; whatever ends, at once."""
    a_service()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    cancel(order)
    assert rest.look() == 1
    desk.advance(15)
    assert rest.look() == 0
    settled_by_asking(systems, "reserve")
    with monkeypatch.context() as trouble:
        trouble.setattr(rest, "registered", unreachable)
        with pytest.raises(OperationalError):
            rest.look()
    assert rest.look() == 0
    desk.advance(11)
    assert rest.look() == 1
    order.refresh_from_db()
    assert str(order.state) == "CANCELLING"


def unreachable() -> None:
    raise OperationalError("the database is away")


def test_what_is_under_way_is_settled_before_it_is_decided(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    done = cancel(order)
    assert (str(done.request.state), str(order.state)) == ("ASSESSING", "ASSESSING_CANCELLATION")
    assert done.standing.waits_for == ("reserve@1",)
    rest.look()
    order.refresh_from_db()
    assert str(order.state) == "ASSESSING_CANCELLATION"
    settled_by_asking(systems, "reserve")
    assert systems.actions() == ["reserve"]
    assert rest.look() == 1
    order.refresh_from_db()
    assert str(order.state) == "CANCELLING"
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["reserve", "release"]
    assert (str(order.state), str(request_of(order).state)) == ("CANCELLED", "DONE")


def test_past_a_point_of_no_return_by_what_was_under_way_it_goes_on(
    systems: ScriptedSystems,
) -> None:
    a_shop()
    systems.sends["ship"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    assert str(cancel(order).request.state) == "ASSESSING"
    settled_by_asking(systems, "ship")
    assert systems.actions() == ["reserve", "ship"]
    rest.look()
    order.refresh_from_db()
    request = request_of(order)
    assert (str(order.state), str(request.state)) == ("IN_PROGRESS", "DENIED")
    assert [refusal["task"] for refusal in request.refusals] == ["ship@1"]
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert Hold.objects.filter(released_at=None).count() == 0


def test_what_was_under_way_and_had_no_effect_leaves_only_the_rest_to_undo(
    systems: ScriptedSystems,
) -> None:
    a_shop()
    systems.queries["ship"] = [desk.not_found()]
    order = desk.order()
    for outcome in (desk.succeeded(), desk.unknown()):
        desk.settle(desk.result(desk.claim()[0], outcome))
    assert desk.states_of(order)["ship@1"] == "OUTCOME_UNKNOWN"
    assert str(cancel(order).request.state) == "ASSESSING"
    desk.finish()
    rest.look()
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["release"]
    assert str(order.state) == "CANCELLED"


def test_who_asks_in_time_is_not_told_that_it_is_complete(systems: ScriptedSystems) -> None:
    """What was under way was the last of it: it is done, and undone."""
    desk.target("alpha")
    desk.workflow({"only": desk.task(compensation=undone_by("undo"))})
    systems.sends["only"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    assert str(cancel(order).request.state) == "ASSESSING"
    settled_by_asking(systems, "only")
    order.refresh_from_db()
    assert (str(order.state), desk.plan_of(order).state) == (
        "ASSESSING_CANCELLATION",
        PlanState.RUNNING,
    )
    rest.look()
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["only", "undo"]
    assert (str(order.state), str(request_of(order).state)) == ("CANCELLED", "DONE")


def test_what_is_complete_but_for_a_denied_cancellation_completes(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"only": desk.task(irreversible=True)})
    systems.sends["only"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    cancel(order)
    settled_by_asking(systems, "only")
    rest.look()
    order.refresh_from_db()
    assert (str(order.state), str(request_of(order).state)) == ("IN_PROGRESS", "DENIED")
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert events(order)[-2:] == ["CancellationDenied", "OrderCompleted"]


def test_a_cancellation_that_can_not_be_decided_has_a_case_and_keeps_no_other(
    systems: ScriptedSystems,
) -> None:
    a_shop()
    systems.sends["reserve"] = [desk.accepted(), desk.accepted()]
    bad, good = desk.order(), desk.order()
    desk.drain()
    for order in (bad, good):
        assert str(cancel(order).request.state) == "ASSESSING"
    plan = Plan.objects.filter(fulfillment_id=bad.fulfillment_id)
    kept = plan.get().context
    plan.update(context={})
    settled_by_asking(systems, "reserve", times=2)
    rest.look()
    desk.finish()
    assert str(Order.objects.get(pk=good.pk).state) == "CANCELLED"
    assert str(Order.objects.get(pk=bad.pk).state) == "ASSESSING_CANCELLATION"
    case = FalloutCase.objects.get(subject=f"cancellation:{request_of(bad).pk}")
    assert (case.category, case.state) == ("POISON", "OPEN")

    plan.update(context=kept)
    graphs.forget()
    desk.advance(61)
    rest.look()
    desk.finish()
    assert str(Order.objects.get(pk=bad.pk).state) == "CANCELLED"
    case.refresh_from_db()
    assert case.state == "RESOLVED"


# --- in every state -------------------------------------------------------------------------------


def asked_whether_it_can_be_done(**order: Any) -> Order:
    """VALIDATING: its target system has not answered yet."""
    desk.target("alpha")
    desk.workflow(
        {"only": desk.task()},
        feasibility=[{"target": "alpha", "action": "check", "input": {}}],
    )
    return desk.order(**order)


def test_an_order_without_a_plan_is_cancelled_at_once(systems: ScriptedSystems) -> None:
    order = asked_whether_it_can_be_done()
    assert str(order.state) == "VALIDATING"
    done = cancel(order)
    assert (str(done.request.state), str(order.state)) == ("DONE", "CANCELLED")
    assert str(done.request.order_state_before) == "VALIDATING"
    assert (order.feasibility_due_at, order.waiting_reason) == (None, "")
    assert feasibility.assess() == 0
    assert systems.actions() == []
    assert not Plan.objects.exists()
    assert events(order) == ["OrderCancelled"]


def test_the_case_of_an_order_that_nobody_answered_is_closed(systems: ScriptedSystems) -> None:
    order = asked_whether_it_can_be_done()
    systems.sends["check"] = [desk.failed()] * 9
    for _ in range(6):
        desk.advance(600)
        feasibility.assess()
    assert FalloutCase.objects.filter(state="OPEN").count() == 1
    cancel(order)
    assert FalloutCase.objects.filter(state="OPEN").count() == 0


def test_a_complete_order_offers_a_change_order(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order()
    desk.finish()
    with pytest.raises(OrderIsComplete) as refused:
        cancel(order)
    assert refused.value.assets == [f"{order.reference}-1"]
    with pytest.raises(OrderIsComplete):
        cancelling.preview(order=order)
    assert not CancellationRequest.objects.exists()


def test_a_rejected_order_has_nothing_to_cancel(systems: ScriptedSystems) -> None:
    a_service()
    order = desk.order(desk.item("nobody-knows-it"))
    assert str(order.state) == "REJECTED"
    with pytest.raises(NotCancellable) as refused:
        cancel(order)
    assert refused.value.code == "cancellation.order_is_over"


def test_a_failed_order_has_nothing_to_cancel(systems: ScriptedSystems) -> None:
    a_service(on_failure="compensate")
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.finish()
    rest.look()
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["reserve", "activate", "release"]
    assert (str(order.state), desk.newest_plan_of(order).state) == ("FAILED", PlanState.FAILED)
    assert events(order)[-1] == "OrderFailed"
    assert "cancelled" not in told(order)
    with pytest.raises(NotCancellable):
        cancel(order)


def test_what_the_engine_undoes_already_ends_as_cancelled(systems: ScriptedSystems) -> None:
    a_service(on_failure="compensate")
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.finish()
    rest.look()
    plan = desk.newest_plan_of(order)
    assert plan.state == PlanState.COMPENSATING
    done = cancel(order)
    assert (str(done.request.state), str(order.state)) == ("UNDOING", "CANCELLING")
    assert desk.newest_plan_of(order).pk == plan.pk == done.request.plan_id
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["reserve", "activate", "release"]
    assert (str(order.state), str(request_of(order).state)) == ("CANCELLED", "DONE")
    assert told(order)[-1] == "cancelled"


def test_what_the_engine_is_about_to_give_up_is_cancelled_as_its_client_wants(
    systems: ScriptedSystems,
) -> None:
    a_service(on_failure="compensate")
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.finish()
    assert str(cancel(order).request.state) == "UNDOING"
    rest.look()
    desk.finish()
    order.refresh_from_db()
    assert systems.actions() == ["reserve", "activate", "release"]
    assert str(order.state) == "CANCELLED"


@pytest.mark.parametrize("how_far", ["assessing", "undoing", "done"])
def test_who_asks_again_has_the_same_request(systems: ScriptedSystems, how_far: str) -> None:
    a_service()
    systems.sends["activate"] = [
        desk.accepted() if how_far == "assessing" else desk.failed(retryable=False)
    ]
    order = desk.order()
    desk.drain()
    first = cancel(order)
    if how_far == "done":
        desk.finish()
        order.refresh_from_db()
    rows = Plan.objects.count()
    second = cancel(order, reason="I said so before.")
    assert not second.is_new
    assert second.request.pk == first.request.pk
    assert second.request.reason == "No longer needed."
    assert Plan.objects.count() == rows


# --- what was told before -------------------------------------------------------------------------


def nested() -> Order:
    """A bundle: the outer line is shipped past its point of no return, the inner is not begun."""
    a_shop(offering="thing")
    desk.workflow(
        {"inner": desk.task(compensation=undone_by("undo_inner")), "later": desk.task()},
        offering="part",
    )
    return desk.order(
        desk.item(item_id="bundle"),
        desk.item("part", item_id="part", parent_id="bundle"),
        desk.item("part", item_id="alone"),
    )


def test_a_bundle_is_past_the_point_of_no_return_of_any_of_its_lines(
    systems: ScriptedSystems,
) -> None:
    systems.sends["last"] = [desk.accepted()]
    order = nested()
    desk.drain()
    quote = cancelling.preview(order=order)
    assert {item["item_id"]: item["verdict"] for item in quote["items"]} == {
        "bundle": "past_point_of_no_return",
        "part": "past_point_of_no_return",
        "alone": "free",
    }
    assert (quote["possible"], quote["verdict"]) == (False, "past_point_of_no_return")
    assert not CancellationRequest.objects.exists()


@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_is_carried_out_is_what_was_previewed(systems: ScriptedSystems, done: int) -> None:
    """After each task: the same tasks, charges and texts; the undo tasks are those named."""
    a_service(milestones={"kept": {"title": "It is kept for you", "reached_by": "reserve"}})
    systems.sends[["reserve", "activate", "last"][done]] = [desk.failed(retryable=False)]
    order = desk.order(desk.item(one_off_price=20, currency="EUR"), billing_account="BA-1")
    desk.finish()
    quote = cancelling.preview(order=order)
    assert str(Order.objects.get(pk=order.pk).state) == "IN_PROGRESS"
    assert cancel(order).request.quote == quote
    assert request_of(order).quote == quote
    undone = {task["task"] for task in quote["tasks"] if task["becomes"] == "undone"}
    assert undone == set(["reserve@1", "activate@1"][:done])
    assert {key for key in desk.tasks_of(order) if key.startswith("undo.v2/")} == {
        f"undo.v2/{key}" for key in undone
    }
    assert [one["name"] for one in quote["milestones"]] == ["kept"][:done]
    assert cancelling.preview(order=order) == quote


def test_the_refund_and_the_text_are_quoted(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "pay": desk.task(compensation=undone_by("repay", refund="${item.price.one_off}")),
            "last": desk.task(after=["pay"]),
        },
        messages={"cancelled": "We have taken ${order.external_id} back."},
    )
    systems.sends["last"] = [desk.failed(retryable=False)]
    order = desk.order(
        desk.item(one_off_price=20, currency="EUR"), billing_account="BA-1", external_id="X-77"
    )
    desk.finish()
    quote = cancelling.preview(order=order)
    assert quote["sums"] == [{"direction": "refund", "currency": "EUR", "amount": "20.0000"}]
    assert quote["verdict"] == "free"
    assert quote["message"]["text"] == "We have taken X-77 back."
    assert quote["message"]["channels"] == ["webhook"]
    cancel(order)
    desk.finish()
    assert Notification.objects.get(occasion="cancelled").body == quote["message"]["text"]


# --- beside an amendment --------------------------------------------------------------------------


def test_a_cancellation_comes_before_an_amendment_that_is_assessed(
    systems: ScriptedSystems,
) -> None:
    a_service(asks={"q": "${item.quantity}"})
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    amendment = amend(order, wish(order, desk.item(quantity=2)))
    assert amendment.state == AmendmentState.ASSESSING
    assert str(cancel(order).request.state) == "ASSESSING"
    settled_by_asking(systems, "reserve")
    rest.look()
    settling.settle_due()
    desk.finish()
    order.refresh_from_db()
    amendment.refresh_from_db()
    assert (str(order.state), amendment.state) == ("CANCELLED", AmendmentState.DENIED)
    assert systems.actions() == ["reserve", "release"]
    assert Hold.objects.filter(released_at=None).count() == 0


def test_a_denied_cancellation_leaves_an_amendment_to_be_decided(
    systems: ScriptedSystems,
) -> None:
    """What is kept back for the amendment stays so when the cancellation is denied at once."""
    a_shop()
    desk.workflow(
        {"slow": desk.task(input={"q": "${item.quantity}"}), "then": desk.task(after=["slow"])},
        offering="part",
    )
    systems.sends["last"] = [desk.failed(retryable=False)]
    systems.sends["slow"] = [desk.accepted()]
    order = desk.order(desk.item(), desk.item("part", item_id="2"))
    desk.drain()
    revised = desk.item(), desk.item("part", item_id="2", quantity=5)
    amendment = amend(order, wish(order, *revised))
    assert amendment.state == AmendmentState.ASSESSING
    assert str(cancel(order).request.state) == "DENIED"
    assert Hold.objects.filter(released_at=None).count() == 1
    settled_by_asking(systems, "slow")
    assert "then" not in systems.actions()
    rest.look()
    desk.finish()
    amendment.refresh_from_db()
    assert amendment.state == AmendmentState.APPLIED
    assert Hold.objects.filter(released_at=None).count() == 0
    assert systems.actions().count("slow") == 2
