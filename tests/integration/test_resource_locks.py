"""Resource locks: all or nothing, kept through doubt, and passed on to whoever is next (§9.1)."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from fulfillment import operations
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import scanning
from fulfillment.engine.protection import locksmith
from fulfillment.engine.work import locking
from fulfillment.errors import CapacityUnusable, DefinitionInvalid
from fulfillment.models import LockRelease, Operation, Resource, ResourceLock, Task
from oms.intake.requests import ItemRequest
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

ASSET = {"resource": "asset", "key": "${item.asset?}"}
CUSTOMER = {"resource": "customer", "key": "${order.customer.id}"}


def a_shop(*locks: dict[str, Any], of_plan: tuple[dict[str, Any], ...] = ()) -> None:
    """change → bill; `change` keeps the locks, the plan keeps those of its own."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "change": desk.task(locks=list(locks)),
            "bill": desk.task("beta", after=["change"]),
        },
        fulfils=[{"offering": "thing", "actions": ["add", "modify"]}],
        locks=list(of_plan),
    )


def changing(asset: str = "A-1", **fields: Any) -> Order:
    item = ItemRequest(item_id="1", action="modify", offering="thing", asset=asset)
    return desk.order(item, **fields)


def kept() -> set[str]:
    return set(ResourceLock.objects.values_list("name", flat=True))


def lined_up() -> set[str]:
    rows = Task.objects.exclude(waits_for_lock="").select_related("fulfillment")
    return {f"{row.fulfillment.order_reference} {row.waits_for_lock}" for row in rows}


def claim(target: str = "alpha") -> list[Claim]:
    return desk.claim(target, limit=10)


def ended(*claims: Claim) -> None:
    """They have succeeded; whoever is next is called up, which waits for a commit in earnest."""
    desk.settle(*(desk.result(one, desk.succeeded()) for one in claims))
    locking.wake()


def state(order: Order, key: str = "change@1") -> str:
    return desk.states_of(order)[key]


def test_only_one_order_at_a_time_changes_an_asset(systems: ScriptedSystems) -> None:
    a_shop(ASSET)
    first, second, other = changing(), changing(), changing("A-2")
    claims = claim()
    assert {claim.fulfillment_id for claim in claims} == {
        first.fulfillment_id,
        other.fulfillment_id,
    }
    assert kept() == {"asset:A-1", "asset:A-2"}
    assert lined_up() == {f"{second.reference} asset:A-1"}
    assert claim() == []
    ended(*claims)
    # The task has ended, so the lock is free, and the next in line is called up.
    assert kept() == set()
    desk.drain()
    assert {state(order) for order in (first, second, other)} == {"SUCCEEDED"}
    assert (kept(), lined_up()) == (set(), set())
    assert not LockRelease.objects.exists()


@pytest.mark.parametrize("outcome", [desk.unknown(), desk.failed(), desk.accepted()], ids=str)
def test_a_lock_is_kept_while_its_task_has_not_ended(
    systems: ScriptedSystems, outcome: Any
) -> None:
    a_shop(ASSET)
    first, second = changing(), changing()
    (taken,) = claim()
    desk.settle(desk.result(taken, outcome))
    assert state(first) in ("OUTCOME_UNKNOWN", "FAILED_RETRYABLE", "ACCEPTED")
    assert kept() == {"asset:A-1"}
    scanning.scan()
    assert lined_up() == {f"{second.reference} asset:A-1"}


def test_a_task_that_is_sent_again_keeps_the_lock_that_it_has(systems: ScriptedSystems) -> None:
    a_shop(ASSET)
    systems.sends["change"] = [desk.failed(), desk.succeeded()]
    order = changing()
    desk.drain()
    assert kept() == {"asset:A-1"}
    desk.advance(60)
    desk.drain()
    assert state(order) == "SUCCEEDED"
    assert kept() == set()


def test_what_failed_for_good_lets_go_and_takes_the_lock_anew_when_it_is_tried_again(
    systems: ScriptedSystems,
) -> None:

    a_shop(ASSET)
    systems.sends["change"] = [desk.rejected()]
    order = changing()
    desk.drain()
    assert (state(order), kept()) == ("FAILED_FINAL", set())
    operations.retry(
        task_id=desk.tasks_of(order)["change@1"].pk, actor=by("anna"), reason="it is mended"
    )
    (taken,) = claim()
    assert kept() == {"asset:A-1"}
    ended(taken)
    assert kept() == set()


