"""Approvals, grants, users and roles in the admin."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.errors import Denied
from fulfillment.models import (
    Approval,
    ApprovalState,
    AuthorityDecision,
    Grant,
    Operation,
    Task,
)
from oms.models import ApiKey, Order
from tests import desk, people
from tests.api import Api
from tests.desk import ScriptedSystems
from tests.integration.test_approvals import a_failed_charge, the_request

pytestmark = pytest.mark.django_db


@pytest.fixture
def charge(systems: ScriptedSystems) -> Order:
    return a_failed_charge(systems)


@pytest.fixture
def approval(charge: Order) -> Approval:
    anna = people.anybody("anna", Action.TASK_RETRY)
    found = operations.prepared(actor=anna, request=the_request(charge))
    return operations.ask_for_approval(prepared=found)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def address(approval: Approval, verb: str = "change") -> str:
    page = f"/admin/fulfillment/approval/{approval.pk}"
    return f"{page}/change/" if verb == "change" else f"{page}/{verb}/"


def test_an_approval_is_read_and_given_on_its_page(charge: Order, approval: Approval) -> None:
    paula = browser(people.operator("paula", Action.APPROVE_PAYMENT))
    page = paula.get(address(approval)).content.decode()
    assert "The bank says it was a mistake of theirs." in page
    assert "/approve" in page
    assert "Sent anew" in paula.get(address(approval, "approve")).content.decode()
    done = paula.post(address(approval, "approve"), {"reason": "Seen."}, follow=True)
    assert "Sent anew: charge@1." in done.content.decode()
    assert desk.states_of(charge) == {"charge@1": "READY"}


def test_whoever_asked_can_take_it_back_and_not_approve_it(approval: Approval) -> None:
    anna = browser(User.objects.get(username="anna"))
    page = anna.get(address(approval)).content.decode()
    assert "/withdraw" in page
    for verb in ("approve", "refuse"):
        assert anna.post(address(approval, verb), {"reason": "Mine."}).status_code == 403
    anna.post(address(approval, "withdraw"), {"reason": "They have paid."})
    approval.refresh_from_db()
    assert approval.state == ApprovalState.WITHDRAWN


def test_the_page_shows_what_would_be_done_now_and_no_button_to_its_asker(
    charge: Order, approval: Approval
) -> None:
    paula = browser(people.operator("paula", Action.APPROVE_PAYMENT))
    page = paula.get(address(approval)).content.decode()
    assert "What is done when it is approved" in page
    assert "What moves" in page
    assert "Approve: it is done at once" in page
    own = browser(User.objects.get(username="anna")).get(address(approval)).content.decode()
    assert "another person decides it" in own
    assert "/approve/" not in own
    assert "Take it back" in own


def test_what_has_changed_since_it_was_asked_for_is_told_and_can_not_be_approved(
    charge: Order, approval: Approval
) -> None:
    task = desk.tasks_of(charge)["charge@1"]
    Task.objects.filter(pk=task.pk).update(reference="another")
    paula = browser(people.operator("paula", Action.APPROVE_PAYMENT))
    page = paula.get(address(approval)).content.decode()
    assert "This has changed since it was asked for" in page
    assert "What it would do as things stand now" in page
    assert "Approve: it is done at once" not in page
    assert "Refuse: nothing is done" in page


def test_the_inbox_says_what_waits_for_whom(charge: Order, approval: Approval) -> None:
    listed = "/admin/fulfillment/approval/?state__exact=REQUESTED"
    paula = browser(people.operator("paula", Action.APPROVE_PAYMENT))
    anna = browser(User.objects.get(username="anna"))
    people.permit(User.objects.get(username="anna"), Action.APPROVE_FINANCE)
    assert "One waits for you." in paula.get(listed).content.decode()
    assert "Retry" not in anna.get(f"{listed}&whose=decide").content.decode()
    approval.refresh_from_db()
    operations.withdraw(
        approval_id=approval.pk,
        actor=people.actor(User.objects.get(username="anna")),
        reason="No.",
    )
    assert "Nothing waits to be approved." in paula.get(listed).content.decode()
    page = paula.get(address(approval)).content.decode()
    assert "has taken it back. Nothing was done." in page
    assert "Approve: it is done at once" not in page


def test_a_stranger_neither_sees_an_approval_nor_decides_it(approval: Approval) -> None:
    nina = browser(people.operator("nina"))
    boss = browser(User.objects.create(username="boss", is_staff=True, is_superuser=True))
    assert nina.get(address(approval)).status_code == 403
    for client in (nina, boss):
        for verb in ("approve", "refuse", "withdraw"):
            answer = client.post(address(approval, verb), {"reason": "Because."})
            assert answer.status_code == 403
    approval.refresh_from_db()
    assert approval.state == ApprovalState.REQUESTED
    assert not Operation.objects.filter(kind="retry").exists()


def test_who_was_denied_what_is_listed(charge: Order, boss: Client) -> None:
    people.anybody("nina")
    assert not AuthorityDecision.objects.exists()
    Api(user=User.objects.get(username="nina")).send(
        "POST",
        "/operations",
        {"action": "task.retry", "subject": the_request(charge).subject, "reason": "Why."},
    )
    page = boss.get("/admin/fulfillment/authoritydecision/?is_allowed__exact=0").content.decode()
    assert "nina" in page
    assert "the permission task.retry is missing" in page


def test_where_authority_was_asked_is_read_by_people(boss: Client) -> None:
    context = Context(
        subject="task:12",
        order_reference="O-17",
        region="ID",
        targets=frozenset({"billing", "payment"}),
        amounts={"EUR": Decimal("12500.0"), "USD": Decimal("0.0050")},
    )
    with pytest.raises(Denied):
        authorize(actor=people.anybody("nina"), action=Action.TASK_WAIVE, context=context)
    decision = AuthorityDecision.objects.get()
    page = boss.get(f"/admin/fulfillment/authoritydecision/{decision.pk}/change/").content.decode()
    assert "<dt>worth</dt><dd>12,500.00 EUR, 0.005 USD</dd>" in page
    assert "<dt>target systems</dt><dd>billing, payment</dd>" in page
    assert "<dt>region</dt><dd>ID</dd>" in page
    assert '<dt>order</dt><dd><a class="desk-link" href="/admin/orders/O-17">O-17</a></dd>' in page
    assert "<dt>products</dt>" not in page
    decision.context = {}
    decision.pk = None
    decision.save()
    page = boss.get(f"/admin/fulfillment/authoritydecision/{decision.pk}/change/").content.decode()
    assert "nothing is known of it" in page


def test_access_is_changed_by_the_operation_alone(boss: Client) -> None:
    anna = people.operator("anna")
    page = f"/admin/auth/user/{anna.pk}/change/"
    shown = boss.get(page).content.decode()
    assert "/operate/grant.edit/user:anna" in shown
    permission = Permission.objects.get(codename=Action.TASK_WAIVE.codename)
    boss.post(
        page,
        {
            "username": "olga",
            "first_name": "Anna",
            "is_superuser": "on",
            "user_permissions": [permission.pk],
        },
    )
    anna.refresh_from_db()
    assert (anna.username, anna.is_superuser, anna.is_active) == ("anna", False, True)
    assert not anna.user_permissions.exists()
    assert boss.post(f"/admin/auth/user/{anna.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=anna.pk).exists()


def test_a_role_is_changed_by_the_operation_alone(boss: Client) -> None:
    permission = Permission.objects.get(codename=Action.TASK_WAIVE.codename)
    boss.post("/admin/auth/group/add/", {"name": "Friends", "permissions": [permission.pk]})
    group = Group.objects.get(name="Friends")
    assert not group.permissions.exists()
    page = f"/admin/auth/group/{group.pk}/change/"
    assert "/operate/grant.edit/group:Friends" in boss.get(page).content.decode()
    boss.post(page, {"name": "Foes", "permissions": [permission.pk]})
    group.refresh_from_db()
    assert group.name == "Friends"
    assert not group.permissions.exists()
    assert boss.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 403


def test_nobody_sets_the_password_of_somebody_who_approves(boss: Client) -> None:
    clerk, senior = people.operator("carl"), people.operator("sarah", Action.APPROVE_SENIOR)
    new = {
        "password1": "a-new-secret-17",
        "password2": "a-new-secret-17",
        "usable_password": "true",
    }
    boss.post(f"/admin/auth/user/{clerk.pk}/password/", new)
    clerk.refresh_from_db()
    assert clerk.check_password("a-new-secret-17")
    assert Operation.objects.get(kind="set_password").subject == "user:carl"
    answer = boss.post(f"/admin/auth/user/{senior.pk}/password/", new)
    assert answer.status_code == 403
    senior.refresh_from_db()
    assert not senior.check_password("a-new-secret-17")


def test_nobody_who_approves_sets_the_password_of_somebody_who_asks(boss: Client) -> None:
    """Whoever did could ask in that name, and approve in the own."""
    clerk = people.operator("carl", Action.TASK_WAIVE)
    people.operator("boss", Action.GRANT_EDIT, Action.APPROVE_FINANCE)
    new = {
        "password1": "a-new-secret-17",
        "password2": "a-new-secret-17",
        "usable_password": "true",
    }
    assert boss.post(f"/admin/auth/user/{clerk.pk}/password/", new).status_code == 403
    clerk.refresh_from_db()
    assert not clerk.check_password("a-new-secret-17")
    assert not Operation.objects.filter(kind="set_password").exists()


def test_a_grant_is_looked_at_and_changed_by_the_operation(boss: Client) -> None:
    people.operator("ida", Action.TASK_RETRY, regions=["ID"])
    grant = Grant.objects.get()
    page = boss.get(f"/admin/fulfillment/grant/{grant.pk}/change/").content.decode()
    assert "task.retry; region ID" in page
    assert "/operate/grant.edit/user:ida" in page
    assert (
        boss.post(f"/admin/fulfillment/grant/{grant.pk}/delete/", {"post": "yes"}).status_code
        == 403
    )
    assert Grant.objects.exists()


def test_keys_are_revoked_by_whoever_may(boss: Client) -> None:
    Api()
    key = ApiKey.objects.get()
    data = {"action": "revoke", "_selected_action": [key.pk]}
    viewer = people.operator("vera")
    viewer.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    browser(viewer).post("/admin/oms/apikey/", data)
    key.refresh_from_db()
    assert key.revoked_at is None
    boss.post("/admin/oms/apikey/", data)
    key.refresh_from_db()
    assert key.revoked_at is not None
    done = Operation.objects.get(kind="revoke_key")
    assert (done.subject, done.after) == (f"key:{key.prefix}", {"key": key.prefix})
