"""Locks with several workers at once, on committed data: never too many, and no turn is lost."""

from __future__ import annotations

import logging
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction

from adapters.contract import OutcomeKind
from fulfillment import operations
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import scanning
from fulfillment.engine.work import locking
from fulfillment.models import (
    Fulfillment,
    HoldScope,
    LockRelease,
    Resource,
    ResourceLock,
    TargetCondition,
    Task,
)
from fulfillment.operations import Verdict
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.integration.test_races import somebody_waits_for_me
from tests.together import closing, together
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")

CUSTOMER = {"resource": "customer", "key": "${order.customer.id}"}
POOL = {"resource": "pool", "key": "${order.region}"}
QUICKLY = {"initial_interval": "PT0.01S", "maximum_interval": "PT0.01S", "maximum_attempts": 99}
NOW = timedelta(0)


class Floor:
    """Who is at work under which lock, as the target systems see it."""

    def __init__(self, name_of: Callable[[Claim], tuple[str, int]]) -> None:
        self._name_of = name_of
        self._inside: dict[str, set[int]] = defaultdict(set)
        self._lock = threading.Lock()
        self.most: dict[str, int] = defaultdict(int)

    def comes(self, claim: Claim) -> None:
        with self._lock:
            name, who = self._name_of(claim)
            self._inside[name].add(who)
            self.most[name] = max(self.most[name], len(self._inside[name]))

    def goes(self, claim: Claim) -> None:
        with self._lock:
            name, who = self._name_of(claim)
            self._inside[name].discard(who)


class Worker:
    """Claims and settles until every order is completed; some calls go wrong on the way."""

    def __init__(self, number: int, floor: Floor, *, targets: tuple[str, ...] = ("alpha",)) -> None:
        self._dice = random.Random(number)
        self._floor = floor
        self._targets = targets

    def __call__(self) -> None:
        until(self._look, seconds=60)

    def _look(self) -> bool:
        for target in self._targets:
            for claim in desk.claim(target, limit=self._dice.randint(1, 3)):
                self._floor.comes(claim)
                outcome = self._dice.choice(
                    [desk.succeeded()] * 4 + [desk.unknown(), desk.failed()]
                )
                if outcome.kind is OutcomeKind.SUCCEEDED and self.is_last(claim):
                    self._floor.goes(claim)
                desk.settle_call(claim, outcome)
        return not Order.objects.exclude(state="COMPLETED").exists()

    def is_last(self, claim: Claim) -> bool:
        """Whether with it whoever works under the lock is done."""
        return claim.command.action == "last"


def of_pool(claim: Claim) -> tuple[str, int]:
    return "pool:AT", claim.task_id


def nothing_is_left() -> None:
    assert not ResourceLock.objects.exists()
    assert not Task.objects.exclude(waits_for_lock="").exists()
    scanning.scan()  # A note that nobody needs any more is in nobody's way until then.
    assert not LockRelease.objects.exists()


@pytest.fixture
def no_deadlocks(caplog: pytest.LogCaptureFixture) -> Callable[[], None]:
    caplog.set_level(logging.WARNING, "fulfillment.engine.work.running")

    def check() -> None:
        reasons = [getattr(record, "reason", "") for record in caplog.records]
        assert not {reason for reason in reasons if "Deadlock" in reason}, reasons

    return check


@pytest.mark.parametrize("capacity", [1, 3])
def test_never_more_than_there_is_room_for_and_nobody_is_forgotten(
    systems: ScriptedSystems, no_deadlocks: Callable[[], None], capacity: int
) -> None:
    """Without a scanner: whoever releases calls up the next."""
    desk.target("alpha", breaker_failures=3, breaker_pause=timedelta(seconds=0.02))
    desk.workflow({"last": desk.task(locks=[POOL], retry=QUICKLY)})
    Resource.objects.update(capacity=capacity)
    desk.submit_all(*(desk.request(region="AT", customer_id=f"C-{n % 3}") for n in range(24)))
    floor = Floor(of_pool)
    for claim in desk.claim(limit=24):
        floor.comes(claim)
        desk.settle_call(claim, desk.unknown())
    assert floor.most == {"pool:AT": capacity}
    together(*(Worker(number, floor) for number in range(5)))
    assert floor.most == {"pool:AT": capacity}
    nothing_is_left()
    no_deadlocks()


