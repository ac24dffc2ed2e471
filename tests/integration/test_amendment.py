"""An order is revised while it is fulfilled: what becomes of its tasks, lines and assets (§20)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from adapters.contract import Command as ToTarget
from adapters.contract import Outcome
from fulfillment import operations
from fulfillment.engine.plans import rest, withholding
from fulfillment.engine.store import graphs
from fulfillment.engine.work import audit
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Command, FalloutCase, Hold, HoldScope, Plan, Task, Transition
from oms import leakage
from oms.changes import amending, cancelling, requesting, settling
from oms.changes.amending import Found
from oms.changes.documents import as_submitted
from oms.changes.errors import AmendmentError
from oms.changes.requesting import Wish
from oms.intake.feasibility import request_of
from oms.intake.requests import ItemRequest, OrderRequest
from oms.models import (
    AmendmentRequest,
    AmendmentState,
    Asset,
    BillingMatch,
    Mode,
    Order,
    OrderItem,
    OrderRevision,
    PendingAsset,
)
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


def product(**more: Any) -> None:
    """reserve → build → bill for each item, and once for the order tell."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                input={"quantity": "${item.quantity}"},
                compensation={"action": "release", "input": {"quantity": "${item.quantity}"}},
            ),
            "build": desk.task(
                after=["reserve"],
                input={"colour": "${item.characteristics.colour}"},
                compensation={"action": "tear_down", "input": {}},
                **more.pop("build", {}),
            ),
            "bill": desk.task(
                after=["build"], input={"price": "${item.price.recurring}"}, **more.pop("bill", {})
            ),
        },
        **{"activation": "build", **more},
    )


def line(item_id: str = "1", **fields: Any) -> ItemRequest:
    values = {"characteristics": {"colour": "red"}, "parties": [], "relations": [], **fields}
    return desk.item(item_id=item_id, **values)


def an_order(*items: ItemRequest, **fields: Any) -> Order:
    order = desk.order(*(items or (line(), line("2"))), **fields)
    assert order.state == "IN_PROGRESS", order.faults
    return order


def step(systems: ScriptedSystems, *actions: str) -> None:
    """These are answered, and everything else is told to come back in an hour."""
    for action in ("reserve", "build", "bill", "release", "tear_down"):
        if action in actions:
            systems.sends[action].clear()
        else:
            systems.sends[action] = [desk.failed(retry_after=timedelta(hours=1))] * 20
    desk.drain()


def revision(order: Order, *items: ItemRequest, **fields: Any) -> OrderRequest:
    """The order with these items in place of those that it has."""
    order.refresh_from_db()
    now = request_of(Order.objects.get(pk=order.pk))
    return replace(now, items=[replace(item, position=0) for item in items or now.items], **fields)


def wish(order: Order, *items: ItemRequest, **fields: Any) -> Wish:
    more = {
        name: fields.pop(name, given)
        for name, given in {
            "version": None,
            "mode": Mode.AUTO,
            "reason": "the customer rang",
        }.items()
    }
    revised = revision(order, *items, **fields)
    return Wish(order=revised, **{**more, "version": more["version"] or order.version + 1})


def preview(order: Order, wanted: Wish) -> Found:
    return run_unit(
        partial(amending.preview, order_id=order.pk, wish=wanted),
        fulfillment_ids=[order.fulfillment_id],
        actor="ann",
    )


def amend(order: Order, wanted: Wish) -> AmendmentRequest:
    found = run_unit(
        partial(amending.amend, order_id=order.pk, wish=wanted),
        fulfillment_ids=[order.fulfillment_id],
        actor="ann",
    )
    order.refresh_from_db()
    return found


def refused(order: Order, wanted: Wish) -> AmendmentError:
    """Nothing is kept of it, and nothing changes."""
    before = list(Transition.objects.filter(fulfillment_id=order.fulfillment_id))
    requests = AmendmentRequest.objects.count()
    with pytest.raises(AmendmentError) as error:
        amend(order, wanted)
    assert list(Transition.objects.filter(fulfillment_id=order.fulfillment_id)) == before
    assert AmendmentRequest.objects.count() == requests
    return error.value


def fates(document: dict[str, Any]) -> dict[str, str]:
    return {one["task"]: one["becomes"] for one in document["tasks"]}


def finish(order: Order) -> Order:
    """Everything is answered, an hour later."""
    for script in desk.systems.sends.values():
        script.clear()
    desk.advance(3700)
    desk.finish()
    order.refresh_from_db()
    return order


# --- what becomes of the tasks --------------------------------------------------------------------


