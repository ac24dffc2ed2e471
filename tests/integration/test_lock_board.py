"""The lock board: who keeps what, who waits in which order, and who may break it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.http import urlencode

from fulfillment.actions import Action
from fulfillment.engine.store.database import cursor
from fulfillment.models import FalloutCase, Resource, ResourceLock, Task
from fulfillment.queries import lines
from fulfillment.queries.lines import LockBoard, line, lock_board
from oms.models import Order
from tests import by_force, desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_resource_locks import ASSET, CUSTOMER, a_shop, changing
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


def stand_in_line(order: Order, *, copies: int) -> None:
    """So many tasks more like the one of this order that waits for a lock."""
    columns = [
        f'"{field.column}"'
        for field in Task._meta.concrete_fields
        if field.column not in ("id", "element")
    ]
    told = ", ".join(columns)
    by_force.like_a_unit()
    with cursor() as raw:
        raw.execute(
            f"INSERT INTO fulfillment_task ({told}, element) SELECT {told}, n"
            " FROM fulfillment_task, generate_series(1, %s) n"
            " WHERE fulfillment_id = %s AND waits_for_lock <> ''",
            [copies, order.fulfillment_id],
        )


def names(board: LockBoard) -> tuple[list[str], list[str]]:
    return [one.name for one in board.lines], [one.name for one in board.kept]


@pytest.fixture
def shop(systems: ScriptedSystems) -> list[Order]:
    """One order has customer C-1 to its end and asset A-1 for its task; three want the customer."""
    a_shop(ASSET, of_plan=(CUSTOMER,))
    first = changing("A-1")
    desk.claim(limit=10)
    others = []
    for number, priority in ((2, 0), (3, 0), (4, 9)):
        desk.advance(60)
        others.append(changing(f"A-{number}", priority=priority))
    desk.claim(limit=10)
    return [first, *others]


def test_it_tells_who_keeps_what_and_who_is_next(shop: list[Order]) -> None:
    first, second, third, urgent = shop
    board = lock_board()
    assert names(board) == (["customer:C-1"], ["asset:A-1", "customer:C-1"])
    (found,) = board.lines
    assert (found.capacity, found.waiting, found.is_long) == (1, 3, False)
    assert [(one.order_reference, one.task) for one in found.keepers] == [(first.reference, "")]
    assert [one.order_reference for one in found.first] == [
        urgent.reference,
        second.reference,
        third.reference,
    ]
    assert {(one.task, one.target) for one in found.first} == {("change@1", "alpha")}
    assert found.since == min(one.since for one in found.first)
    by_name = {one.name: one.keeper for one in board.kept}
    assert by_name["asset:A-1"].task == "change@1"
    assert by_name["customer:C-1"].task == ""
    kinds = [(one.name, one.kept_by.value, one.capacity, one.locks) for one in board.kinds]
    assert kinds == [("asset", "TASK", 1, 1), ("customer", "PLAN", 1, 1)]
    assert (board.locks, board.is_full, board.circles) == (2, False, [])


def test_of_one_kind_it_tells_only_that(shop: list[Order]) -> None:
    assert names(lock_board(kind="asset")) == ([], ["asset:A-1"])
    assert names(lock_board(kind="customer")) == (["customer:C-1"], ["customer:C-1"])
    assert names(lock_board(kind="nothing")) == ([], [])


def test_the_longest_wait_comes_first(systems: ScriptedSystems) -> None:
    a_shop(CUSTOMER)
    for customer in ("C-2", "C-1"):
        changing(customer_id=customer)
    desk.claim(limit=10)
    for customer in ("C-2", "C-1"):
        desk.advance(60)
        changing(customer_id=customer)
    desk.claim(limit=10)
    board = lock_board()
    assert [one.name for one in board.lines] == ["customer:C-2", "customer:C-1"]
    assert board.lines[0].since < board.lines[1].since


def test_a_line_that_thousands_stand_in_does_not_hide_the_others(
    shop: list[Order], systems: ScriptedSystems
) -> None:
    desk.advance(60)
    changing("A-1", customer_id="C-2")
    desk.claim(limit=10)
    stand_in_line(shop[1], copies=1200)
    long, short = lock_board().lines
    assert (long.name, short.name) == ("customer:C-1", "asset:A-1")
    assert (long.is_long, len(long.first)) == (True, 3)
    whole = line(name="customer:C-1")
    assert whole is not None
    assert len(whole.first) == 100
    assert line(name="customer:C-9") is None


def test_orders_that_waited_for_each_other_stay_until_somebody_has_looked(
    shop: list[Order],
) -> None:
    case = FalloutCase.objects.create(
        subject="circle:1",
        category="STUCK",
        severity="HIGH",
        reason_code="waited_in_a_circle",
        title="A circle",
        explanation="These orders waited for each other: O-1, O-2.",
        owner_queue="operations",
        sla_due_at=desk.now(),
        opened_by="a test",
        opened_at=desk.now(),
    )
    (circle,) = lock_board().circles
    assert (circle.case_id, circle.told) == (case.pk, case.explanation)
    FalloutCase.objects.update(state="RESOLVED", resolved_at=desk.now())
    assert lock_board().circles == []


# --- the page ------------------------------------------------------------------------------------


def looks(client: Client, name: str, *actions: Action) -> Client:
    user = people.operator(name, *actions)
    user.user_permissions.add(
        *Permission.objects.filter(codename__in=["view_resourcelock", "view_resource"])
    )
    client.force_login(user)
    return client


def board(client: Client, **asked: str) -> str:
    return text_of(client, f"{reverse('desk_locks')}?{urlencode(asked)}")


def break_form(lock: str, order: Order) -> str:
    subject = f"lock:{lock}@{order.reference}"
    return reverse("admin:fulfillment_operate", args=[Action.LOCK_BREAK.value, subject])


def test_the_board_shows_the_line_and_whoever_may_breaks(client: Client, shop: list[Order]) -> None:
    first, second, *_ = shop
    page = board(looks(client, "bert", Action.LOCK_BREAK))
    assert "customer:C-1" in page
    assert reverse("order_page", args=[second.reference]) in page
    assert client.get(break_form("customer:C-1", first)).status_code == 200
    assert break_form("customer:C-1", first) in page
    assert "operate" not in board(looks(client, "anna"))
    assert client.get(break_form("customer:C-1", first)).status_code == 403


def test_the_board_of_a_kind_shows_only_that(client: Client, shop: list[Order]) -> None:
    page = board(looks(client, "anna"), kind="asset")
    assert "asset:A-1" in page
    assert "customer:C-1" not in page
    for unknown in ("nothing", "a\0b", "'"):
        assert "customer:C-1" in board(client, kind=unknown)


def test_names_of_locks_are_shown_as_they_are(client: Client, systems: ScriptedSystems) -> None:
    a_shop(CUSTOMER)
    changing(customer_id="<b>C</b>")
    desk.claim(limit=10)
    assert ResourceLock.objects.exists()
    page = board(looks(client, "anna", Action.LOCK_BREAK))
    assert "&lt;b&gt;C&lt;/b&gt;" in page
    assert "<b>C</b>" not in page


def test_without_locks_it_says_what_that_means(client: Client) -> None:
    page = board(looks(client, "anna"))
    assert "Nobody waits for a lock" in page
    assert "Nothing is locked" in page


def test_who_may_not_see_locks_does_not_see_the_board(client: Client) -> None:
    client.force_login(people.operator("nobody"))
    assert client.get(reverse("desk_locks")).status_code == 403
    assert reverse("desk_locks") not in text_of(client, reverse("admin:index"))


def cost(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        text_of(client, address)
    return len(asked)


def test_pages_cost_the_same_with_thousands_of_locks(client: Client, shop: list[Order]) -> None:
    looks(client, "bert", Action.LOCK_BREAK)
    stand_in_line(shop[1], copies=100)
    lock = ResourceLock.objects.get(name="customer:C-1")
    addresses = [
        reverse("desk_locks"),
        address_of(ResourceLock, "change", lock.pk),
        address_of(Resource, "change", "customer"),
    ]
    _, few = ([cost(client, address) for address in addresses] for _ in range(2))
    with cursor() as raw:
        raw.execute(
            "INSERT INTO fulfillment_resourcelock (name, units, fulfillment_id, plan_id, taken_at)"
            " SELECT 'asset:B-' || n, 1, fulfillment_id, plan_id, taken_at"
            " FROM fulfillment_resourcelock, generate_series(1, 10000) n WHERE id = %s",
            [lock.pk],
        )
        raw.execute(
            "UPDATE fulfillment_task SET waits_for_lock = 'asset:B-' || id, waits_for = 'LOCK'"
            " WHERE waits_for = 'LOCK' AND element > 50"
        )
    assert [cost(client, address) for address in addresses] == few
    board = lock_board()
    assert board.is_full
    assert len(board.kept) == lines.SHOWN
    assert "10,000+" in text_of(client, addresses[0])


def test_the_page_of_a_lock_tells_its_line(client: Client, shop: list[Order]) -> None:
    looks(client, "bert", Action.LOCK_BREAK)
    kept: dict[str, Any] = {row.name: row.pk for row in ResourceLock.objects.all()}
    page = text_of(client, address_of(ResourceLock, "change", kept["customer:C-1"]))
    assert page.index(shop[3].reference) < page.index(shop[1].reference)
    assert break_form("customer:C-1", shop[0]) in page
    alone = text_of(client, address_of(ResourceLock, "change", kept["asset:A-1"]))
    assert "Nobody waits for it." in alone
