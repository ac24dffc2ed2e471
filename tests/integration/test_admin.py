"""The admin: every page with real rows, read-only where the engine writes, and cheap."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from fulfillment.models import Command, InboundEvent, Plan, TargetSystem, Task, Transition
from oms.keys import create_key
from oms.models import ApiKey, Order, Scope
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
_WRITABLE = {"targetsystem", "user", "group"}


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss", password="x"))
    return client


@pytest.fixture
def order(systems: ScriptedSystems) -> Order:
    """One that has got stuck half-way, with something in every table."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}, title="Fetch <b>a number</b>"),
            "two": desk.task(depends_on=[{"output": "one.number"}], title="Use it"),
        },
        milestones={"ready": {"title": "It is ready", "reached_by": "one"}},
    )
    systems.sends["one"] = [desk.succeeded(number="N-1")]
    systems.sends["two"] = [desk.rejected("no_stock")]
    order = desk.order(customer_name="<script>alert(1)</script>", external_id="SHOP-7")
    desk.drain()
    create_key(client=desk.client(), scopes=[Scope.ORDERS_READ])
    command = Command.objects.order_by("id").first()
    assert command is not None
    InboundEvent.objects.create(
        source="alpha",
        event_id="e-1",
        idempotency_key=command.idempotency_key,
        body={"a": 1},
        disposition="REDUNDANT",
        task=command.task,
        received_at=command.created_at,
    )
    return order


def _page(admin: Client, address: str) -> str:
    response = admin.get(address, follow=True)
    assert response.status_code == 200, address
    return response.content.decode()


def _models() -> list[type[Model]]:
    return [model for model in site._registry if model._meta.app_label in ("oms", "fulfillment")]