def test_kept_redone_undone_and_new_by_name(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line(), line("2"), line("3"))
    step(systems, "reserve", "build")
    done = amend(
        order,
        wish(order, line(characteristics={"colour": "blue"}), line("2"), line("4")),
    )
    assert done.state == AmendmentState.APPLIED
    assert done.chosen == Mode.AMEND
    assert fates(done.assessment) == {
        "reserve@1": "kept",
        "build@1": "redone",
        "bill@1": "redone",  # It has not been sent, and waits for that now.
        "reserve@2": "kept",
        "build@2": "kept",
        "bill@2": "kept",
        "reserve@3": "undone",
        "build@3": "undone",
        "bill@3": "withdrawn",
        "reserve@4": "new",
        "build@4": "new",
        "bill@4": "new",
    }
    assert done.difference == {
        "order": ["items"],
        "items": {"1": ["characteristics"]},
        "come": ["4"],
        "gone": ["3"],
    }
    first, second = Plan.objects.filter(fulfillment_id=order.fulfillment_id).order_by("version")
    assert (first.state, second.state) == ("SUPERSEDED", "RUNNING")
    assert (second.version, second.order_version, order.version) == (2, 2, 2)
    systems.sent.clear()
    assert finish(order).state == "COMPLETED"
    asked = [(one.action, dict(one.payload)) for one in systems.sent]
    assert ("build", {"colour": "blue"}) in asked
    assert systems.actions().index("tear_down") < systems.actions().index("build")
    assert systems.actions().count("tear_down") == 2  # Of items 1 and 3.
    assert systems.actions().count("release") == 1
    assert systems.actions().count("reserve") == 1  # Of item 4.
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_a_preview_changes_nothing_and_is_what_is_carried_out(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems, "reserve", "build")
    wanted = wish(order, line(quantity=3), line("9"))
    before = list(Transition.objects.values())
    shown = preview(order, wanted)
    assert list(Transition.objects.values()) == before
    assert not AmendmentRequest.objects.exists()
    assert not OrderRevision.objects.exists()
    done = amend(order, wanted)
    assert done.assessment == shown.document()
    assert done.difference == shown.difference.document(shown.names)
    undone = {node.undoes for node in _graph(desk.newest_plan_of(order)).nodes if node.undoes}
    said = {task["task"] for task in done.assessment["tasks"] if task["undo"]}
    assert undone == said == {"reserve@1", "reserve@2", "build@2"}


def _graph(plan: Plan) -> Any:
    return graphs.by_id(plan.graph_id)


def test_the_picture_of_a_preview_has_every_task_once(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems, "reserve")
    graph = preview(order, wish(order, line(quantity=3), line("9"))).graph()
    assert {node["task"]: node["becomes"] for node in graph["nodes"]} == {
        "reserve@1": "redone",
        "build@1": "redone",  # It has not been sent, and waits for that now.
        "bill@1": "kept",
        "reserve@2": "undone",
        "build@2": "withdrawn",
        "bill@2": "withdrawn",
        "reserve@3": "new",
        "build@3": "new",
        "bill@3": "new",
    }
    assert {"from": "reserve@3", "to": "build@3", "type": "success"} in graph["edges"]
    assert {"from": "reserve@2", "to": "build@2", "type": "success"} in graph["edges"]
    names = {node["task"]: node["items"] for node in graph["nodes"]}
    assert names["reserve@3"] == ["9"]


def test_the_same_amount_in_other_digits_is_no_reason_to_do_anything_again(
    systems: ScriptedSystems,
) -> None:
    product()
    desk.workflow({"pack": desk.task()}, offering="box")
    prices = {"one_off_price": Decimal("9.90"), "recurring_price": Decimal("5.0")}
    order = an_order(
        line(currency="EUR", **prices),
        line("2", currency="EUR", **prices),
        line("3", offering="box"),
        billing_account="BA-1",
    )
    systems.sends["pack"] = [desk.failed(retry_after=timedelta(hours=1))] * 9
    desk.drain()
    same = {"one_off_price": Decimal("9.9"), "recurring_price": Decimal("5")}
    done = amend(
        order,
        wish(
            order,
            line(currency="EUR", place={"id": "ADDR-1"}, **same),
            line("2", currency="EUR", **same),
            line("4", offering="box"),
            billing_account="BA-1",
        ),
    )
    assert {key for key, becomes in fates(done.assessment).items() if becomes != "kept"} == {
        *("pack@3", "pack@4")
    }
    items = desk.newest_plan_of(order).context["items"]
    assert [items[at]["price"]["recurring"] for at in "12"] == ["5.0", "5.0"]
    assert items["1"]["place"] == {"id": "ADDR-1"}


