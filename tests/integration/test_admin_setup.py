"""What operators may change in the admin: target systems, and the end of an API key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from fulfillment.models import TargetSystem
from oms.models import ApiClient, ApiKey, Order
from tests import desk
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


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
        "query_slots": "4",
        "rate_burst": "1",
        "breaker_pause": "10",
        "breaker_probes": "1",
        "lost_leases_limit": "5",
        **changes,
    }


def test_an_operator_adds_and_edits_a_target_system(boss: Client) -> None:
    assert boss.post(address_of(TargetSystem, "add"), _form()).status_code == 302
    row = TargetSystem.objects.get()
    assert (row.sender_slots, row.idempotent, row.status_query) == (4, True, False)
    added_at = row.updated_at
    change = address_of(TargetSystem, "change", "alpha")
    assert boss.post(change, _form(sender_slots="9", name="other")).status_code == 302
    row = TargetSystem.objects.get()
    assert (row.pk, row.sender_slots) == ("alpha", 9)
    assert row.updated_at > added_at
    assert row.settings == {"base_url": "http://127.0.0.1:1"}


def test_settings_are_shown_over_several_lines(boss: Client) -> None:
    boss.post(address_of(TargetSystem, "add"), _form())
    page = text_of(boss, address_of(TargetSystem, "change", "alpha"))
    assert "{\n  &quot;base_url&quot;: &quot;http://127.0.0.1:1&quot;\n}" in page


@pytest.mark.parametrize("nothing", ["", "null", "{}"])
def test_an_adapter_that_needs_no_settings_gets_an_empty_object(boss: Client, nothing: str) -> None:
    desk.target("other")  # so that the scripted adapter is known
    form = _form(adapter="scripted", settings=nothing)
    assert boss.post(address_of(TargetSystem, "add"), form).status_code == 302
    assert TargetSystem.objects.get(pk="alpha").settings == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queue": "nowhere"}, "Select a valid choice"),
        ({"adapter": "pigeon"}, "Select a valid choice"),
        ({"settings": '{"base_uri": "http://x"}'}, "base_uri"),
        ({"settings": "{}"}, "base_url"),
        ({"settings": "{"}, "valid JSON"),
        ({"settings": "[1]"}, "Give one JSON object"),
        ({"settings": "5"}, "Give one JSON object"),
        ({"sender_slots": "0"}, "greater than or equal to 1"),
        ({"reconcile_after": "-5"}, "not negative"),
        ({"maximum_queries": "0"}, "greater than or equal to 1"),
        ({"concurrency_limit": "0"}, "greater than or equal to 1"),
        ({"concurrency_limit": "100001"}, "less than or equal to 100000"),
        ({"query_slots": "0"}, "greater than or equal to 1"),
        ({"lost_leases_limit": "1"}, "greater than or equal to 2"),
        ({"rate_per_second": "0"}, "To send nothing at all, pause the target system"),
        ({"rate_per_second": "-1"}, "leave it empty: no limit"),
        ({"breaker_failures": "0"}, "greater than or equal to 1"),
        ({"breaker_pause": "-1"}, "not negative"),
        ({"ramp": "-1"}, "not negative"),
        ({"retry_policies": "[]"}, "Give one JSON object"),
        ({"retry_policies": '{"*": {"attempts": 3}}'}, "*.attempts"),
        ({"retry_policies": '{"*": {"maximum_attempts": 0}}'}, "*.maximum_attempts"),
        ({"retry_policies": '{"ship": {"initial_interval": "soon"}}'}, "ship.initial_interval"),
        ({"name": "no spaces"}, "Letters, digits, - and _ only"),
    ],
)
def test_a_row_that_could_not_work_is_refused_with_the_reason(
    boss: Client, change: dict[str, str], words: str
) -> None:
    response = boss.post(address_of(TargetSystem, "add"), _form(**change))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert not TargetSystem.objects.exists()


def test_a_queue_that_is_gone_has_to_be_chosen_anew(boss: Client) -> None:
    """A select without its value would show, and then save, the first one."""
    desk.target("alpha", queue="gone", adapter="http", settings={"base_url": "http://127.0.0.1:1"})
    change = address_of(TargetSystem, "change", "alpha")
    assert '<option value="">choose one</option>' in text_of(boss, change)
    assert boss.post(change, _form(queue="")).status_code == 200
    assert TargetSystem.objects.get().queue == "gone"
    assert boss.post(change, _form(queue="crm")).status_code == 302
    assert TargetSystem.objects.get().queue == "crm"


def test_a_target_system_is_never_deleted(boss: Client) -> None:
    desk.target("alpha")
    address = address_of(TargetSystem, "delete", "alpha")
    assert boss.post(address, {"post": "yes"}).status_code == 403
    listing = {"action": "delete_selected", "_selected_action": ["alpha"], "post": "yes"}
    boss.post(address_of(TargetSystem, "changelist"), listing)
    assert TargetSystem.objects.exists()


def test_a_revoked_key_works_no_longer_and_the_log_says_who_did_it(
    boss: Client, halfway: Order
) -> None:
    key = ApiKey.objects.get()
    revoke = {"action": "revoke", "_selected_action": [key.pk]}
    page = boss.post(address_of(ApiKey, "changelist"), revoke, follow=True).content.decode()
    assert f"refused from now on: {key.prefix}" in page
    key.refresh_from_db()
    assert key.revoked_at is not None
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id) == ("boss", str(key.pk))
    page = boss.post(address_of(ApiKey, "changelist"), revoke, follow=True).content.decode()
    assert "They were revoked before." in page
    revoked_at = key.revoked_at
    key.refresh_from_db()
    assert key.revoked_at == revoked_at
    assert LogEntry.objects.count() == 1


def test_who_may_only_look_at_keys_can_not_revoke_them(client: Client, halfway: Order) -> None:
    guest = User.objects.create(username="guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    client.force_login(guest)
    key = ApiKey.objects.get()
    client.post(
        address_of(ApiKey, "changelist"), {"action": "revoke", "_selected_action": [key.pk]}
    )
    key.refresh_from_db()
    assert key.revoked_at is None


def test_no_page_shows_a_key_s_hash_and_each_says_how_keys_are_made(
    boss: Client, halfway: Order
) -> None:
    key = ApiKey.objects.get()
    for address in (
        address_of(ApiKey, "changelist"),
        address_of(ApiKey, "change", key.pk),
        address_of(ApiClient, "changelist"),
        address_of(ApiClient, "change", key.client_id),
    ):
        assert key.secret_hash not in text_of(boss, address)
    for model in (ApiKey, ApiClient):
        assert "manage.py api_key create" in text_of(boss, address_of(model, "changelist"))


def test_time_before_a_target_is_asked_is_kept_as_given(boss: Client) -> None:
    boss.post(address_of(TargetSystem, "add"), _form(reconcile_after="00:01:30"))
    assert TargetSystem.objects.get().reconcile_after == timedelta(seconds=90)
