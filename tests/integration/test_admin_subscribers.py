"""What operators do about subscribers in the admin."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from fulfillment.models import Delivery, Subscription
from oms.models import Order
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db
_ORIGIN = "http://receiver:9000"


@pytest.fixture(autouse=True)
def receiver_in_our_network(settings: LazySettings) -> None:
    settings.OMS_WEBHOOK_ALLOWED_ORIGINS = [_ORIGIN]


def _form(**changes: Any) -> dict[str, Any]:
    return {
        "name": "desk",
        "url": f"{_ORIGIN}/hook",
        "event_types": "OrderCompleted, OrderRejected",
        "active": "on",
        **changes,
    }


def _page_of(row: Subscription) -> str:
    return address_of(Subscription, "change", row.pk)


def test_a_new_subscription_has_a_secret_that_is_shown_once(boss: Client) -> None:
    answer = boss.post(address_of(Subscription, "add"), _form(), follow=True)
    row = Subscription.objects.get()
    assert row.secret.startswith("whsec_")
    assert row.secret in unescape(answer.content.decode())
    assert row.event_types == ["OrderCompleted", "OrderRejected"]
    for page in (
        address_of(Subscription, "changelist"),
        _page_of(row),
    ):
        assert row.secret not in text_of(boss, page)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "http://127.0.0.1/hook"}, "not a public address"),
        ({"url": "http://169.254.169.254/latest"}, "not a public address"),
        ({"url": "http://localhost/hook"}, "not a public address"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "not a public address"),
        ({"url": "http://receiver:9001/hook"}, "Port 9001"),
        ({"url": "ftp://shop.example/"}, "no address for events"),
        ({"url": "https://user@shop.example/"}, "no address for events"),
        ({"event_types": "Order-Completed"}, "no name of an event"),
        ({"name": "no spaces"}, "valid “slug”"),
    ],
)
def test_what_could_not_work_or_must_not_is_refused_with_the_reason(
    boss: Client, change: dict[str, str], words: str
) -> None:
    response = boss.post(address_of(Subscription, "add"), _form(**change))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert not Subscription.objects.exists()


def test_an_edit_keeps_name_and_secret(boss: Client) -> None:
    boss.post(address_of(Subscription, "add"), _form())
    row = Subscription.objects.get()
    change = _page_of(row)
    assert "OrderCompleted, OrderRejected" in text_of(boss, change)
    edited = _form(name="other", event_types="", active="")
    assert boss.post(change, edited).status_code == 302
    after = Subscription.objects.get()
    assert (after.name, after.secret, after.event_types, after.active) == (
        "desk",
        row.secret,
        [],
        False,
    )


def test_a_subscription_is_never_deleted(boss: Client, halfway: Order) -> None:
    row = Subscription.objects.get()
    address = address_of(Subscription, "delete", row.pk)
    assert boss.post(address, {"post": "yes"}).status_code == 403


def test_secrets_change_in_two_steps(boss: Client, halfway: Order) -> None:
    row = Subscription.objects.get()

    def act(action: str) -> str:
        listing = {"action": action, "_selected_action": [row.pk]}
        page = boss.post(address_of(Subscription, "changelist"), listing, follow=True)
        return unescape(page.content.decode())

    assert "begin first" in act("finish_rotation")
    begun = act("begin_rotation")
    after = Subscription.objects.get()
    assert after.next_secret in begun
    assert after.secret == row.secret
    assert "changing already" in act("begin_rotation")
    act("finish_rotation")
    finished = Subscription.objects.get()
    assert (finished.secret, finished.next_secret) == (after.next_secret, "")
    assert [entry.user.get_username() for entry in LogEntry.objects.all()] == ["boss", "boss"]


@pytest.mark.parametrize("model", [Subscription, Delivery])
def test_dead_letters_are_sent_again_and_the_log_says_who_did_it(
    boss: Client, halfway: Order, model: type[Any]
) -> None:
    row = model.objects.get()
    again = {"action": "send_again", "_selected_action": [row.pk]}
    page = boss.post(address_of(model, "changelist"), again, follow=True).content.decode()
    assert "1 dead letters are sent again" in page
    assert Delivery.objects.get().state == "PENDING"
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id) == ("boss", str(row.pk))


def test_who_may_only_look_sends_nothing_again(client: Client, halfway: Order) -> None:
    guest = User.objects.create(username="guest", is_staff=True)
    guest.user_permissions.add(
        *Permission.objects.filter(codename__in=["view_delivery", "view_subscription"])
    )
    client.force_login(guest)
    for model in (Subscription, Delivery):
        row = model.objects.get()
        for action in ("send_again", "begin_rotation"):
            listing = {"action": action, "_selected_action": [row.pk]}
            client.post(address_of(model, "changelist"), listing)
    assert Delivery.objects.get().state == "DEAD"
    assert Subscription.objects.get().next_secret == ""


def test_the_lag_stands_beside_each_subscriber(boss: Client, halfway: Order) -> None:
    Delivery.objects.update(state="PENDING", last_answer="It answered 503.")
    row = Subscription.objects.get()
    listed = text_of(boss, address_of(Subscription, "changelist"))
    assert f"subscription__id__exact={row.pk}&state__exact=PENDING" in unescape(listed)
    assert "It answered 503." in text_of(boss, _page_of(row))
