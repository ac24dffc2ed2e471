"""The inbox in the admin: what belongs to no task, for how long, and what it may be about."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client
from django.utils import timezone

from fulfillment.models import InboundEvent, Task
from oms.models import Order
from tests.pages import address_of, text_of


def an_unmatched_event(order: Order) -> InboundEvent:
    task = Task.objects.get(fulfillment_id=order.fulfillment_id, key="one@1")
    return InboundEvent.objects.create(
        source="alpha",
        event_id="lost-1",
        idempotency_key="nobody's",
        body={},
        disposition="UNMATCHED",
        suggestions=[
            {
                "task_id": task.pk,
                "task": task.key,
                "order": order.reference,
                "why": "It says <b>so</b>.",
            },
            {"task_id": 10**12, "task": "gone@1", "order": order.reference, "why": "Old."},
        ],
        received_at=timezone.now() - timedelta(hours=3, minutes=20),
    )


def test_the_list_shows_how_long_a_report_has_been_unmatched(boss: Client, halfway: Order) -> None:
    an_unmatched_event(halfway)
    page = text_of(boss, address_of(InboundEvent, "changelist"))
    assert "3\u00a0hours" in page
    assert "?</span> unmatched" in page
    matched = text_of(boss, address_of(InboundEvent, "changelist") + "?disposition=REDUNDANT")
    assert "hours" not in matched


def test_the_page_links_to_what_it_may_be_about(boss: Client, halfway: Order) -> None:
    event = an_unmatched_event(halfway)
    page = text_of(boss, address_of(InboundEvent, "change", event.pk))
    task_id = event.suggestions[0]["task_id"]
    assert f'href="{address_of(Task, "change", task_id)}">one@1</a>' in page
    assert f">{halfway.reference}</a>" in page
    assert "It says &lt;b&gt;so&lt;/b&gt;." in page
    assert page.count("desk-suggestion") == 2
    assert "Old." in page  # though its task is no longer there


def test_a_matched_report_suggests_nothing(boss: Client, halfway: Order) -> None:
    page = text_of(boss, address_of(InboundEvent, "change", InboundEvent.objects.get().pk))
    assert "What it may be about" not in page
    assert "desk-suggestion" not in page
