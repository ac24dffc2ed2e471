"""The roles that come with the product, and the users to try them with."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection

from fulfillment.actions import APPROVALS, Action
from fulfillment.authority.authorizing import held
from fulfillment.authority.roles import (
    AUDITOR,
    FINANCE_OPS,
    ROLES,
    SENIOR_OPS,
    SUPPLY_OPS,
    Role,
    add_to_roles,
    lacking,
    load_roles,
)
from fulfillment.models import Grant, Operation
from oms.demo import people as demo
from tests import people

pytestmark = pytest.mark.django_db


def in_role(role: Role) -> User:
    user = people.operator(f"in-{role.name.lower().replace(' ', '-')}")
    user.groups.add(Group.objects.get(name=role.name))
    return user


def test_whoever_is_in_a_role_may_what_it_says_and_sees_what_it_is_about() -> None:
    load_roles()
    for role in ROLES:
        user = in_role(role)
        assert held(actor=people.actor(user)) == role.actions
        assert user.has_perm("oms.view_order")
        assert user.has_perm("fulfillment.view_authoritydecision") == role.sees_authority
        given = {
            permission
            for permission in user.get_all_permissions()
            if not permission.partition(".")[2].startswith("view_")
        }
        assert given == {f"fulfillment.{action.codename}" for action in role.actions}


def test_the_auditor_takes_evidence_and_does_nothing_else() -> None:
    assert AUDITOR.actions == {Action.ORDER_EVIDENCE}


def test_every_action_is_in_some_role_and_every_approval_in_one_that_two_can_be_in() -> None:
    assert frozenset().union(*(role.actions for role in ROLES)) == set(Action)
    assert {Action.APPROVE_FINANCE, Action.APPROVE_PAYMENT} <= FINANCE_OPS.actions
    assert Action.APPROVE_SENIOR in SENIOR_OPS.actions
    assert APPROVALS & SUPPLY_OPS.actions == {Action.APPROVE_OPERATIONS}


def test_loading_again_keeps_what_people_have_changed() -> None:
    assert len(load_roles()) == len(ROLES)
    group = Group.objects.get(name=AUDITOR.name)
    group.permissions.clear()
    Grant.objects.filter(group=group).delete()
    assert load_roles() == []
    assert not group.permissions.exists()
    assert not Grant.objects.filter(group=group).exists()
    assert len(load_roles(overwrite=True)) == len(ROLES)
    assert Grant.objects.filter(group=group).count() == 1
    assert Operation.objects.filter(kind="load_role").count() == 2 * len(ROLES)


def test_what_a_role_lacks_of_what_is_new_is_told_and_added_on_request() -> None:
    """As after an upgrade: the role is older than the action, and people have changed it since."""
    load_roles()
    new = [Action.EVENT_DISMISS, Action.EVENT_RESTORE]
    codenames = [action.codename for action in new]
    for role in (SUPPLY_OPS, SENIOR_OPS):
        group = Group.objects.get(name=role.name)
        group.permissions.remove(*group.permissions.filter(codename__in=codenames))
    senior = Grant.objects.get(group__name=SENIOR_OPS.name)
    senior.actions = [name for name in senior.actions if not name.startswith("event.")]
    senior.save()
    auditors = Group.objects.get(name=AUDITOR.name)
    auditors.permissions.clear()
    Grant.objects.filter(group=auditors).delete()

    assert lacking() == {
        SUPPLY_OPS.name: new,
        SENIOR_OPS.name: new,
        AUDITOR.name: [Action.ORDER_EVIDENCE],
    }
    out = StringIO()
    call_command("roles", "load", verbosity=0, stdout=out)
    assert "Senior operations is as people have made it, and lacks event.dismiss" in out.getvalue()
    assert "loaded" not in out.getvalue()
    grants = Grant.objects.count()

    assert add_to_roles(actions=new) == [SUPPLY_OPS.name, SENIOR_OPS.name]
    for role in (SUPPLY_OPS, SENIOR_OPS):
        assert held(actor=people.actor(in_role(role))) == role.actions
    # Supply operations had all events at their systems already.
    assert Grant.objects.count() == grants + 1
    assert lacking() == {AUDITOR.name: [Action.ORDER_EVIDENCE]}
    assert not auditors.permissions.exists()
    assert add_to_roles(actions=new) == []


def test_a_shell_without_a_name_adds_nothing_to_roles() -> None:
    call_command("roles", "load", verbosity=0)
    with pytest.raises(CommandError, match="--as"):
        call_command("roles", "load", "--add", "event.dismiss")


def test_a_shell_without_a_name_does_not_set_roles_back() -> None:
    call_command("roles", "load", verbosity=0)
    with pytest.raises(CommandError, match="--as"):
        call_command("roles", "load", "--overwrite")
    out = StringIO()
    call_command("roles", "list", stdout=out)
    assert "Auditor: nobody\n  order.evidence" in out.getvalue()


def test_demo_users_are_made_once_and_on_an_embedded_database_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_roles()
    made = demo.seed_people(password="a long one")
    if not demo._is_embedded():
        assert made == []
        return
    assert set(made) == set(demo.NAMES)
    assert demo.seed_people(password="another") == []
    ida = User.objects.get(username=demo.INDONESIA)
    assert held(actor=people.actor(ida)) == {Action.TASK_RETRY}
    grant = Grant.objects.get(user=ida)
    assert (grant.domains, grant.regions) == (["logistics"], ["ID"])
    assert ida.check_password("a long one")
    User.objects.filter(username="desk").delete()
    monkeypatch.setitem(connection.settings_dict, "HOST", "db.example.com")
    assert demo.seed_people(password="a long one") == []