def test_all_locks_or_none(systems: ScriptedSystems) -> None:
    """Who lacks one of two does not keep the other from somebody else."""
    a_shop(ASSET, CUSTOMER)
    first = changing("A-1", customer_id="C-1")
    (taken,) = claim()
    second = changing("A-2", customer_id="C-1")
    assert claim() == []
    third = changing("A-2", customer_id="C-2")
    (other,) = claim()
    assert other.fulfillment_id == third.fulfillment_id
    assert lined_up() == {f"{second.reference} customer:C-1"}
    ended(taken)
    # It is called up for the customer, and finds the asset in use.
    assert claim() == []
    assert lined_up() == {f"{second.reference} asset:A-2"}
    assert kept() == {"asset:A-2", "customer:C-2"}
    ended(other)
    desk.drain()
    assert {state(order) for order in (first, second, third)} == {"SUCCEEDED"}


def test_a_pool_lets_in_as_many_as_it_has_room_for(systems: ScriptedSystems) -> None:
    a_shop({"resource": "numbers", "key": "${order.region}", "units": 2})
    Resource.objects.filter(name="numbers").update(capacity=5)
    orders = [changing(region="AT") for _ in range(3)]
    claims = claim()
    assert len(claims) == 2
    assert sum(ResourceLock.objects.values_list("units", flat=True)) == 4
    ended(claims[0])
    assert len(claim()) == 1
    assert {state(order) for order in orders} == {"SUCCEEDED", "DISPATCHED"}


def test_a_lock_of_the_order_is_kept_from_its_first_command_to_its_end(
    systems: ScriptedSystems,
) -> None:
    a_shop(of_plan=(CUSTOMER,))
    first, second = changing("A-1"), changing("A-2")
    (taken,) = claim()
    assert kept() == {"customer:C-1"}
    ended(taken)
    assert claim() == []
    assert kept() == {"customer:C-1"}
    ended(claim("beta")[0])
    first.refresh_from_db()
    assert first.state == "COMPLETED"
    desk.drain()
    second.refresh_from_db()
    assert second.state == "COMPLETED"
    assert (kept(), lined_up()) == (set(), set())


def test_without_a_value_there_is_nothing_to_lock(systems: ScriptedSystems) -> None:
    a_shop(ASSET)
    orders = [desk.order(), desk.order()]
    assert len(claim()) == 2
    assert kept() == set()
    assert {state(order) for order in orders} == {"DISPATCHED"}


def test_those_who_wait_have_their_turn_in_the_order_of_selection(
    systems: ScriptedSystems,
) -> None:
    a_shop(CUSTOMER)
    changing("A-1")
    (taken,) = claim()
    later = [changing(f"A-{number}", priority=priority) for number, priority in ((2, 0), (3, 9))]
    assert claim() == []
    ended(taken)
    (taken,) = claim()
    assert taken.fulfillment_id == later[1].fulfillment_id


