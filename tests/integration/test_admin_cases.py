"""Fallout cases in the admin: found, understood, and closed by a person."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils.html import escape

from fulfillment import operations, stuck
from fulfillment.engine.work import audit
from fulfillment.errors import CaseUnknown, NotPossible, ReasonMissing
from fulfillment.models import (
    AuthorityDecision,
    CaseState,
    Command,
    FalloutCase,
    Incident,
    Operation,
    RoutingRule,
    Task,
    Transition,
)
from oms.models import Order
from tests import desk
from tests.desk import by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db
_LIST = address_of(FalloutCase, "changelist")


@pytest.fixture
def case(halfway: Order) -> FalloutCase:
    return FalloutCase.objects.get()


def test_a_case_says_what_happened_what_it_costs_and_what_may_be_done(
    boss: Client, case: FalloutCase, halfway: Order
) -> None:
    page = text_of(boss, address_of(FalloutCase, "change", case.pk))
    assert "Use it: alpha does not do it" in page
    assert case.explanation.split(".")[0] in page
    assert escape(case.customer_impact) in page
    assert "Try a failed task again" in page
    assert "What has to be found out" in page
    assert "1 of 1 have not got on" in page
    assert "<th>outcome</th>" in page
    assert "<td>REJECTED</td>" in page
    assert "<td>no_stock</td>" in page
    assert "idempotency key" in page
    task = desk.tasks_of(halfway)["two@1"]
    command = Command.objects.get(task=task)
    for address in (
        address_of(Task, "change", task.pk),
        address_of(Command, "change", command.pk),
        f"/admin/orders/{halfway.reference}",
    ):
        assert address in page
    trail = f"{address_of(Transition, 'changelist')}?"
    assert trail in page


def test_the_order_s_page_shows_its_open_cases(
    boss: Client, case: FalloutCase, halfway: Order
) -> None:
    page = text_of(boss, address_of(Order, "change", halfway.pk))
    assert "Open cases" in page
    assert address_of(FalloutCase, "change", case.pk) in page
    operations.close_case(case_id=case.pk, resolution="Sold out.", actor=by("anna"))
    assert "Open cases" not in text_of(boss, address_of(Order, "change", halfway.pk))


def test_open_cases_come_first_by_the_time_that_is_left(boss: Client, case: FalloutCase) -> None:
    late, later = _another(case, minutes=-5), _another(case, minutes=5)
    closed = _another(case, minutes=-60)
    operations.close_case(case_id=closed.pk, resolution="Done.", actor=by("anna"))
    listed = boss.get(_LIST)
    shown = [one.pk for one in listed.context["cl"].result_list]
    assert shown == [late.pk, later.pk, case.pk, closed.pk]
    assert listed.content.decode().count("⚠</span> overdue") == 1
    narrowed = boss.get(_LIST, {"state__exact": "OPEN"}).context["cl"].result_list
    assert [one.pk for one in narrowed] == [late.pk, later.pk, case.pk]


def _another(case: FalloutCase, *, minutes: int) -> FalloutCase:
    made = FalloutCase.objects.get(pk=case.pk)
    made.pk = None
    made.subject = f"{case.subject}:{minutes}"
    made.sla_due_at = case.opened_at + timedelta(minutes=minutes)
    made.save(force_insert=True)
    return made


def test_a_case_is_closed_with_a_resolution_and_stands_in_the_audit_trail(
    boss: Client, case: FalloutCase, halfway: Order
) -> None:
    page = address_of(FalloutCase, "change", case.pk)
    close = address_of(FalloutCase, "close", case.pk)
    assert close in text_of(boss, page)
    assert "This field is required" in boss.post(close, {"resolution": " "}).content.decode()
    answer = boss.post(close, {"resolution": "Sold out; the customer knows."}, follow=True)
    shown = answer.content.decode()
    assert f"Case {case.pk} is closed" in shown
    assert "Sold out; the customer knows." in shown
    assert "✓</span> resolved" in shown
    assert close not in shown
    case = FalloutCase.objects.get(pk=case.pk)
    assert (case.state, case.resolved_by) == (CaseState.RESOLVED, "boss")
    told = Transition.objects.get(entity="case", name="resolve")
    assert (told.entity_id, told.actor, told.cause) == (
        str(case.pk),
        "boss",
        "Sold out; the customer knows.",
    )
    assert audit.verify(fulfillment_id=halfway.fulfillment_id) == []
    entry = Operation.objects.get(kind="close_case")
    assert (entry.subject, entry.reason) == (f"case:{case.pk}", "Sold out; the customer knows.")

    again = boss.post(close, {"resolution": "Otherwise."}, follow=True).content.decode()
    assert "is closed already, by boss" in again
    assert FalloutCase.objects.get(pk=case.pk).resolution == "Sold out; the customer knows."
    assert Operation.objects.filter(kind="close_case").count() == 1


def test_closing_mends_nothing_so_an_order_that_is_stuck_gets_a_new_case(
    case: FalloutCase,
) -> None:
    operations.close_case(case_id=case.pk, resolution="Not my business.", actor=by("anna"))
    stuck.detect_stuck()
    fresh = FalloutCase.objects.get(state=CaseState.OPEN)
    assert fresh.pk != case.pk
    assert fresh.category == "STUCK"


def test_closing_one_leaves_a_newer_case_about_the_same_open(case: FalloutCase) -> None:
    operations.close_case(case_id=case.pk, resolution="First.", actor=by("anna"))
    fresh = FalloutCase.objects.get(pk=case.pk)
    newer = FalloutCase(
        **{
            field.attname: getattr(fresh, field.attname)
            for field in FalloutCase._meta.concrete_fields
            if field.name not in ("id", "state", "resolved_at", "resolved_by", "resolution")
        }
    )
    newer.save(force_insert=True)
    with pytest.raises(NotPossible, match="by anna: First"):
        operations.close_case(case_id=case.pk, resolution="Again.", actor=by("anna"))
    newer.refresh_from_db()
    assert newer.state == CaseState.OPEN


def test_who_may_only_look_closes_nothing(client: Client, case: FalloutCase) -> None:
    guest = User.objects.create(username="guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_falloutcase"))
    client.force_login(guest)
    page = text_of(client, address_of(FalloutCase, "change", case.pk))
    close = address_of(FalloutCase, "close", case.pk)
    assert close not in page
    assert client.post(close, {"resolution": "x"}).status_code == 403
    assert FalloutCase.objects.get().state == CaseState.OPEN
    refused = AuthorityDecision.objects.get(is_allowed=False)
    assert (refused.actor, refused.subject, refused.action) == ("guest", close, "page")


def test_closing_needs_a_case_and_a_resolution(case: FalloutCase) -> None:
    with pytest.raises(CaseUnknown, match="manage.py cases list"):
        operations.close_case(case_id=999_999, resolution="x", actor=by("anna"))
    with pytest.raises(ReasonMissing):
        operations.close_case(case_id=case.pk, resolution="  ", actor=by("anna"))


def test_incidents_and_rules_have_pages_that_only_show(boss: Client, case: FalloutCase) -> None:
    incident = Incident.objects.create(
        fingerprint=case.fingerprint,
        target="alpha",
        action="use",
        reason_code="no_stock",
        title="alpha use: no_stock",
        severity="MEDIUM",
        owner_queue="operations",
        opened_at=case.opened_at,
    )
    FalloutCase.objects.filter(pk=case.pk).update(incident=incident)
    RoutingRule.objects.create(name="stock", position=1, owner_queue="supply")
    assert "alpha use: no_stock" in text_of(boss, address_of(Incident, "changelist"))
    assert "alpha use: no_stock" in text_of(boss, address_of(Incident, "change", incident.pk))
    assert "supply" in text_of(boss, address_of(RoutingRule, "changelist"))
    page = text_of(boss, address_of(RoutingRule, "change", "stock"))
    assert 'name="owner_queue"' not in page
