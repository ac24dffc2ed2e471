"""Changing an order by hand (`order.change`): an amendment, or a change order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import Denied, NotPossible, ParametersInvalid, SubjectChanged
from fulfillment.models import Operation, Transition
from fulfillment.operations.repair import Done, Request
from oms.changes import settling
from oms.changes.documents import as_submitted
from oms.intake.requests import ItemRequest
from oms.models import AmendmentRequest, Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_amendment import an_order, line, product, revision, step
from tests.together import together

CHANGE = Action.ORDER_CHANGE


def asked(
    order: Order, *items: ItemRequest, expected: str = "", version: int = 2, **more: Any
) -> Request:
    document = as_submitted(revision(order, *items))
    return by_hand.request(
        CHANGE, by_hand.of(order), expected=expected, version=version, order=document, **more
    )


def change(order: Order, *items: ItemRequest, **more: Any) -> Done:
    return operations.perform(actor=desk.by("ops"), request=asked(order, *items, **more))


def blue() -> ItemRequest:
    return line(characteristics={"colour": "blue"})


@pytest.fixture
def order(db: None, systems: ScriptedSystems) -> Order:
    """One red thing, built but not billed."""
    product()
    order = an_order(line())
    step(systems, "reserve", "build")
    systems.sent.clear()
    return order


def test_the_order_becomes_the_revised_one(order: Order, systems: ScriptedSystems) -> None:
    done = change(order, blue())
    assert done.told == f"{order.reference} is version 2 now."
    order.refresh_from_db()
    assert order.version == 2
    step(systems, "reserve", "build", "bill", "release", "tear_down")
    assert "tear_down" in systems.actions()
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) in ("COMPLETED", "IN_PROGRESS")
    assert by_hand.is_intact(order)


def test_the_preview_shows_the_differences_and_changes_nothing(order: Order) -> None:
    before = by_hand.everything()
    seen = by_hand.previewed(asked(order, blue()), actor=desk.by("ops"))
    assert by_hand.differing(before) == []
    tasks = {
        one["task"] if "task" in one else one["key"]: one
        for one in seen.done.after["assessment"]["tasks"]
    }
    assert tasks["build@1"]["becomes"] == "redone"
    assert [one["action"] for one in seen.commands] == ["tear_down"]
    done = change(order, blue())
    assert (done.told, done.after) == (seen.done.told, seen.done.after)


def test_nothing_new_or_an_old_version_changes_nothing(order: Order) -> None:
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="The revised order is the order as it is"):
        change(order)
    with pytest.raises(NotPossible, match="at version 1 by now"):
        change(order, blue(), version=1)
    with pytest.raises(NotPossible, match="breaks rules"):
        change(order, line(offering="no such thing"))
    assert by_hand.differing(before) == []


def test_what_is_no_order_is_refused_with_its_place(order: Order) -> None:
    request = by_hand.request(CHANGE, by_hand.of(order), version=2, order={"items": []})
    with pytest.raises(ParametersInvalid) as error:
        operations.perform(actor=desk.by("ops"), request=request)
    assert {fault.path for fault in error.value.faults} >= {"order.external_id", "order.items"}


def test_what_it_becomes_is_within_the_grant_as_well(order: Order) -> None:
    desk.workflow({"make": desk.task()}, offering="gold")
    before = by_hand.everything()
    more = line("2", offering="gold", one_off_price=Decimal(5000), currency="EUR")
    for scopes in ({"products": ["thing"]}, {"maximum_amount": Decimal(100), "currency": "EUR"}):
        actor = people.actor(people.operator("bob", CHANGE, **scopes))
        with pytest.raises(Denied, match=r"product|5000"):
            operations.perform(actor=actor, request=asked(order, line(), more))
    with pytest.raises(Denied):
        operations.perform(actor=people.anybody(), request=asked(order, blue()))
    assert by_hand.differing(before) == []
    kim = people.actor(people.operator("kim", CHANGE, products=["thing", "gold"]))
    operations.perform(actor=kim, request=asked(order, line(), line("2", offering="gold")))
    order.refresh_from_db()
    assert order.version == 2


def test_an_order_is_moved_to_no_region_where_one_may_not(order: Order) -> None:
    Order.objects.filter(pk=order.pk).update(region="ID")
    order.refresh_from_db()
    before = by_hand.everything()
    ida = people.actor(people.operator("ida", CHANGE, regions=["ID"]))
    there = asked(order, line())
    there.parameters["order"]["region"] = "SG"  # type: ignore[index]
    with pytest.raises(Denied, match="region SG"):
        operations.perform(actor=ida, request=there)
    assert by_hand.differing(before) == []


def test_whoever_comes_second_is_told_who_was_first(order: Order) -> None:
    seen = by_hand.previewed(asked(order, blue()), actor=desk.by("bob"))
    first = asked(order, blue())
    operations.perform(actor=desk.by("ops"), request=first)
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="ops has asked for exactly this already"):
        operations.perform(actor=desk.by("bob"), request=first)
    green = asked(order, line(characteristics={"colour": "green"}), expected=seen.version)
    with pytest.raises(SubjectChanged, match="by ops"):
        operations.perform(actor=desk.by("bob"), request=green)
    assert by_hand.differing(before) == []
    assert AmendmentRequest.objects.count() == 1


def test_what_is_under_way_ends_first(db: None, systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    desk.claim()
    done = change(order, line(quantity=2))
    assert "as soon as it is known what becomes of reserve@1" in done.told
    assert AmendmentRequest.objects.get().state == "ASSESSING"


def test_what_is_complete_is_changed_by_another_order(db: None, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    selectors = [{"offering": "thing", "actions": ["add", "modify", "disconnect"]}]
    desk.workflow({"make": desk.task()}, fulfils=selectors, activation="make")
    order = an_order(line())
    desk.finish()
    with pytest.raises(NotPossible, match="Send this with the mode change_order"):
        change(order, blue())
    done = change(order, blue(), mode="change_order")
    assert "Another order changes what" in done.told
    settling.settle_due()
    request = AmendmentRequest.objects.get()
    assert request.state == "CHANGE_ORDERED"
    assert request.change_order is not None
    assert str(request.change_order.items.get().action) == "modify"


def test_the_record_has_the_difference(order: Order) -> None:
    change(order, blue())
    record = Operation.objects.get(kind="change_order")
    assert record.before == {"version": 1}
    assert (record.after["version"], record.after["state"]) == (2, "APPLIED")
    assert record.after["difference"]
    assert (record.actor, record.order_reference) == ("ops", order.reference)
    assert Transition.objects.filter(entity="amendment", actor="ops").exists()


def test_of_two_at_once_one_wins(committed_db: None, systems: ScriptedSystems) -> None:
    product()
    order = an_order(line())
    requests = [asked(order, line(characteristics={"colour": one})) for one in ("blue", "green")]

    def changed(request: Request, name: str) -> str:
        try:
            operations.perform(actor=desk.by(name), request=request)
        except NotPossible as error:
            return str(error)
        return "done"

    answers = together(lambda: changed(requests[0], "anna"), lambda: changed(requests[1], "bob"))
    assert answers.count("done") == 1
    order.refresh_from_db()
    assert order.version == 2
    assert by_hand.is_intact(order)