def test_a_lock_is_not_left_idle_by_who_is_first_in_line_and_can_not_be_sent(
    systems: ScriptedSystems,
) -> None:
    """Of every target system somebody is called up."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"change": desk.task(locks=[CUSTOMER])})
    desk.workflow({"other": desk.task("beta", locks=[CUSTOMER])}, offering="other")
    desk.order()
    (taken,) = claim()
    waiting, other = desk.order(), desk.order(desk.item("other"))
    assert claim() == claim("beta") == []
    ended(taken)
    # Nothing is sent to alpha; beta has a turn all the same.
    (taken,) = claim("beta")
    assert taken.fulfillment_id == other.fulfillment_id
    ended(taken)
    desk.drain()
    assert state(waiting) == "SUCCEEDED"


def test_a_release_that_nobody_was_told_of_is_found_by_the_scanner(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_shop(CUSTOMER)
    changing("A-1")
    (taken,) = claim()
    second = changing("A-2")
    assert claim() == []
    with monkeypatch.context() as patched:
        patched.setattr(locking, "wake", set)  # The process dies right after its commit.
        desk.settle(desk.result(taken, desk.succeeded()))
    assert claim() == []
    scanning.scan()
    (taken,) = claim()
    assert taken.fulfillment_id == second.fulfillment_id


def test_no_kind_of_resource_is_locked_in_both_ways(systems: ScriptedSystems) -> None:
    a_shop(CUSTOMER)
    with pytest.raises(DefinitionInvalid) as refused:
        desk.workflow({"one": desk.task()}, offering="other", locks=[CUSTOMER])
    (fault,) = refused.value.faults
    assert fault.code == "definition.locked_in_both_ways"
    assert "customer" in fault.message


def test_a_key_that_is_no_name_is_for_a_person(systems: ScriptedSystems) -> None:
    a_shop({"resource": "door", "key": "${item.characteristics.door}"})
    order = desk.order(desk.item(characteristics={"door": 1.5}))
    assert state(order) == "AWAITING_MANUAL"
    assert "door" in desk.tasks_of(order)["change@1"].blocked_reason


@pytest.mark.parametrize("units", ["0", "-5", "1000001", "2147483648", "99999999999999"])
def test_room_that_can_not_be_is_refused_in_words(systems: ScriptedSystems, units: str) -> None:
    a_shop({"resource": "numbers", "key": "${order.region}"})
    with pytest.raises(CommandError, match="A resource has room for"):
        call_command("resources", "capacity", "--reason=x", "--", "numbers", units)
    assert Resource.objects.get(name="numbers").capacity == 1


def test_more_room_lets_those_in_who_wait(systems: ScriptedSystems) -> None:
    a_shop({"resource": "numbers", "key": "${order.region}"})
    orders = [changing(region="AT") for _ in range(3)]
    assert len(claim()) == 1
    operations.set_capacity(resource="numbers", capacity=3, actor=by("anna"), reason="Bought some.")
    assert len(claim()) == 2
    assert {state(order) for order in orders} == {"DISPATCHED"}
    assert Operation.objects.get().after == {"capacity": 3}
    printed = io.StringIO()
    call_command("resources", "list", stdout=printed)
    assert "3 at once, kept by the task, to its end; 3 locked" in printed.getvalue()


def test_nobody_asks_for_more_than_there_is(systems: ScriptedSystems) -> None:
    numbers = {"resource": "numbers", "key": "${order.region}", "units": 2}
    a_shop(numbers)
    # Who names a resource first gets at least what it asks for.
    assert Resource.objects.get().capacity == 2
    changing(region="AT")
    with pytest.raises(DefinitionInvalid) as refused:
        desk.workflow({"one": desk.task(locks=[numbers | {"units": 3}])}, offering="other")
    (fault,) = refused.value.faults
    assert (fault.code, fault.path) == ("definition.locks_beyond_capacity", "tasks")
    assert "manage.py resources capacity numbers 3" in fault.message
    with pytest.raises(CapacityUnusable):
        operations.set_capacity(
            resource="numbers", capacity=1, actor=by("anna"), reason="Sold one."
        )
    assert Resource.objects.get().capacity == 2
    assert Operation.objects.count() == 0


def test_orders_under_way_get_what_they_ask_for(systems: ScriptedSystems) -> None:
    a_shop({"resource": "numbers", "key": "${order.region}", "units": 3})
    order = changing(region="AT")
    desk.workflow({"change": desk.task()}, version=2)
    with pytest.raises(CapacityUnusable):
        operations.set_capacity(
            resource="numbers", capacity=2, actor=by("anna"), reason="Sold one."
        )
    desk.drain()
    assert state(order) == "SUCCEEDED"
    operations.set_capacity(resource="numbers", capacity=2, actor=by("anna"), reason="Sold one.")
    assert Resource.objects.get().capacity == 2


def test_a_new_version_takes_over_what_its_order_keeps(systems: ScriptedSystems) -> None:
    a_shop(of_plan=(CUSTOMER,))
    order, second = changing("A-1"), changing("A-2")
    (taken,) = claim()
    ended(taken)
    fulfils = [{"offering": "thing", "actions": ["add", "modify"]}]
    tasks = {"change": desk.task(), "bill": desk.task("beta", after=["change"])}
    desk.workflow(
        {**tasks, "tell": desk.task("beta", after=["bill"])},
        fulfils=fulfils,
        locks=[CUSTOMER, {"resource": "region", "key": "${order.region}"}],
        version=2,
    )
    moved = operations.migrate_orders(
        workflow="thing",
        version=2,
        orders=[order.reference],
        actor=by("anna"),
        reason="The new one.",
    )
    assert [str(one.verdict) for one in moved] == ["moved"]
    assert kept() == {"customer:C-1"}
    assert claim() == []
    ended(*claim("beta"))
    ended(*claim("beta"))
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert kept() == set()
    desk.drain()
    assert state(second) == "SUCCEEDED"


def test_a_long_line_forms_at_once(systems: ScriptedSystems) -> None:
    """Not a few with every claim: those behind it are not to wait for that."""
    a_shop(CUSTOMER)
    desk.submit_all(*[desk.request(customer_id="BIG") for _ in range(30)])
    desk.submit_all(desk.request(customer_id="SMALL", priority=-1))
    (taken,) = desk.claim(limit=1)
    (single,) = desk.claim(limit=1)
    assert len(lined_up()) == 29
    # Everybody has a turn all the same.
    ended(taken, single)
    desk.finish(rounds=100)
    assert not lined_up()
    assert not Task.objects.exclude(state="SUCCEEDED").exists()


def test_what_has_its_locks_meanwhile_does_not_line_up(systems: ScriptedSystems) -> None:
    a_shop(CUSTOMER)
    first, second = changing("A-1"), changing("A-2", customer_id="C-2")
    claim()
    both = [desk.tasks_of(order)["change@1"].pk for order in (first, second)]
    locksmith.line_up(task_ids=both)
    assert lined_up() == set()
    third = changing("A-3")
    locksmith.line_up(task_ids=[desk.tasks_of(third)["change@1"].pk])
    assert lined_up() == {f"{third.reference} customer:C-1"}
