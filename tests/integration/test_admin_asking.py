"""What the form of an operation shows: what it is about, the quote, the difference, conflicts."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fulfillment.actions import Action
from fulfillment.models import Hold, InboundEvent, Operation, Task
from fulfillment.queries.standing import standing
from oms.changes.documents import as_submitted
from oms.intake.feasibility import request_of
from oms.models import Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_admin_operate import browser, form_of, seen_in, shown
from tests.integration.test_amendment import an_order, line, product, step
from tests.integration.test_cancellation import a_service

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_use(systems: ScriptedSystems) -> Order:
    """activate is done, which costs 10 to take back; last has failed."""
    a_service()
    systems.sends["last"] = [desk.rejected()]
    order = desk.order(customer_email="c@x.example", customer_name="<b>Ida</b>")
    desk.finish()
    return order


@pytest.fixture
def failed(systems: ScriptedSystems) -> Task:
    desk.target("alpha", domain="logistics")
    desk.workflow({"one": desk.task(title="Ship <i>it</i>")})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order(region="ID")
    desk.drain()
    return desk.tasks_of(order)["one@1"]


def test_first_stands_what_it_is_about_and_how_that_stands(boss: Client, failed: Task) -> None:
    page = shown(boss.get(form_of(Action.TASK_RETRY, f"task:{failed.pk}")))
    assert "Ship &lt;i&gt;it&lt;/i&gt; (one@1)" in page
    assert "</span> failed final</span>" in page
    assert failed.fulfillment.order_reference in page
    assert page.index("Ship &lt;i&gt;") < page.index('name="reason"')


@pytest.mark.parametrize("subject", ["task:0", "task:x", "case:9", "lock:a", "order:O-0", "user:x"])
def test_of_what_is_not_there_nothing_is_told(db: None, subject: str) -> None:
    assert standing(subject=subject) is None


def test_the_first_field_has_the_keyboard_and_enter_goes_on(boss: Client, failed: Task) -> None:
    page = shown(boss.get(form_of(Action.TASK_RETRY, f"task:{failed.pk}")))
    (reason,) = re.findall(r'<textarea name="reason"[^>]*>', page)
    assert "autofocus" in reason
    assert "data-enter-goes-on" in reason
    assert page.count("autofocus") == 1
    assert 'novalidate class="desk-asking" aria-describedby="desk-told" data-once' in page
    answer = shown(boss.post(form_of(Action.TASK_RETRY, f"task:{failed.pk}"), {"reason": "x"}))
    (button,) = re.findall(r'<button type="submit" class="desk-button"[^>]*>Do it', answer)
    assert "autofocus" in button


def test_an_address_fills_the_form_in(boss: Client, failed: Task) -> None:
    given = "?parameter-clock_policy=STOP&reason=%3Cscript%3E&evidence=T-1&version=9&other=1"
    page = shown(boss.get(form_of(Action.HOLD_PLACE, f"task:{failed.pk}") + given))
    assert '<option value="STOP" selected>' in page
    assert "&lt;script&gt;" in page
    assert ">T-1<" in re.sub(r"\s", "", page) or "T-1</textarea>" in page
    assert 'name="version"' not in page


def test_cancelling_shows_the_quote_before_anything_is_entered(in_use: Order) -> None:
    ann = browser("ann", Action.ORDER_CANCEL)
    form = form_of(Action.ORDER_CANCEL, f"order:{in_use.reference}")
    before = Operation.objects.count()
    page = shown(ann.get(form))
    assert page.index("What it comes to, as it stands now") < page.index('name="reason"')
    for words in ("The customer pays", "What becomes of each task", "is undone", "approve.senior"):
        assert words in page, words
    assert "&lt;b&gt;Ida&lt;/b&gt;" in page
    in_use.refresh_from_db()
    assert str(in_use.state) == "IN_PROGRESS"
    assert Operation.objects.count() == before


def test_what_it_costs_has_to_be_agreed_to(in_use: Order) -> None:
    ann = browser("ann", Action.ORDER_CANCEL)
    form = form_of(Action.ORDER_CANCEL, f"order:{in_use.reference}")
    given = {"reason": "They called."}
    page = shown(ann.post(form, given))
    assert "The customer has agreed to pay 10" in page
    refused = shown(ann.post(form, {**given, **seen_in(page)}), 409)
    assert "costs the customer 10" in refused
    assert "The customer has agreed to pay 10" in refused  # And it is asked for again.
    agreed = {"parameter-accepted_cost": json.dumps({"": "10"})}
    done = ann.post(form, {**given, **agreed, **seen_in(refused)}, follow=True)
    assert "is asked for" in shown(done)


def test_changing_an_order_begins_with_it_and_shows_the_difference(
    systems: ScriptedSystems,
) -> None:
    product()
    order = an_order(line(one_off_price=Decimal(10), currency="EUR"), billing_account="BA-1")
    step(systems, "reserve", "build")
    ann = browser("ann", Action.ORDER_CHANGE)
    form = form_of(Action.ORDER_CHANGE, f"order:{order.reference}")
    page = shown(ann.get(form))
    assert 'name="parameter-version" value="2"' in page
    assert "&quot;offering&quot;: &quot;" in page
    wanted: dict[str, Any] = as_submitted(request_of(order))
    wanted["items"][0]["quantity"] = 3
    wanted["items"][0]["characteristics"] = {"colour": "<blue>"}
    given = {
        "reason": "They want three.",
        "parameter-version": "2",
        "parameter-order": json.dumps(wanted),
    }
    page = shown(ann.post(form, given))
    assert "What is another about the order" in page
    assert re.search(r"<td>quantity</td>\s*<td>1</td>\s*<td>3</td>", page)
    assert "characteristics · colour" in page
    assert "&lt;blue&gt;" in page
    assert re.search(r"<td>\+20(\.00)? EUR</td>", page)
    assert "is done anew" in page
    assert "price · once" not in page  # However many noughts it is written with.
    order.refresh_from_db()
    assert order.version == 1
    assert ann.post(form, {**given, **seen_in(page)}).status_code == 302
    order.refresh_from_db()
    assert order.version == 2


def test_the_preview_shows_only_what_changes_what_is_sent_and_what_moves(
    boss: Client, failed: Task
) -> None:
    page = shown(boss.post(form_of(Action.TASK_RETRY, f"task:{failed.pk}"), {"reason": "x"}))
    assert re.search(r'<th scope="row">state</th>\s*<td>failed final</td>', page)
    assert "<strong>alpha</strong> is asked to do <strong>one</strong>" in page
    assert "<details><summary>" in page  # The payload is folded.
    moves = page[page.index("What moves") :]
    assert moves.count('<th scope="row">task one@1</th>') == 1


def test_a_conflict_is_told_plainly_and_looked_at_again(failed: Task) -> None:
    ann, bob = (browser(name, Action.TASK_RETRY) for name in ("ann", "bob"))
    form = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    given = {"reason": "x"}
    of_ann, of_bob = (seen_in(shown(who.post(form, given))) for who in (ann, bob))
    ann.post(form, {**given, **of_ann})
    late = shown(bob.post(form, {**given, **of_bob}), 409)
    assert "Somebody was there before you" in late
    assert "Look again" in late
    assert "by ann" in late
    assert not seen_in(late)  # Nothing can be done before it was looked at again.
    again = shown(bob.post(form, given), 409)
    assert "can&#x27;t be done as it stands now" in again


def test_the_same_press_twice_places_one_hold(failed: Task) -> None:
    ann = browser("ann", Action.HOLD_PLACE)
    form = form_of(Action.HOLD_PLACE, f"task:{failed.pk}")
    page = shown(ann.post(form, {"reason": "x"}))
    sent = {"reason": "x", **seen_in(page)}
    assert [ann.post(form, sent).status_code for _ in range(2)] == [302, 409]
    assert Hold.objects.count() == 1


def test_a_suggestion_is_one_click_from_its_preview(halfway: Order, systems: Any) -> None:
    task = Task.objects.get(fulfillment_id=halfway.fulfillment_id, key="two@1")
    event = InboundEvent.objects.create(
        source="alpha",
        event_id="lost-1",
        idempotency_key="nobody's",
        body={"order": halfway.reference, "status": "succeeded"},
        disposition="UNMATCHED",
        received_at=desk.now(),
    )
    ann = browser("ann", Action.EVENT_MATCH)
    page = shown(ann.get(f"/admin/fulfillment/inboundevent/{event.pk}/change/"))
    addresses = re.findall(r'href="([^"]*event\.match[^"]*parameter-task=[^"]*)"', page)
    assert any(f"parameter-task={task.pk}" in one for one in addresses)
    assert "It names this order." in page
    form = shown(ann.get(addresses[0].replace("&amp;", "&")))
    assert 'name="parameter-task" value="' in form
    assert "It names this order." in form  # As evidence, to be made more of.
    nobody = people.operator("nina")
    assert nobody is not None
    plain = shown(browser("vera").get(f"/admin/fulfillment/inboundevent/{event.pk}/change/"))
    assert "event.match" not in plain


def test_pages_of_forms_ask_the_same_however_much_there_is(boss: Client, failed: Task) -> None:
    address = form_of(Action.TASK_RETRY, f"task:{failed.pk}")
    boss.get(address)
    with CaptureQueriesContext(connection) as few:
        boss.get(address)
    for _ in range(5):
        desk.order(region="ID")
    desk.drain()
    with CaptureQueriesContext(connection) as many:
        boss.get(address)
    assert len(few) == len(many)