def test_recreating_undoes_and_does_everything_again(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    step(systems, "reserve", "build")
    done = amend(order, wish(order, line(), mode=Mode.RECREATE))
    assert (done.state, done.chosen) == (AmendmentState.APPLIED, Mode.RECREATE)
    systems.sent.clear()
    assert finish(order).state == "COMPLETED"
    assert systems.actions() == ["tear_down", "release", "reserve", "build", "bill"]


def test_a_running_order_keeps_its_version_of_a_workflow(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    step(systems, "reserve")
    _publish_second_version()
    amend(order, wish(order, line(), line("2")))
    plan = desk.newest_plan_of(order)
    assert {one.version for one in _graph(plan).workflows} == {1}
    assert finish(order).state == "COMPLETED"


def _publish_second_version() -> None:
    definition = desk.workflow(
        {"reserve": desk.task(), "extra": desk.task(after=["reserve"])}, version=2
    )
    assert definition.version == 2


def test_what_is_new_comes_in_at_the_newest_version(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    for version in (1, 2):
        desk.workflow({"pack": desk.task()}, offering="box", version=version)
    amend(order, wish(order, line(), line("2", offering="box")))
    found = {one.name: one.version for one in _graph(desk.newest_plan_of(order)).workflows}
    assert found == {"thing": 1, "box": 2}


# --- lines of the order, and what they were -------------------------------------------------------


def test_history_kept_of_the_order_and_its_lines(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line(), line("2"), line("3", offering="thing"))
    step(systems)
    amend(
        order,
        wish(order, line("3"), line(quantity=4), line("new"), customer_name="Ann"),
    )
    assert [(one.position, one.item_id) for one in order.items.all()] == [
        *((1, "1"), (3, "3"), (4, "new"))
    ]
    assert order.items.get(item_id="1").quantity == 4
    assert (order.version, order.customer_name) == (2, "Ann")
    left_out = OrderItem.ever.get(order=order, removed_in_version=2)
    assert (left_out.position, left_out.item_id) == (2, "2")
    was = OrderRevision.objects.get(order=order)
    assert was.version == 1
    assert [one["quantity"] for one in was.document["items"]] == [1, 1, 1]
    amend(order, wish(order, line("3"), line("2")))
    assert [(one.position, one.item_id) for one in order.items.all()] == [(3, "3"), (5, "2")]
    assert [one.version for one in order.revisions.all()] == [1, 2]


def test_a_revision_can_t_be_rewritten(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    amend(order, wish(order, line()))
    for statement in ("UPDATE oms_orderrevision SET version = 7", "DELETE FROM oms_orderrevision"):
        with pytest.raises(Exception, match="append-only|permission denied"):
            with transaction.atomic(), connection.cursor() as raw:
                raw.execute(statement)


def test_nested_lines_stay_nested(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line(), line("1a", parent_id="1"), line("2"))
    amend(order, wish(order, line(), line("1b", parent_id="1"), line("2")))
    rows = {one.item_id: one for one in order.items.all()}
    assert rows["1b"].parent_id == rows["1"].pk
    assert [one["item_id"] for one in _document(order)["items"]] == ["1", "2"]


def _document(order: Order) -> dict[str, Any]:
    return as_submitted(request_of(Order.objects.get(pk=order.pk)))


def test_the_promise_and_the_priority_follow_the_revised_order(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    step(systems)
    promised = desk.now() + timedelta(days=3)
    amend(order, wish(order, line(), promised_at=promised, priority=7))
    assert desk.newest_plan_of(order).due_at == promised
    assert set(
        Task.objects.filter(plan=desk.newest_plan_of(order)).values_list("priority", flat=True)
    ) == {7}
    assert fates(order.amendments.get().assessment) == {
        "reserve@1": "kept",
        "build@1": "kept",
        "bill@1": "kept",
    }
    assert finish(order).state == "COMPLETED"


# --- assets ---------------------------------------------------------------------------------------


def test_what_is_expected_of_assets_follows_the_revised_order(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems)
    amend(order, wish(order, line(quantity=5), line("3")))
    pending = {one.position: one.quantity for one in PendingAsset.objects.filter(order=order)}
    assert pending == {1: 5, 3: 1}
    finish(order)
    assert {one.asset_id: one.quantity for one in Asset.objects.all()} == {
        f"{order.reference}-1": 5,
        f"{order.reference}-3": 1,
    }
    assert not PendingAsset.objects.exists()


def test_an_asset_that_stays_active_is_as_the_revised_order_says(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line(recurring_price=Decimal(5), currency="EUR"), billing_account="BA-1")
    step(systems, "reserve", "build")
    asset = Asset.objects.get()
    assert asset.place == {}
    done = amend(
        order,
        wish(
            order,
            line(recurring_price=Decimal(7), currency="EUR", place={"id": "ADDR-1"}),
        ),
    )
    assert fates(done.assessment)["build@1"] == "kept"
    asset.refresh_from_db()
    assert (asset.state, asset.place) == ("ACTIVE", {"id": "ADDR-1"})
    assert not PendingAsset.objects.exists()
    assert finish(order).state == "COMPLETED"


def test_an_asset_of_another_item_is_left_alone(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems, "reserve", "build")
    Asset.objects.filter(asset_id=f"{order.reference}-2").update(quantity=77)
    amend(order, wish(order, line(place={"id": "ADDR-1"}), line("2")))
    assert Asset.objects.get(asset_id=f"{order.reference}-2").quantity == 77


def test_what_is_activated_again_is_expected_meanwhile(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    step(systems, "reserve", "build")
    amend(order, wish(order, line(characteristics={"colour": "blue"})))
    assert PendingAsset.objects.get().characteristics == {"colour": "blue"}
    finish(order)
    assert Asset.objects.get().characteristics == {"colour": "blue"}
    assert Asset.objects.get().state == "ACTIVE"
    assert not PendingAsset.objects.exists()


# --- versions: the newest wins --------------------------------------------------------------------


def test_an_older_revision_is_refused(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems)
    amend(order, wish(order, line(quantity=2), version=5))
    for version in (1, 4):
        error = refused(order, wish(order, line(quantity=3), version=version))
        assert (error.code, error.facts) == ("amendment.outdated", {"version": 5})


def test_the_same_again_is_the_same_request(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems)
    wanted = wish(
        order,
        line(quantity=2, one_off_price=Decimal("1.50"), currency="EUR"),
        billing_account="BA-1",
    )
    first = amend(order, wanted)
    assert amend(order, wanted) == first
    assert AmendmentRequest.objects.count() == 1
    error = refused(order, replace(wanted, order=revision(order, line(quantity=7))))
    assert error.code == "amendment.version_used"
    assert error.facts == {"amendment": 1, "version": 2}


def test_nothing_new_is_refused(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    assert refused(order, wish(order)).code == "amendment.changes_nothing"


def in_flight(systems: ScriptedSystems) -> tuple[Order, desk.Claim]:
    """An order of which a reservation is on the wire."""
    product()
    order = an_order(line())
    (claim,) = desk.claim()
    return order, claim


def test_what_is_under_way_is_settled_first(systems: ScriptedSystems) -> None:
    order, claim = in_flight(systems)
    request = amend(order, wish(order, line(quantity=2)))
    assert request.state == AmendmentState.ASSESSING
    assert request.assessment["waits_for"] == ["reserve@1"]
    assert order.version == 1
    rest.look()
    request.refresh_from_db()
    assert request.state == AmendmentState.ASSESSING
    desk.settle(desk.result(claim, desk.succeeded()))
    assert desk.drain() == 0  # Nothing new is sent before it is decided.
    rest.look()
    request.refresh_from_db()
    order.refresh_from_db()
    assert (request.state, order.version) == (AmendmentState.APPLIED, 2)
    assert fates(request.assessment)["reserve@1"] == "redone"
    rest.look()
    assert finish(order).state == "COMPLETED"
    assert [one for one in systems.actions() if one in ("release", "reserve")] == [
        "release",
        "reserve",
    ]
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_the_newest_wins_while_one_is_assessed(systems: ScriptedSystems) -> None:
    order, claim = in_flight(systems)
    first = amend(order, wish(order, line(quantity=2)))
    assert refused(order, wish(order, line(quantity=3), version=2)).code == "amendment.version_used"
    second = amend(order, wish(order, line(quantity=4), version=3))
    first.refresh_from_db()
    assert (first.state, second.state) == (AmendmentState.SUPERSEDED, AmendmentState.ASSESSING)
    late = refused(order, wish(order, line(quantity=5), version=2))
    assert (late.code, late.facts) == ("amendment.outdated", {"version": 3})
    desk.settle(desk.result(claim, desk.succeeded()))
    rest.look()
    order.refresh_from_db()
    assert (order.version, order.items.get().quantity) == (3, 4)
    assert Plan.objects.filter(fulfillment_id=order.fulfillment_id).count() == 2


def test_what_has_no_effect_is_done_as_the_revised_order_says(systems: ScriptedSystems) -> None:
    order, claim = in_flight(systems)
    amend(order, wish(order, line(quantity=2)))
    desk.settle(desk.result(claim, desk.failed()))
    rest.look()
    assert finish(order).state == "COMPLETED"
    sent = [dict(one.payload) for one in systems.sent if one.action == "reserve"]
    assert sent == [{"quantity": 2}]
    assert "release" not in systems.actions()


def test_what_is_asked_for_in_time_is_done_although_the_last_task_has_ended(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"only": desk.task(input={"q": "${item.quantity}"})})
    order = desk.order()
    (claim,) = desk.claim()
    request = amend(order, wish(order, desk.item(quantity=2)))
    assert request.state == AmendmentState.ASSESSING
    desk.settle(desk.result(claim, desk.succeeded()))
    order.refresh_from_db()
    assert order.state == "IN_PROGRESS"
    rest.look()
    request.refresh_from_db()
    assert request.state == AmendmentState.APPLIED
    assert finish(order).state == "COMPLETED"
    assert order.version == 2


# --- what is refused ------------------------------------------------------------------------------

HARD = {"point_of_no_return": {"kind": "hard", "reason": "It is built to measure."}}


def test_behind_a_hard_point_of_no_return_it_is_denied(systems: ScriptedSystems) -> None:
    product(build=HARD)
    order = an_order(line())
    step(systems, "reserve", "build")
    wanted = wish(order, line(characteristics={"colour": "blue"}))
    assert preview(order, wanted).refusals == [
        {
            "code": "point_of_no_return",
            "message": "A task is done, and that is final: It is built to measure.",
            "task": "build@1",
            "items": ["1"],
        }
    ]
    request = amend(order, wanted)
    assert request.state == AmendmentState.DENIED
    assert request.refusals == preview(order, wanted).refusals
    assert (order.version, order.items.get().characteristics) == (1, {"colour": "red"})
    assert Plan.objects.filter(fulfillment_id=order.fulfillment_id).count() == 1
    assert finish(order).state == "COMPLETED"


def test_before_a_hard_point_of_no_return_it_is_possible(systems: ScriptedSystems) -> None:
    product(build=HARD)
    order = an_order(line())
    step(systems, "reserve")
    assert amend(order, wish(order, line(quantity=3))).state == AmendmentState.APPLIED


def test_a_bundle_shares_its_point_of_no_return(systems: ScriptedSystems) -> None:
    product(build=HARD)
    order = an_order(line(), line("1a", parent_id="1"))
    systems.sends["build"] = [desk.succeeded(), desk.failed(retry_after=timedelta(hours=1))]
    desk.drain()
    (built,) = [
        key
        for key, state in desk.states_of(order).items()
        if key.startswith("build") and state == "SUCCEEDED"
    ]
    other = "1a" if built == "build@1" else "1"
    lines = [
        line("1", quantity=2 if other == "1" else 1),
        line("1a", parent_id="1", quantity=2 if other == "1a" else 1),
    ]
    request = amend(order, wish(order, *lines))
    assert request.state == AmendmentState.DENIED
    assert request.refusals[0]["items"] == ["1", "1a"]


def test_what_was_kept_back_goes_on_after_a_denial(systems: ScriptedSystems) -> None:
    product(build=HARD)
    order = an_order(line())
    step(systems, "reserve")
    desk.advance(3700)
    (claim,) = desk.claim()
    wanted = wish(order, line(characteristics={"colour": "blue"}))
    request = amend(order, wanted)
    assert request.state == AmendmentState.ASSESSING
    desk.settle(desk.result(claim, desk.succeeded()))
    rest.look()
    request.refresh_from_db()
    assert request.state == AmendmentState.DENIED
    assert not Hold.objects.filter(released_at=None).exists()
    assert finish(order).state == "COMPLETED"


def test_denied_does_not_use_the_version_up(systems: ScriptedSystems) -> None:
    product(build=HARD)
    order = an_order(line())
    step(systems, "reserve", "build")
    amend(order, wish(order, line(characteristics={"colour": "blue"})))
    second = amend(order, wish(order, line(), line("2")))
    assert (second.number, second.version, second.state) == (2, 2, AmendmentState.APPLIED)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"external_id": "other"}, "amendment.external_id_changed"),
        ({"customer_id": "C-9"}, "amendment.customer_changed"),
    ],
)
def test_what_an_amendment_can_t_make_another(
    systems: ScriptedSystems, change: dict[str, Any], code: str
) -> None:
    product()
    order = an_order()
    error = refused(order, wish(order, **change))
    assert error.code == "amendment.invalid"
    assert [fault.code for fault in error.faults] == [code]


def test_a_revised_order_passes_the_same_rules(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    error = refused(
        order, wish(order, line(offering="unheard-of"), line("2", recurring_price=Decimal(5)))
    )
    assert {fault.code for fault in error.faults} == {
        "offering.unknown",
        "customer.billing_account_missing",
    }


def test_what_an_older_version_does_not_fulfil_is_refused(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    desk.workflow(
        {"reserve": desk.task()},
        version=2,
        fulfils=[
            {"offering": "thing", "actions": ["add"]},
            {"offering": "thing-plus", "actions": ["add"]},
        ],
    )
    error = refused(order, wish(order, line(), line("2", offering="thing-plus")))
    assert [fault.code for fault in error.faults] == ["amendment.other_workflow_version"]


def test_a_lost_hold_is_refused(systems: ScriptedSystems) -> None:
    product()
    order = an_order()
    step(systems)
    task = Task.objects.get(fulfillment_id=order.fulfillment_id, key="build@2")
    operations.place_hold(scope=HoldScope.TASK, name=str(task.pk), reason="Wait.", actor=by("ann"))
    request = amend(order, wish(order, line()))
    assert [one["code"] for one in request.refusals] == ["hold_lost"]


def test_an_order_that_is_over_offers_a_change_order(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    finish(order)
    error = refused(order, wish(order, line(quantity=2)))
    assert (error.code, error.facts) == ("amendment.order_is_over", {"offers": ["change_order"]})


def test_an_order_that_is_being_validated_is_too_early(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {"one": desk.task()},
        feasibility=[{"target": "alpha", "action": "ask", "input": {}, "scope": "order"}],
    )
    order = desk.order()
    assert order.state == "VALIDATING"
    assert refused(order, wish(order, desk.item(quantity=2))).code == "amendment.too_early"


@pytest.mark.parametrize("state", ["ASSESSING_CANCELLATION", "CANCELLING"])
def test_an_order_that_is_being_cancelled(systems: ScriptedSystems, state: str) -> None:
    product()
    order = an_order()
    Order.objects.filter(pk=order.pk).update(state=state)
    error = refused(order, wish(order, line()))
    assert error.code == "amendment.order_is_being_cancelled"


def test_a_cancellation_is_decided_before_an_amendment(systems: ScriptedSystems) -> None:
    order, claim = in_flight(systems)
    request = amend(order, wish(order, line(quantity=2)))
    Order.objects.filter(pk=order.pk).update(state="ASSESSING_CANCELLATION")
    desk.settle(desk.result(claim, desk.succeeded()))
    rest.look()
    request.refresh_from_db()
    assert request.state == AmendmentState.ASSESSING
    Order.objects.filter(pk=order.pk).update(state="CANCELLING")
    rest.look()
    amending.decide_due(fulfillment_ids=[order.fulfillment_id])
    request.refresh_from_db()
    assert request.state == AmendmentState.DENIED
    assert request.refusals[0]["code"] == "amendment.order_is_being_cancelled"
    assert Hold.objects.filter(released_at=None).exists()


# --- a change order afterwards --------------------------------------------------------------------


def changeable() -> None:
    product()
    desk.workflow(
        {"alter": desk.task(input={"quantity": "${item.quantity}", "asset": "${item.asset}"})},
        offering="thing-changes",
        fulfils=[{"offering": "thing", "actions": ["modify"]}],
    )
    desk.workflow(
        {"end": desk.task(input={"asset": "${item.asset}"})},
        offering="thing-ends",
        fulfils=[{"offering": "thing", "actions": ["disconnect"]}],
    )


def test_a_change_order_follows_when_the_order_is_complete(systems: ScriptedSystems) -> None:
    changeable()
    order = an_order(line(), line("2"), line("3"), external_id="SHOP-1")
    step(systems, "reserve")
    request = amend(
        order,
        wish(order, line(quantity=4), line("2"), line("4"), mode=Mode.CHANGE_ORDER),
    )
    assert request.state == AmendmentState.WAITING_FOR_COMPLETION
    settling.settle_due()
    assert Order.objects.count() == 1
    finish(order)
    settling.settle_due()
    request.refresh_from_db()
    assert request.state == AmendmentState.CHANGE_ORDERED
    made = request.change_order
    assert made is not None
    assert made.external_id == "SHOP-1/v2"
    assert [(one.item_id, one.action, one.asset) for one in made.items.all()] == [
        ("1", "modify", f"{order.reference}-1"),
        ("3/gone", "disconnect", f"{order.reference}-3"),
        ("4", "add", ""),
    ]
    desk.finish()
    made.refresh_from_db()
    assert made.state == "COMPLETED"
    found = {one.asset_id: (one.state, one.quantity) for one in Asset.objects.all()}
    assert found == {
        f"{order.reference}-1": ("ACTIVE", 4),
        f"{order.reference}-2": ("ACTIVE", 1),
        f"{order.reference}-3": ("INACTIVE", 1),
        f"{made.reference}-3": ("ACTIVE", 1),
    }
    order.refresh_from_db()
    assert (order.state, order.version) == ("COMPLETED", 1)
    settling.settle_due()
    assert Order.objects.count() == 2


def test_a_complete_order_is_changed_at_once_when_that_is_asked_for(
    systems: ScriptedSystems,
) -> None:
    changeable()
    order = finish(an_order(line()))
    request = amend(order, wish(order, line(quantity=4), mode=Mode.CHANGE_ORDER))
    settling.settle_due()
    request.refresh_from_db()
    assert request.state == AmendmentState.CHANGE_ORDERED
    again = refused(order, wish(order, line(quantity=5), mode=Mode.CHANGE_ORDER, version=3))
    assert (again.code, again.facts) == ("amendment.order_is_over", {"offers": []})


def test_a_name_that_the_client_has_used_for_something_else(systems: ScriptedSystems) -> None:
    changeable()
    order = an_order(line(), external_id="SHOP-1")
    desk.order(external_id="SHOP-1/v2")
    request = amend(order, wish(order, line(quantity=4), mode=Mode.CHANGE_ORDER))
    finish(order)
    settling.settle_due()
    request.refresh_from_db()
    assert request.change_order is not None
    assert request.change_order.external_id == f"{order.reference}/v2"


def test_what_no_workflow_changes_can_t_be_changed_afterwards(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    error = refused(order, wish(order, line(quantity=4), mode=Mode.CHANGE_ORDER))
    assert error.code == "amendment.invalid"
    assert [fault.code for fault in error.faults] == ["offering.action_not_supported"]


def test_a_change_order_is_offered_only_where_there_can_be_one(systems: ScriptedSystems) -> None:
    changeable()
    desk.workflow(
        {"cut": desk.task(irreversible=True), "ship": desk.task(after=["cut"])},
        offering="log",
    )
    order = an_order(line("1", offering="log"), line("2"))
    systems.sends["ship"] = [desk.failed(retry_after=timedelta(hours=1))]
    step(systems, "reserve", "build")
    found = preview(order, wish(order, line("2")))
    assert [one["code"] for one in found.refusals] == ["irreversible"]
    assert not found.otherwise  # Nothing disconnects a log.


def test_an_order_that_is_not_completed_has_nothing_to_change(systems: ScriptedSystems) -> None:
    changeable()
    order = an_order(line())
    step(systems, "reserve")
    request = amend(order, wish(order, line(quantity=4), mode=Mode.CHANGE_ORDER))
    cancelling.cancel(order=order, requested_by="bob", reason="not needed")
    desk.advance(3700)
    finish(order)
    settling.settle_due()
    request.refresh_from_db()
    assert (order.state, request.state) == ("CANCELLED", AmendmentState.DENIED)
    assert request.refusals[0]["code"] == "amendment.order_is_over"
    assert Order.objects.count() == 1


# --- items alone ----------------------------------------------------------------------------------


def test_single_items_are_left_out(systems: ScriptedSystems) -> None:
    product()
    order = an_order(line(), line("1a", parent_id="1"), line("2"))
    revised = amending.without_items(order=order, item_ids=["1"])
    assert [item.item_id for item in revised.items] == ["2"]
    for item_ids, code in ((["7"], "item_unknown"), (["1", "2"], "nothing_left")):
        with pytest.raises(AmendmentError) as error:
            amending.without_items(order=order, item_ids=item_ids)
        assert error.value.code == f"amendment.{code}"


# --- and what goes wrong --------------------------------------------------------------------------


def test_one_that_the_engine_fails_with_has_a_case_and_keeps_no_other(
    systems: ScriptedSystems,
) -> None:
    order, claim = in_flight(systems)
    request = amend(order, wish(order, line(quantity=2)))
    good = AmendmentRequest.objects.get(pk=request.pk).document
    AmendmentRequest.objects.filter(pk=request.pk).update(document={"broken": True})
    desk.settle(desk.result(claim, desk.succeeded()))
    rest.look()
    case = FalloutCase.objects.get(subject=requesting.case_of(request))
    assert case.state == "OPEN"
    AmendmentRequest.objects.filter(pk=request.pk).update(document=good)
    amending.decide_due(fulfillment_ids=[order.fulfillment_id])
    request.refresh_from_db()
    case.refresh_from_db()
    assert (request.state, case.state) == (AmendmentState.APPLIED, "RESOLVED")


# --- billing --------------------------------------------------------------------------------------


def billable(**bill: Any) -> None:
    product(
        bill=bill,
        milestones={"built": {"title": "It is built", "reached_by": "build"}},
        activation="built",
        billing={"task": "bill", "milestone": "built", "within": "PT1H"},
    )
    desk.workflow({"pack": desk.task()}, offering="box")


def with_a_box(systems: ScriptedSystems) -> Order:
    """A thing that is active and billed, and a box that is not packed yet."""
    order = an_order(line(), line("2", offering="box"))
    systems.sends["pack"] = [desk.failed(retry_after=timedelta(hours=9))] * 9
    desk.drain()
    assert Asset.objects.get().state == "ACTIVE"
    assert BillingMatch.objects.get().leak is None
    return order


def test_an_item_that_is_left_out_is_neither_active_nor_billed(systems: ScriptedSystems) -> None:
    billable(compensation={"action": "unbill", "input": {}})
    order = with_a_box(systems)
    amend(order, wish(order, line("2", offering="box")))  # Nothing of its workflow is left.
    desk.drain()
    assert systems.actions()[-3:] == ["unbill", "tear_down", "release"]
    assert Asset.objects.get().state == "INACTIVE"
    assert not BillingMatch.objects.exists()
    desk.advance(2 * 3600)
    assert leakage.find_leaks() == 0


def test_what_is_left_of_an_item_that_is_left_out_is_a_leak(systems: ScriptedSystems) -> None:
    billable()  # What is billed stays billed.
    order = with_a_box(systems)
    amend(order, wish(order, line("2", offering="box")))
    desk.drain()
    assert Asset.objects.get().state == "INACTIVE"
    amend(order, wish(order, line("2", offering="box", quantity=2)))  # And nothing is undone now.
    assert not any(node.undoes for node in _graph(desk.newest_plan_of(order)).nodes)
    desk.advance(2 * 3600)
    assert leakage.find_leaks() == 1
    case = FalloutCase.objects.get(reason_code="billed_without_service")
    assert "no part of its order any more" in case.explanation


def test_what_nothing_wakes_is_looked_at_by_itself(systems: ScriptedSystems) -> None:
    order, claim = in_flight(systems)
    request = amend(order, wish(order, line(quantity=2)))
    assert settling.settle_due() == 0  # What is under way wakes it.
    # As when a cancellation that came later was denied, and has let the order go on.
    run_unit(
        partial(_let_go_on, plan_id=desk.newest_plan_of(order).pk),
        fulfillment_ids=[order.fulfillment_id],
        actor="bob",
    )
    assert settling.settle_due() == 1
    request.refresh_from_db()
    assert request.state == AmendmentState.ASSESSING
    desk.settle(desk.result(claim, desk.succeeded()))
    rest.look()
    request.refresh_from_db()
    assert request.state == AmendmentState.APPLIED


def _let_go_on(unit: Unit, plan_id: int) -> None:
    unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
    withholding.let_go_on(unit, plan=unit.plans[plan_id], reason="a test")


# --- beside what has failed -----------------------------------------------------------------------


def failed_in_part(systems: ScriptedSystems, then: str) -> Order:
    """Item 2 has failed and is given up; item 1 is reserved."""
    product(on_failure={"then": then, "of": "item"})
    order = an_order()
    all_of = [desk.failed(retry_after=timedelta(hours=9))] * 9
    systems.sends["reserve"] = [_unless_second] * 2
    systems.sends["build"] = [*all_of]
    desk.drain()
    rest.look()
    desk.drain()
    assert desk.newest_plan_of(order).context["given_up"] == [2]
    return order


def _unless_second(command: ToTarget) -> Outcome:
    key = Command.objects.get(idempotency_key=command.idempotency_key).task.key
    return desk.rejected() if key == "reserve@2" else desk.succeeded()


@pytest.mark.parametrize("then", ["compensate", "continue"])
def test_what_was_given_up_is_not_begun_again(systems: ScriptedSystems, then: str) -> None:
    order = failed_in_part(systems, then)
    done = amend(order, wish(order, line(characteristics={"colour": "blue"}), line("2")))
    assert done.state == AmendmentState.APPLIED, done.refusals
    plan = desk.newest_plan_of(order)
    assert plan.context["given_up"] == [2]
    systems.sent.clear()
    assert finish(order).state == "PARTIALLY_COMPLETED"
    assert systems.actions() == ["build", "bill"]


def test_what_was_given_up_can_be_left_out_and_not_changed(systems: ScriptedSystems) -> None:
    order = failed_in_part(systems, "compensate")
    error = refused(order, wish(order, line(), line("2", quantity=7)))
    assert [fault.code for fault in error.faults] == ["amendment.item_has_failed"]
    amend(order, wish(order, line()))
    assert finish(order).state == "COMPLETED"
