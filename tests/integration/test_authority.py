"""Who may do what and where: no, unless a permission and a grant say yes (reference §30)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import IntegrityError, InternalError, ProgrammingError, connection, transaction

from fulfillment import operations
from fulfillment.actions import APPROVALS, HIGH_RISK, TITLES, Action
from fulfillment.authority.actors import Actor, client, console, person_at_console
from fulfillment.authority.authorizing import authorize, held, holds
from fulfillment.authority.context import Context
from fulfillment.errors import Denied
from fulfillment.models import AuthorityDecision, Command, Grant, Operation
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def a_context(**changes: Any) -> Context:
    return Context(
        **{
            "subject": "task:1",
            "order_reference": "O-1",
            "owner": "7",
            "region": "ID",
            "targets": frozenset({"courier"}),
            "domains": frozenset({"logistics"}),
            "products": frozenset({"handset"}),
            "amounts": {"EUR": Decimal("49.90")},
            **changes,
        }
    )


def may(actor: Actor, action: Action = Action.TASK_RETRY, **changes: Any) -> bool:
    try:
        authorize(actor=actor, action=action, context=a_context(**changes))
    except Denied:
        return False
    return True


def test_a_user_with_nothing_may_nothing() -> None:
    nobody = people.anybody()
    assert not any(may(nobody, action) for action in Action)
    assert not held(actor=nobody)
    assert AuthorityDecision.objects.filter(is_allowed=False).count() == len(Action)


def test_user_can_retry_failed_logistics_tasks_for_region_id_but_cannot_waive_billing_activation(
    systems: ScriptedSystems,
) -> None:
    desk.target("courier", domain="logistics")
    desk.target("biller", domain="billing")
    desk.workflow({"ship": desk.task("courier"), "activate_billing": desk.task("biller")})
    for action in ("ship", "activate_billing"):
        systems.sends[action] = [desk.rejected(), desk.rejected()]
    at_home, elsewhere = desk.order(region="ID"), desk.order(region="SG")
    desk.drain()
    ida = people.actor(
        people.operator("ida", Action.TASK_RETRY, domains=["logistics"], regions=["ID"])
    )

    def retry(order: Any, task: str) -> None:
        operations.retry(task_id=desk.tasks_of(order)[task].pk, actor=ida, reason="It is back.")

    retry(at_home, "ship@1")
    assert desk.states_of(at_home) == {"ship@1": "READY", "activate_billing@1": "FAILED_FINAL"}
    commands, records = Command.objects.count(), Operation.objects.count()
    for order, task, why in (
        (elsewhere, "ship@1", "region SG"),
        (at_home, "activate_billing@1", "kind of target billing"),
    ):
        with pytest.raises(Denied, match=why):
            retry(order, task)
    with pytest.raises(Denied, match="the permission task.waive is missing"):
        authorize(
            actor=ida,
            action=Action.TASK_WAIVE,
            context=a_context(domains=frozenset({"billing"}), targets=frozenset({"biller"})),
        )
    assert desk.states_of(elsewhere)["ship@1"] == "FAILED_FINAL"
    assert desk.states_of(at_home)["activate_billing@1"] == "FAILED_FINAL"
    assert (Command.objects.count(), Operation.objects.count()) == (commands, records)


def test_a_permission_alone_allows_nothing_and_neither_does_a_grant_alone() -> None:
    permitted, granted = people.operator("pia"), people.operator("gus")
    people.permit(permitted, Action.TASK_RETRY)
    people.grant(granted, Action.TASK_RETRY)
    assert not may(people.actor(permitted))
    assert not may(people.actor(granted))
    people.grant(permitted, Action.TASK_RETRY)
    assert may(people.actor(permitted))


def test_both_may_come_from_a_role() -> None:
    group = Group.objects.create(name="Couriers")
    group.permissions.add(Permission.objects.get(codename=Action.TASK_RETRY.codename))
    user = people.operator("rosa")
    user.groups.add(group)
    Grant.objects.create(
        group=group,
        actions=["task.*"],
        regions=["ID"],
        reason="r",
        granted_by="x",
        granted_at=desk.now(),
    )
    assert may(people.actor(user))
    assert not may(people.actor(user), region="SG")
    assert not may(people.actor(user), Action.TASK_WAIVE)


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({"regions": ["ID", "SG"]}, {"region": "SG"}, {"region": "AT"}),
        ({"regions": ["ID"]}, {"region": "ID"}, {"region": ""}),
        (
            {"targets": ["courier"]},
            {"targets": frozenset({"courier"})},
            {"targets": frozenset({"courier", "biller"})},
        ),
        ({"targets": ["courier"]}, {}, {"targets": frozenset()}),
        (
            {"domains": ["logistics"]},
            {},
            {"domains": frozenset({"logistics", "billing"})},
        ),
        (
            {"products": ["handset", "case"]},
            {"products": frozenset({"case"})},
            {"products": frozenset({"handset", "line"})},
        ),
        (
            {"maximum_amount": Decimal(50), "currency": "EUR"},
            {"amounts": {"EUR": Decimal(50)}},
            {"amounts": {"EUR": Decimal("50.01")}},
        ),
        (
            {"maximum_amount": Decimal(50), "currency": "EUR"},
            {"amounts": {}},
            {"amounts": {"EUR": Decimal(1), "USD": Decimal(1)}},
        ),
        (
            {"maximum_amount": Decimal(50), "currency": "EUR"},
            {"amounts": {"EUR": Decimal(-50)}},
            {"amounts": {"EUR": Decimal(-51)}},
        ),
    ],
)
def test_each_scope_of_a_grant_limits_where_it_counts(
    scope: dict[str, Any], inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    actor = people.actor(people.operator("sam", Action.TASK_RETRY, **scope))
    assert may(actor, **inside)
    assert not may(actor, **outside)


def test_one_grant_has_to_cover_all_of_it_not_several_together() -> None:
    user = people.operator("tom", Action.TASK_RETRY, regions=["ID"], domains=["billing"])
    people.operator("tom", Action.TASK_RETRY, regions=["SG"], domains=["logistics"])
    assert not may(people.actor(user), region="ID")
    assert may(people.actor(user), region="SG")


def test_a_grant_counts_while_it_is_valid(clock: Callable[[float], None]) -> None:
    now = desk.now()
    actor = people.actor(
        people.operator(
            "val",
            Action.TASK_RETRY,
            valid_from=now + timedelta(hours=1),
            valid_until=now + timedelta(hours=2),
        )
    )
    assert not may(actor)
    clock(3601)
    assert may(actor)
    assert holds(actor=actor, action=Action.TASK_RETRY)
    clock(3600)
    assert not may(actor)
    assert not holds(actor=actor, action=Action.TASK_RETRY)


def test_a_superuser_does_not_shortcut_what_is_high_risk() -> None:
    boss = people.actor(User.objects.create(username="boss", is_superuser=True))
    people.operator("sarah", Action.GRANT_EDIT)
    assert {action for action in Action if may(boss, action)} == set(Action) - HIGH_RISK
    assert held(actor=boss) == set(Action) - HIGH_RISK
    people.operator("boss", Action.TASK_WAIVE)
    assert may(boss, Action.TASK_WAIVE)


def test_somebody_who_has_left_may_nothing() -> None:
    user = people.operator("leo", *people.EVERYTHING)
    assert may(people.actor(user))
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert not may(people.actor(user))
    assert not held(actor=people.actor(user))


def test_a_shell_may_nothing_that_is_high_risk_without_a_name() -> None:
    shell = console(account="root")
    assert {action for action in Action if may(shell, action)} == set(Action) - HIGH_RISK
    with pytest.raises(Denied, match="--as"):
        authorize(actor=shell, action=Action.TASK_WAIVE, context=a_context())


def test_a_name_given_in_a_shell_is_that_person_but_approves_nothing() -> None:
    user = people.operator("anna", *people.EVERYTHING)
    anna = person_at_console(name="anna", user_id=user.pk, account="root")
    assert anna.name == "anna (manage.py as root)"
    assert {action for action in Action if not may(anna, action)} == APPROVALS
    assert held(actor=anna) == set(Action) - APPROVALS


def test_the_engine_decides_nothing_that_is_high_risk() -> None:
    assert {action for action in Action if may(desk.by("scanner"), action)} == (
        set(Action) - HIGH_RISK
    )


def test_a_program_may_a_few_things_with_its_own_orders() -> None:
    shop = client(name="shop", owner="7")
    assert may(shop, Action.ORDER_CANCEL)
    assert not may(shop, Action.ORDER_CANCEL, owner="8")
    assert not may(shop, Action.ORDER_CANCEL, owner="")
    assert may(shop, Action.TASK_RETRY)
    assert not may(shop, Action.TASK_RETRY, domains=frozenset({"payment"}))
    assert not any(may(shop, action) for action in HIGH_RISK)


def test_every_decision_is_kept_with_what_it_was_about_and_why() -> None:
    user = people.operator("dora", Action.TASK_RETRY, regions=["ID"])
    assert may(people.actor(user))
    assert not may(people.actor(user), region="SG")
    denied, allowed = AuthorityDecision.objects.order_by("-pk")
    assert (allowed.is_allowed, allowed.actor, allowed.user_id) == (True, "dora", user.pk)
    assert allowed.why == f"grant {Grant.objects.get().pk} of dora"
    assert allowed.context["amounts"] == {"EUR": "49.90"}
    assert (denied.is_allowed, denied.subject, denied.action) == (False, "task:1", "task.retry")
    assert "region SG" in denied.why


def test_decisions_can_neither_be_changed_nor_deleted() -> None:
    may(people.anybody())
    for statement in (
        "UPDATE fulfillment_authoritydecision SET is_allowed = true",
        "DELETE FROM fulfillment_authoritydecision",
    ):
        with (
            connection.cursor() as raw,
            pytest.raises((InternalError, ProgrammingError)),
            transaction.atomic(),
        ):
            raw.execute(statement)


def test_a_grant_is_for_a_user_or_a_role_and_an_amount_has_a_currency() -> None:
    values = {"actions": ["task.*"], "reason": "r", "granted_by": "x", "granted_at": desk.now()}
    user, group = people.operator("gina"), Group.objects.create(name="A group")
    for wrong in (
        {},
        {"user": user, "group": group},
        {"user": user, "maximum_amount": Decimal(1)},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Grant.objects.create(**values, **wrong)


def test_every_action_has_words_and_a_permission() -> None:
    assert set(TITLES) == set(Action)
    known = Permission.objects.filter(content_type__model="operation").values_list(
        "codename", flat=True
    )
    assert {action.codename for action in Action} <= set(known)