def _address(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def test_every_list_and_every_detail_page_answers(admin: Client, order: Order) -> None:
    seen = 0
    for model in _models():
        page = _page(admin, _address(model, "changelist"))
        rows = list(model._default_manager.all()[:20])
        assert rows, model
        assert _address(model, "change", rows[0].pk) in page
        for row in rows:
            _page(admin, _address(model, "change", row.pk))
            seen += 1
    assert seen > 15


def test_pages_ask_for_a_login(client: Client, order: Order) -> None:
    for address in (
        _address(Order, "changelist"),
        _address(Order, "change", order.pk),
    ):
        response = client.get(address)
        assert response.status_code == 302
        assert "/admin/login/" in response["Location"]


def test_what_the_engine_writes_nobody_else_can(admin: Client, order: Order) -> None:
    checked = 0
    for model in _models():
        if model._meta.model_name in _WRITABLE:
            continue
        row = model._default_manager.first()
        assert row is not None
        before = list(model._default_manager.order_by("pk").values())
        assert admin.get(_address(model, "add")).status_code == 403
        assert admin.post(_address(model, "add"), {}).status_code == 403
        assert admin.post(_address(model, "change", row.pk), {"state": "X"}).status_code == 403
        assert admin.post(_address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
        listing = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        admin.post(_address(model, "changelist"), listing)
        assert list(model._default_manager.order_by("pk").values()) == before
        checked += 1
    assert checked > 10


def test_a_user_without_the_right_to_view_sees_nothing(client: Client, order: Order) -> None:
    client.force_login(User.objects.create_user("guest", password="x", is_staff=True))
    assert client.get(_address(Order, "changelist")).status_code == 403
    assert client.get(_address(Order, "change", order.pk)).status_code == 403


def test_the_order_page_says_how_it_stands_and_why_it_waits(admin: Client, order: Order) -> None:
    page = _page(admin, _address(Order, "change", order.pk))
    assert "Why it waits" in page
    assert "It failed, and is not tried again by itself. no_stock: The target says no." in page
    assert "1 of 2 tasks done" in page
    assert "It is ready" in page
    assert "blocked" in page
    assert "the target system refused it" in page


def test_the_order_page_draws_its_plan_with_a_link_for_every_task(
    admin: Client, order: Order
) -> None:
    page = _page(admin, _address(Order, "change", order.pk))
    picture = page[page.index("<svg role") : page.index("</svg>", page.index("<svg role"))]
    for task in desk.tasks_of(order).values():
        assert _address(Task, "change", task.pk) in picture
    assert "✓ succeeded" in picture
    assert "✗ failed final" in picture
    assert "hands over number" in picture


def test_text_from_outside_never_becomes_markup(admin: Client, order: Order) -> None:
    task = desk.tasks_of(order)["one@1"]
    for address in (
        _address(Order, "changelist"),
        _address(Order, "change", order.pk),
        _address(Plan, "change", task.plan_id),
        _address(Task, "change", task.pk),
    ):
        page = _page(admin, address)
        assert "<script>alert" not in page
        assert "<b>a number" not in page
    assert "Fetch &lt;b&gt;a number" in _page(admin, _address(Order, "change", order.pk))


@pytest.mark.parametrize(
    ("model", "term"),
    [
        (Order, "SHOP-7"),
        (Order, "C-1"),
        (Order, "reference"),
        (Order, "key"),
        (Plan, "reference"),
        (Task, "reference"),
        (Task, "key"),
        (Command, "key"),
        (Transition, "reference"),
        (InboundEvent, "e-1"),
    ],
)
def test_rows_are_found_by_what_people_have_in_hand(
    admin: Client, order: Order, model: type[Model], term: str
) -> None:
    command = Command.objects.order_by("id").first()
    assert command is not None
    words = {"reference": order.reference, "key": command.idempotency_key}
    address = _address(model, "changelist")
    found = admin.get(address, {"q": words.get(term, term)}).context["cl"].result_count
    assert found > 0
    assert admin.get(address, {"q": "nothing-like-it"}).context["cl"].result_count == 0
    assert admin.get(address, {"q": "a\x00b"}).status_code == 200


def test_an_order_is_reached_by_its_reference(admin: Client, order: Order) -> None:
    response = admin.get(reverse("order_page", args=[order.reference]))
    assert response["Location"] == _address(Order, "change", order.pk)
    assert admin.get(reverse("order_page", args=["O-0"])).status_code == 404


@pytest.mark.parametrize("model", [Order, Plan, Task, Command, Transition])
def test_a_list_costs_no_query_per_row(
    admin: Client,
    order: Order,
    model: type[Model],
    django_assert_max_num_queries: Any,
) -> None:
    desk.submit_all(*[desk.request() for _ in range(30)])
    desk.drain()
    with django_assert_max_num_queries(12):
        _page(admin, _address(model, "changelist"))


def test_a_large_order_is_listed_rather_than_drawn(admin: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({f"t{number}": desk.task() for number in range(161)})
    order = desk.order()
    page = _page(admin, _address(Order, "change", order.pk))
    assert "161 tasks are too many for a picture" in page


# --- target systems -------------------------------------------------------------------------------


def _form(**changes: Any) -> dict[str, Any]:
    return {
        "name": "alpha",
        "title": "Alpha",
        "queue": "crm",
        "adapter": "http",
        "settings": '{"base_url": "http://127.0.0.1:1"}',
        "idempotent": "on",
        "sender_slots": "4",
        "reconcile_after": "2",
        "maximum_queries": "20",
        **changes,
    }


def test_an_operator_adds_and_edits_a_target_system(admin: Client) -> None:
    assert admin.post(_address(TargetSystem, "add"), _form()).status_code == 302
    row = TargetSystem.objects.get()
    assert (row.sender_slots, row.idempotent, row.status_query) == (4, True, False)
    change = _address(TargetSystem, "change", "alpha")
    assert admin.post(change, _form(sender_slots="9", name="other")).status_code == 302
    row = TargetSystem.objects.get()
    assert (row.pk, row.sender_slots) == ("alpha", 9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queue": "nowhere"}, "Select a valid choice"),
        ({"adapter": "pigeon"}, "Select a valid choice"),
        ({"settings": '{"base_uri": "http://x"}'}, "base_uri"),
        ({"settings": "{"}, "valid JSON"),
        ({"sender_slots": "0"}, "greater than or equal to 1"),
    ],
)
def test_a_row_that_could_not_work_is_refused_with_the_reason(
    admin: Client, change: dict[str, str], words: str
) -> None:
    response = admin.post(_address(TargetSystem, "add"), _form(**change))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert not TargetSystem.objects.exists()


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_revoked_from_the_list_and_its_hash_is_never_shown(
    admin: Client, order: Order
) -> None:
    key = ApiKey.objects.get()
    for address in (_address(ApiKey, "changelist"), _address(ApiKey, "change", key.pk)):
        assert key.secret_hash not in _page(admin, address)
    admin.post(_address(ApiKey, "changelist"), {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is not None
