"""Who may do what is said by an operation: with a reason, on record, and by two where it counts."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, console
from fulfillment.authority.authorizing import held
from fulfillment.authority.roles import AUDITOR, ORDER_DESK, SENIOR_OPS, load_roles
from fulfillment.errors import ApprovalNeeded, Denied, NotPossible, ParametersInvalid
from fulfillment.models import Grant, Operation
from tests import people

pytestmark = pytest.mark.django_db


def edit(actor: Actor, subject: str, **parameters: Any) -> operations.Done:
    return operations.perform(actor=actor, request=wanted(subject, **parameters))


def wanted(subject: str, **parameters: Any) -> operations.Request:
    return operations.Request(
        action=Action.GRANT_EDIT,
        subject=subject,
        reason="She has a new desk.",
        parameters=parameters,
    )


@pytest.fixture
def seniors() -> tuple[Actor, Actor]:
    load_roles()
    group = Group.objects.get(name=SENIOR_OPS.name)
    users = [people.operator(name) for name in ("sarah", "simon")]
    for user in users:
        user.groups.add(group)
    people.operator("anna")
    return people.actor(users[0]), people.actor(users[1])


def unchanged() -> bool:
    user = User.objects.get(username="anna")
    return not held(actor=people.actor(user)) and not Operation.objects.filter(kind="edit_access")


def test_what_is_not_high_risk_is_given_by_one_and_kept_on_record(
    seniors: tuple[Actor, Actor],
) -> None:
    sarah, _ = seniors
    done = edit(
        sarah,
        "user:anna",
        permit=["task.retry", "oms.view_order"],
        grant=[{"actions": ["task.retry"], "regions": ["ID"], "domains": ["logistics"]}],
    )
    assert "grants + " in done.told
    anna = User.objects.get(username="anna")
    assert held(actor=people.actor(anna)) == {Action.TASK_RETRY}
    grant = Grant.objects.get(user=anna)
    assert (grant.granted_by, grant.reason) == ("sarah", "She has a new desk.")
    record = Operation.objects.get(kind="edit_access")
    assert (record.subject, record.actor) == ("user:anna", "sarah")
    assert record.before["permissions"] == []
    assert record.after["permissions"] == ["fulfillment.task_retry", "oms.view_order"]
    assert "region ID" in record.after["grants"][str(grant.pk)]
    edit(sarah, "user:anna", withdraw=[grant.pk])
    assert held(actor=people.actor(anna)) == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"permit": ["task.waive"]},
        {"grant": [{"actions": ["task.waive"]}]},
        {"grant": [{"actions": ["task.*"]}]},
        {"join": [SENIOR_OPS.name]},
        {"is_superuser": True},
    ],
)
def test_what_is_high_risk_is_given_by_two(
    seniors: tuple[Actor, Actor], change: dict[str, Any]
) -> None:
    sarah, simon = seniors
    with pytest.raises(ApprovalNeeded, match=r"approve\.senior"):
        edit(sarah, "user:anna", **change)
    assert unchanged()
    asked = operations.ask_for_approval(
        prepared=operations.prepared(actor=sarah, request=wanted("user:anna", **change))
    )
    with pytest.raises(Denied, match="another person"):
        operations.approve(approval_id=asked.pk, actor=sarah, reason="I know her.")
    operations.approve(approval_id=asked.pk, actor=simon, reason="I know her.")
    assert Operation.objects.get(kind="edit_access").approval == asked


def test_nobody_gives_themselves_anything_alone(seniors: tuple[Actor, Actor]) -> None:
    sarah, _ = seniors
    for subject in ("user:sarah", f"group:{SENIOR_OPS.name}"):
        with pytest.raises(ApprovalNeeded):
            edit(sarah, subject, grant=[{"actions": ["workflow.publish"]}])


def test_a_superuser_gives_nobody_anything_once_somebody_looks_after_it(
    seniors: tuple[Actor, Actor],
) -> None:
    boss = people.actor(User.objects.create(username="boss", is_superuser=True))
    for subject in ("user:anna", "user:boss"):
        with pytest.raises(Denied):
            edit(boss, subject, permit=["task.retry"])
    for stranger in (console(account="root"), people.actor(User.objects.get(username="anna"))):
        with pytest.raises(Denied):
            edit(stranger, "user:anna", permit=["task.retry"])
    assert unchanged()


def test_the_first_two_are_made_by_one_and_after_that_it_takes_two() -> None:
    load_roles()
    boss = people.actor(User.objects.create(username="boss", is_superuser=True))
    for name in ("sarah", "simon", "sue", "anna"):
        people.operator(name)
    edit(boss, "user:sarah", join=[SENIOR_OPS.name])
    with pytest.raises(Denied):
        edit(boss, "user:simon", join=[SENIOR_OPS.name])
    sarah = people.actor(User.objects.get(username="sarah"))
    edit(sarah, "user:simon", join=[SENIOR_OPS.name])
    with pytest.raises(ApprovalNeeded):
        edit(sarah, "user:sue", join=[SENIOR_OPS.name])
    edit(sarah, "user:simon", is_active=False)
    with pytest.raises(ApprovalNeeded):
        edit(sarah, "user:sue", join=[SENIOR_OPS.name])


def test_the_last_who_approves_stays(seniors: tuple[Actor, Actor]) -> None:
    sarah, _ = seniors
    edit(sarah, "user:simon", is_active=False)
    found = operations.prepared(actor=sarah, request=wanted("user:sarah", is_active=False))
    with pytest.raises(NotPossible, match="Nobody would be left"):
        operations.ask_for_approval(prepared=found)
    assert User.objects.get(username="sarah").is_active


def test_a_role_is_changed_for_everybody_in_it(seniors: tuple[Actor, Actor]) -> None:
    sarah, _ = seniors
    desk = people.operator("dora")
    desk.groups.add(Group.objects.get(name=ORDER_DESK.name))
    edit(
        sarah,
        f"group:{ORDER_DESK.name}",
        permit=["workflow.publish"],
        grant=[{"actions": ["workflow.publish"]}],
    )
    assert Action.WORKFLOW_PUBLISH in held(actor=people.actor(desk))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"join": ["Pirates"]}, "no role Pirates"),
        ({"permit": ["auth.add_user"]}, "no permission"),
        ({"permit": ["oms.delete_order"]}, "no permission"),
        ({"grant": [{"actions": ["everything"]}]}, "no action"),
        ({"grant": [{"actions": ["task.retry"], "maximum_amount": 5}]}, "currency"),
        ({"withdraw": [999]}, "has no grant 999"),
        ({"leave": [AUDITOR.name]}, "already"),
        ({}, "already"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    seniors: tuple[Actor, Actor], change: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotPossible, match=why):
        edit(seniors[0], "user:anna", **change)
    assert unchanged()


def test_a_grant_is_a_closed_document(seniors: tuple[Actor, Actor]) -> None:
    with pytest.raises(ParametersInvalid):
        edit(seniors[0], "user:anna", grant=[{"actions": ["task.retry"], "everywhere": True}])


def test_of_two_who_change_the_same_the_second_is_told(seniors: tuple[Actor, Actor]) -> None:
    sarah, simon = seniors
    request = wanted("user:anna", permit=["task.retry"])
    seen = operations.prepared(actor=sarah, request=request).preview()
    assert unchanged()
    edit(simon, "user:anna", permit=["workflow.publish"])
    late = operations.Request(
        action=request.action,
        subject=request.subject,
        reason=request.reason,
        parameters=request.parameters,
        expected_version=seen.version,
    )
    with pytest.raises(NotPossible, match="has changed since"):
        operations.perform(actor=sarah, request=late)
