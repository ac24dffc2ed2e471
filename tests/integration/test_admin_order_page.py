"""The order's page: how it stands, why it waits, its picture, what has happened."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from fulfillment import stuck
from fulfillment.admin import picture
from fulfillment.models import Plan, Task
from oms.changes import cancelling
from oms.models import CancellationRequest, Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


def _page(boss: Client, order: Order) -> str:
    return text_of(boss, address_of(Order, "change", order.pk))


def _table(page: str, heading: str) -> str:
    """The table below this heading."""
    start = page.index(f"<h2>{heading}</h2>")
    return page[start : page.index("</table>", start)]


def _picture(page: str) -> str:
    start = page.index('<svg role="graphics-document img"')
    return page[start : page.index("</svg>", start)]


def test_it_says_how_the_order_stands_and_why_it_waits(boss: Client, halfway: Order) -> None:
    page = _page(boss, halfway)
    assert f">{halfway.reference}</strong>" in page
    assert "SHOP-7 of a-client" in page
    assert "What keeps it" in page
    assert "It failed, and is not tried again by itself. no_stock: The target says no." in page
    assert "1 of 2 tasks done" in page
    assert 'aria-valuenow="1"' in page
    assert "It is ready" in page
    assert "the target system refused it" in page


def test_a_blocked_plan_says_so_at_once_and_a_stuck_one_once(boss: Client, halfway: Order) -> None:
    words = "Nothing can move without help. two@1: no_stock"
    assert _table(_page(boss, halfway), "What keeps it").count(words) == 1
    assert stuck.detect_stuck() == 1
    page = _page(boss, halfway)
    assert _table(page, "What keeps it").count(words) == 1
    assert "⚠</span> stuck" in page
    assert "⚠</span> stuck" in text_of(boss, address_of(Order, "changelist"))
    assert "⚠</span> stuck" in text_of(boss, address_of(Plan, "changelist"))


def test_an_order_that_is_being_examined_says_what_for(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    check = {"target": "alpha", "action": "can_it", "input": {}}
    desk.workflow({"one": desk.task()}, feasibility=[check])
    order = desk.order()
    assert order.waiting_reason in _page(boss, order)
    assert "◔</span> validating" in _page(boss, order)


def test_a_rejected_order_shows_every_fault(boss: Client, systems: ScriptedSystems) -> None:
    order = desk.order(desk.item("nothing-like-it"), desk.item("nor-this", item_id="2"))
    page = _page(boss, order)
    assert page.count("offering.unknown") >= 2
    assert "nothing-like-it" in page
    assert "nor-this" in page
    assert "Why it was refused" in page


def test_a_task_that_is_tried_again_says_when(
    boss: Client, systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    desk.target("alpha")
    # Long enough that it is still ahead when the page is read.
    in_ten_minutes = {"initial_interval": "PT10M", "maximum_interval": "PT10M"}
    desk.workflow({"one": desk.task(retry=in_ten_minutes)})
    systems.sends["one"] = [desk.failed()]
    order = desk.order()
    desk.drain()
    page = _page(boss, order)
    due = desk.tasks_of(order)["one@1"].not_before
    assert f"next try at {due:%Y-%m-%d %H:%M:%S} UTC" in page
    clock(3600)
    desk.drain()
    page = _page(boss, order)
    assert "What keeps it" not in page
    assert "1 of 1 tasks done" in page


def test_the_picture_has_a_link_for_every_task(boss: Client, halfway: Order) -> None:
    picture = _picture(_page(boss, halfway))
    for task in desk.tasks_of(halfway).values():
        assert f'href="{address_of(Task, "change", task.pk)}"' in picture
    assert "✓ succeeded" in picture
    assert "✗ failed final" in picture
    assert "hands over number" in picture
    assert "item 1" in picture


def test_the_picture_is_told_to_those_who_do_not_see_it(boss: Client, halfway: Order) -> None:
    picture = _picture(_page(boss, halfway))
    assert 'aria-labelledby="desk-picture-title desk-picture-told"' in picture
    assert '<title id="desk-picture-title">' in picture
    assert "2 tasks in 2 steps: 1 succeeded, 1 failed final." in picture


def test_the_plan_s_page_has_the_same_picture(boss: Client, halfway: Order) -> None:
    plan = desk.plan_of(halfway)
    picture = _picture(text_of(boss, address_of(Plan, "change", plan.pk)))
    assert picture == _picture(_page(boss, halfway))


def test_a_large_order_is_listed_rather_than_drawn(
    boss: Client, halfway: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "LARGEST", 1)
    page = _page(boss, halfway)
    assert "2 tasks are too many for a picture" in page
    assert "<svg role" not in page


def test_it_says_who_wants_it_cancelled_and_what_that_waits_for(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    cancelling.cancel(order=order, requested_by="anna", reason="Ordered <b>twice</b>.")
    page = _page(boss, order)
    assert "Whether one@1 is done has to be known first" in page
    (sentence,) = re.findall(r'<p class="order-sentence">(.*?)</p>', page, re.DOTALL)
    assert sentence.startswith("It is to be cancelled. Whether one@1 is done has to be known")
    assert "alpha is working on it" in sentence
    assert "Ordered &lt;b&gt;twice" in page
    assert "↶</span> assessing cancellation" in page
    request = order.cancellations.get()
    detail = text_of(boss, address_of(CancellationRequest, "change", request.pk))
    assert "waits_for" in detail
    assert order.reference in detail


def test_what_waits_for_its_window_is_not_said_to_be_runnable(
    boss: Client, systems: ScriptedSystems
) -> None:
    opens = (desk.now() + timedelta(hours=12)).hour
    window = {
        "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "from": f"{opens:02d}:00",
        "to": f"{(opens + 1) % 24:02d}:00",
        "timezone": "UTC",
    }
    desk.target("alpha")
    desk.workflow({"one": desk.task(window=window)})
    order = desk.order()
    desk.drain()
    page = _page(boss, order)
    assert re.search(r"not before\s+\d{4}-\d\d-\d\d", re.sub(r"<[^>]*>", "", page))
    assert "runnable since" not in page
