"""The history of an order as one list: complete, in order, filtered, page by page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fulfillment import operations
from fulfillment.models import Command, HoldScope, InboundEvent, Task
from fulfillment.queries import timeline
from fulfillment.queries.timeline import Cursor, Entry, Page, Wanted
from oms.models import Order
from oms.queries.timeline import SOURCES, history
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


def told(order: Order, **wanted: object) -> list[Entry]:
    """All entries, over all pages."""
    order = Order.objects.select_related("fulfillment").get(pk=order.pk)
    found: list[Entry] = []
    page: Page | None = None
    while page is None or page.next is not None:
        after = page.next if page else None
        page = history(order=order, wanted=Wanted(after=after, **wanted))  # type: ignore[arg-type]
        found += page.entries
    return found


@pytest.fixture
def everything(halfway: Order) -> Order:
    """An order that has an entry of every kind."""
    task = desk.tasks_of(halfway)["two@1"]
    operations.place_hold(
        scope=HoldScope.ORDER, name=halfway.reference, reason="Wait a moment.", actor=by("ann")
    )
    command = Command.objects.get(task=task)
    InboundEvent.objects.create(
        source="alpha",
        event_id="evt-1",
        idempotency_key=command.idempotency_key,
        body={},
        disposition="CONFLICTING",
        task=task,
        received_at=desk.now(),
    )
    return halfway


def test_every_kind_of_thing_that_happened_is_in_it(everything: Order) -> None:
    assert {entry.kind for entry in told(everything)} == {source.kind for source in SOURCES}


def test_it_reads_as_it_happened(everything: Order) -> None:
    entries = told(everything, oldest_first=True, task="one@1")
    beside = ("event", "outbox", "delivery")
    assert [(one.kind, one.after) for one in entries if one.kind not in beside] == [
        ("task", "READY"),
        ("command", ""),
        ("task", "DISPATCHED"),
        ("attempt", ""),
        ("result", "SUCCEEDED"),
        ("task", "SUCCEEDED"),
    ]
    assert entries == told(everything, task="one@1")[::-1]


def test_pages_have_each_entry_once(everything: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = told(everything)
    for size in (1, 3, len(whole)):
        monkeypatch.setattr(timeline, "PER_PAGE", size)
        assert told(everything) == whole
        assert told(everything, oldest_first=True) == whole[::-1]


def test_each_filter_narrows(everything: Order) -> None:
    whole = told(everything)
    assert {one.kind for one in told(everything, kinds=frozenset({"result", "plan"}))} == {
        "result",
        "plan",
    }
    trouble = told(everything, trouble=True)
    assert trouble == [one for one in whole if one.is_trouble]
    assert {one.kind for one in trouble} >= {"task", "plan", "result", "event", "care"}
    of_two = told(everything, task="two@1")
    assert {one.task for one in of_two if one.kind != "care"} == {"two@1"}
    assert any(one.entity == "case" for one in of_two)
    assert told(everything, task="no such task") == []
    assert told(everything, item=1, kinds=frozenset({"task"})) == told(
        everything, kinds=frozenset({"task"})
    )
    assert told(everything, item=7) == []


def test_a_key_leads_to_what_became_of_it(everything: Order) -> None:
    command = Command.objects.get(task__key="two@1")
    of_key = told(everything, key=command.idempotency_key)
    assert {one.kind for one in of_key} >= {"command", "attempt", "result", "event", "task"}
    assert {one.task for one in of_key} == {"two@1"}
    assert [one.kind for one in told(everything, key="evt-1")] == ["event"]
    assert told(everything, key="no\0 such key") == []
    # The correlation id is in everything that leaves for the order.
    whole = told(everything)
    assert told(everything, key=everything.fulfillment.correlation_id) == whole
    assert told(everything, key=everything.reference) == whole


def test_another_order_s_history_is_not_in_it(everything: Order, systems: ScriptedSystems) -> None:
    before = told(everything)
    other = desk.order(desk.item(), external_id="SHOP-8")
    desk.drain()
    assert told(everything) == before
    assert not {(one.table, one.pk) for one in told(other)} & {
        (one.table, one.pk) for one in before
    }


def test_a_page_of_a_long_history_costs_as_much_as_one_of_a_short_one(
    everything: Order, clock: Callable[[float], None]
) -> None:
    def queries(order: Order) -> int:
        order = Order.objects.select_related("fulfillment").get(pk=order.pk)
        with CaptureQueriesContext(connection) as asked:
            history(order=order, wanted=Wanted())
        return len(asked)

    few = queries(everything)
    wide = desk.order(*[desk.item(item_id=str(number)) for number in range(60)])
    desk.drain()
    assert len(told(wide)) > 300
    assert queries(wide) <= few <= len(SOURCES) + 5


@pytest.mark.parametrize(
    "text", ["", "1-2", "a-b-c", "1-2-3-4", "9" * 25 + "-1-1", "-1-1-1", "٣-1-1"]
)
def test_what_is_no_place_in_it_is_none(text: str) -> None:
    assert Cursor.parse(text) is None


def test_a_place_in_it_reads_as_it_was_written() -> None:
    place = Cursor(at=desk.now(), rank=3, pk=12)
    assert Cursor.parse(str(place)) == place


# --- on the order's page --------------------------------------------------------------------------


def entries_of(boss: Client, order: Order, query: str = "") -> str:
    page = text_of(boss, f"{address_of(Order, 'change', order.pk)}{query}")
    return page[page.index('id="order-entries"') : page.index('id="order-versions"')]


def test_the_page_has_it_newest_first_with_links(boss: Client, everything: Order) -> None:
    shown = entries_of(boss, everything)
    steps = ["■</span> blocked", "✗</span> failed final", "✓</span> succeeded", "submitted"]
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)
    task = Task.objects.get(key="two@1")
    assert f'<a class="desk-link" href="{address_of(Task, "change", task.pk)}">two@1' in shown
    assert "Wait a moment." in shown
    assert "Older entries" not in shown
    assert "data-live-seconds" in shown
    oldest = entries_of(boss, everything, "?sort=oldest")
    assert oldest.index("submitted") < oldest.index("■</span> blocked")
    assert "data-live-seconds" not in oldest


def test_what_is_asked_for_is_in_the_address(boss: Client, everything: Order) -> None:
    shown = entries_of(boss, everything, "?kind=result&trouble=1&task=two%401")
    assert "The target says no." in shown
    assert "Wait a moment." not in shown
    assert "✓</span> succeeded" not in shown
    page = text_of(boss, f"{address_of(Order, 'change', everything.pk)}?kind=result&task=two%401")
    assert 'name="kind" value="result" checked' in page
    assert 'name="task" value="two@1"' in page
    assert "Nothing like that has happened." in entries_of(boss, everything, "?task=nothing")
    for nonsense in ("?from=x&item=y&kind=z&sort=q", "?key=a%00b", "?item=99999999999999"):
        entries_of(boss, everything, nonsense)


def test_a_long_history_has_pages(boss: Client, everything: Order) -> None:
    wide = desk.order(*[desk.item(item_id=str(number)) for number in range(40)])
    desk.drain()
    shown = entries_of(boss, wide)
    assert "Older entries" in shown
    start = shown.rindex('href="', 0, shown.index("Older entries")) + len('href="')
    address = shown[start : shown.index('"', start)].replace("&amp;", "&")
    second = text_of(boss, address.partition("#")[0])
    assert "Back to the newest" in second
    assert shown.count("<time ") == 100


def test_it_looks_at_itself_again_alone(boss: Client, everything: Order) -> None:
    address = address_of(Order, "change", everything.pk)
    alone = boss.get(
        f"{address}?trouble=1", headers={"HX-Request": "true", "HX-Target": "order-entries"}
    ).content.decode()
    assert alone.lstrip().startswith('<section id="order-entries"')
    assert "order-now" not in alone
    assert "Wait a moment." not in alone
    assert "The target says no." in alone