def test_one_order_of_a_customer_at_a_time_from_its_first_task_to_its_last(
    systems: ScriptedSystems, no_deadlocks: Callable[[], None]
) -> None:
    for name in ("alpha", "beta"):
        desk.target(name, breaker_failures=3, breaker_pause=timedelta(seconds=0.02))
    desk.workflow(
        {
            "one": desk.task(retry=QUICKLY),
            "two": desk.task("beta", retry=QUICKLY, locks=[POOL]),
            "last": desk.task(after=["one", "two"], retry=QUICKLY, locks=[POOL]),
        },
        locks=[CUSTOMER],
    )
    orders = [desk.request(region="AT", customer_id=f"C-{n % 2}") for n in range(12)]
    desk.submit_all(*orders)
    customers = dict(Fulfillment.objects.values_list("pk", "customer"))
    floor = Floor(lambda claim: (customers[claim.fulfillment_id], claim.fulfillment_id))
    together(*(Worker(number, floor, targets=("alpha", "beta")) for number in range(5)))
    assert floor.most == {"C-0": 1, "C-1": 1}
    nothing_is_left()
    no_deadlocks()


def test_holds_that_come_and_go_meanwhile(
    systems: ScriptedSystems, no_deadlocks: Callable[[], None]
) -> None:
    """Who is held when its turn comes does not keep the lock from the others for ever."""
    desk.target("alpha", breaker_failures=3, breaker_pause=timedelta(seconds=0.02))
    desk.workflow({"last": desk.task(locks=[POOL], retry=QUICKLY)})
    desk.submit_all(*(desk.request(region="AT") for _ in range(16)))
    references = list(Order.objects.values_list("reference", flat=True))
    floor = Floor(of_pool)

    def hold_and_release() -> None:
        dice = random.Random(9)
        for reference in dice.sample(references, 12):
            placed = operations.place_hold(
                scope=HoldScope.ORDER, name=reference, reason="x", actor=by("ann"), patience=NOW
            )
            scanning.scan()
            assert placed.hold_id is not None
            operations.release_hold(hold_id=placed.hold_id, reason="x", actor=by("ann"))
            scanning.scan()

    together(*(Worker(number, floor) for number in range(3)), hold_and_release)
    assert floor.most == {"pool:AT": 1}
    nothing_is_left()
    no_deadlocks()


