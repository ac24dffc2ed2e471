"""What holds for every operation there is: described, refused without a trace, and documented."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.management.commands.operate import DENIED
from fulfillment.models import (
    AuthorityDecision,
    FalloutCase,
    Hold,
    InboundEvent,
    Incident,
    ManualTask,
    Task,
)
from fulfillment.operations import bulk
from fulfillment.operations.fields import fields_of
from fulfillment.operations.offering import help_of
from oms.environment import CHECKOUT
from oms.models import Order
from tests import people
from tests.api import Api, problem

pytestmark = pytest.mark.django_db
REPAIRS = list(operations.every_repair())
_LOGGED = ("fulfillment_authoritydecision",)
"""What a denial may write to, and has to."""


@pytest.fixture
def subjects(halfway: Order) -> Mapping[str, str]:
    """One subject of each kind that operations are about."""
    task = Task.objects.filter(state="FAILED_FINAL").get()
    drafter = people.anybody("drafter", Action.BULK_START, Action.TASK_RETRY)
    job = bulk.draft(
        actor=drafter,
        action=Action.TASK_RETRY,
        selection=bulk.Selection(of="task", names=[str(task.pk)]),
        reason="They have mended it.",
    )
    bulk.work()
    reference = halfway.reference
    return {
        "task": f"task:{task.pk}",
        "plan": f"plan:{task.plan_id}",
        "order": f"order:{reference}",
        "item": f"item:{reference}/1",
        "target": "target:alpha",
        "action": "action:alpha/one",
        "customer": "customer:C-9",
        "case": f"case:{FalloutCase.objects.latest('pk').pk}",
        "hold": f"hold:{Hold.objects.get().pk}",
        "manual": f"manual:{ManualTask.objects.latest('pk').pk}",
        "event": f"event:{InboundEvent.objects.latest('pk').pk}",
        "resource": "resource:depot",
        "lock": "lock:depot:7",
        "incident": f"incident:{Incident.objects.get().pk}",
        "routing": "routing:a-rule",
        "bulk": f"bulk:{job.pk}",
        "user": f"user:{people.operator('mallory')}",
        "group": f"group:{Group.objects.get_or_create(name='night shift')[0]}",
    }


def everything() -> dict[str, str]:
    """All rows of ours, as one digest for each table."""
    tables = [
        model._meta.db_table
        for app in ("fulfillment", "oms")
        for model in apps.get_app_config(app).get_models()
        if model._meta.db_table not in _LOGGED
    ]
    found = {}
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t")
            found[table] = cursor.fetchone()[0]
    return found


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.action.value)
def test_nobody_does_it_without_the_permission_at_any_edge(
    repair: operations.Repair, subjects: Mapping[str, str]
) -> None:
    others = [action for action in Action if action is not repair.action]
    eve = people.operator("eve", *others)
    eve.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    browser = Client()
    browser.force_login(eve)
    api = Api(user=eve)
    before = everything()
    for kind in (repair.about, *repair.also_about):
        subject = subjects[kind]
        asked = {"action": repair.action.value, "subject": subject, "reason": "x"}
        for path in ("/operations", "/operations/preview"):
            found = problem(api.send("POST", path, {**asked, "evidence": "y"}))
            assert (found["status"], found["code"]) == (403, "authority.denied"), found

        form = reverse("admin:fulfillment_operate", args=[repair.action.value, subject])
        assert browser.get(form).status_code == 403
        assert browser.post(form, {"reason": "x", "evidence": "y"}).status_code == 403

        for more in ((), ("--preview",)):
            with pytest.raises(CommandError) as refused:
                call_command(
                    "operate", asked["action"], subject, "--reason", "x", "--as", "eve", *more
                )
            assert refused.value.returncode == DENIED
    assert everything() == before
    hers = AuthorityDecision.objects.filter(user_id=eve.pk)
    assert hers.filter(action=repair.action, is_allowed=False).count() == 5 * (
        1 + len(repair.also_about)
    )
    assert not hers.filter(is_allowed=True).exists()


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.action.value)
def test_it_says_what_it_does_and_what_it_has_to_be_told(repair: operations.Repair) -> None:
    assert help_of(repair).endswith(".")
    assert repair.action.words
    for field in fields_of(repair):
        assert field.help.endswith("."), field.name


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.action.value)
def test_it_is_documented(repair: operations.Repair) -> None:
    documented = (CHECKOUT / "docs" / "repairs.md").read_text()
    assert f"`{repair.action.value}`" in documented