def test_orders_that_keep_a_lock_are_migrated_meanwhile(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    tasks = {"one": desk.task(retry=QUICKLY), "last": desk.task(after=["one"], retry=QUICKLY)}
    desk.workflow(tasks, locks=[CUSTOMER])
    desk.submit_all(*(desk.request(customer_id="C-1") for _ in range(8)))
    floor = Floor(lambda claim: ("C-1", claim.fulfillment_id))
    moved: list[Verdict] = []

    def migrate() -> None:
        for version in range(2, 6):
            more = {f"more{version}": desk.task(retry=QUICKLY)}
            tasks["last"] = desk.task(after=["one", *more], retry=QUICKLY)
            desk.workflow({**tasks, **more}, locks=[CUSTOMER], version=version)
            done = operations.migrate_orders(
                workflow="thing", version=version, orders=None, actor=by("ann"), reason="x"
            )
            moved.extend(one.verdict for one in done)

    together(*(Worker(number, floor) for number in range(3)), migrate)
    assert Verdict.MOVED in moved
    assert floor.most == {"C-1": 1}
    nothing_is_left()


# --- each race by itself --------------------------------------------------------------------------


def a_pool(capacity: int, *, orders: int) -> list[Order]:
    desk.target("alpha")
    desk.workflow({"last": desk.task(locks=[POOL])})
    Resource.objects.update(capacity=capacity)
    return [desk.order(region="AT", customer_id=f"C-{n}") for n in range(orders)]


def ended(claim: Claim) -> None:
    desk.settle_call(claim, desk.succeeded())


def in_line() -> int:
    return Task.objects.exclude(waits_for_lock="").count()


def enter(name: str, *, wait: bool = True) -> bool:
    """Be the one who takes, releases or lines up for a lock, until the transaction ends."""
    function = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    with connection.cursor() as raw:
        raw.execute(
            f"SELECT {function}(hashtextextended('fulfillment.lock:' || %s, 0))::text", [name]
        )
        return bool(raw.fetchone()[0] == "true")


@pytest.mark.parametrize("does", ["claims", "settles", "calls up"])
def test_names_are_entered_in_their_order_after_the_orders_and_before_the_target(
    systems: ScriptedSystems, does: str
) -> None:
    """Everybody takes what may have to be waited for in one order: so nobody waits in a circle."""
    desk.target("alpha", breaker_failures=5)
    desk.workflow({"last": desk.task(locks=[POOL, {**POOL, "resource": "dock"}])})
    desk.submit_all(*(desk.request(region="AT") for _ in range(2)))
    TargetCondition.objects.update(failures_in_a_row=1)  # So the next answer is written there.
    work: Callable[[], object] = partial(desk.claim, limit=2)
    if does != "claims":
        (claim,) = desk.claim(limit=2)
        work = partial(ended, claim)
    if does == "calls up":
        LockRelease.objects.bulk_create([LockRelease(name="dock:AT"), LockRelease(name="pool:AT")])
        work = locking.wake
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            enter("dock:AT")
            working = threads.submit(closing(work))
            until(somebody_waits_for_me)
            assert enter("pool:AT", wait=False)
            assert len(list(TargetCondition.objects.select_for_update(nowait=True))) == 1
            free = list(Fulfillment.objects.select_for_update(skip_locked=True))
            assert len(free) == {"claims": 0, "settles": 1, "calls up": 2}[does]
        working.result(timeout=30)


def test_a_lock_is_handed_on_from_one_to_the_next_without_a_scanner(
    systems: ScriptedSystems,
) -> None:
    orders = a_pool(1, orders=5)
    for left in reversed(range(len(orders))):
        (claim,) = desk.claim(limit=10)
        assert in_line() == left
        ended(claim)
    assert set(Order.objects.values_list("state", flat=True)) == {"COMPLETED"}
    nothing_is_left()


def test_who_lines_up_while_the_lock_is_released_is_called_up(systems: ScriptedSystems) -> None:
    a_pool(1, orders=1)
    (claim,) = desk.claim()
    second = desk.order(region="AT")
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            assert desk.claim() == []
            release = threads.submit(closing(partial(ended, claim)))
            until(somebody_waits_for_me)
            assert in_line() == 1
        release.result(timeout=30)
    (claim,) = desk.claim()
    assert claim.fulfillment_id == second.fulfillment_id


def test_who_comes_while_the_lock_is_released_does_not_line_up(systems: ScriptedSystems) -> None:
    a_pool(1, orders=1)
    (claim,) = desk.claim()
    desk.order(region="AT")
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            ended(claim)
            second = threads.submit(closing(desk.claim))
            until(somebody_waits_for_me)
        assert len(second.result(timeout=30)) == 1
    assert in_line() == 0


def test_nobody_lines_up_behind_who_is_not_sent_after_all(systems: ScriptedSystems) -> None:
    """Its target was paused meanwhile: nobody has the lock, so nobody would release it."""
    first, second = a_pool(1, orders=2)
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Fulfillment.objects.select_for_update().get(pk=first.fulfillment_id)
            claims = threads.submit(closing(partial(desk.claim, limit=2)))
            until(somebody_waits_for_me)
            TargetCondition.objects.update(paused_at=desk.now())
        assert claims.result(timeout=30) == []
    assert in_line() == 0
    TargetCondition.objects.update(paused_at=None)
    operations.place_hold(
        scope=HoldScope.ORDER, name=first.reference, reason="x", actor=by("ann"), patience=NOW
    )
    (claim,) = desk.claim(limit=2)
    assert claim.fulfillment_id == second.fulfillment_id


def test_whose_row_is_in_use_is_called_up_later(systems: ScriptedSystems) -> None:
    """Though somebody else keeps the lock as well, perhaps for days."""
    orders = a_pool(2, orders=3)
    claims = desk.claim(limit=3)
    assert len(claims) == 2
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Task.objects.select_for_update().get(fulfillment_id=orders[-1].fulfillment_id)
            threads.submit(closing(partial(ended, claims[0]))).result(timeout=30)
            assert in_line() == 1
    assert ResourceLock.objects.count() == 1
    locking.wake()
    assert in_line() == 0
    (claim,) = desk.claim()
    assert claim.fulfillment_id == orders[-1].fulfillment_id


def test_more_room_is_for_those_too_who_line_up_meanwhile(systems: ScriptedSystems) -> None:
    a_pool(1, orders=2)
    enlarge = partial(
        operations.set_capacity, resource="pool", capacity=2, actor=by("ann"), reason="One more."
    )
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            assert len(desk.claim(limit=2)) == 1
            assert in_line() == 1
            enlarged = threads.submit(closing(enlarge))
            until(somebody_waits_for_me)
        enlarged.result(timeout=30)
    assert in_line() == 0
    assert len(desk.claim()) == 1
