"""Fallout cases in the admin: found, understood, and closed by a person."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from fulfillment import operations, stuck
from fulfillment.actions import Action
from fulfillment.engine.work import audit
from fulfillment.errors import CaseUnknown, NotPossible, ReasonMissing
from fulfillment.models import (
    AuthorityDecision,
    CaseState,
    Command,
    FalloutCase,
    Incident,
    ManualTask,
    Operation,
    RoutingRule,
    Task,
    Transition,
)
from fulfillment.queries import case_queue
from oms.models import Order
from tests import desk, manual_work, people
from tests.desk import ScriptedSystems, by
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
    assert '<th scope="col">outcome</th>' in page
    assert "<td>REJECTED</td>" in page
    assert "<td>no_stock</td>" in page
    assert "idempotency key" in page
    task = desk.tasks_of(halfway)["two@1"]
    command = Command.objects.get(task=task)
    # What takes a grant of their own is not shown to who has none.
    assert "operate/task.correct/" not in page
    for address in (
        f"operate/task.retry/task:{task.pk}",
        address_of(Task, "change", task.pk),
        address_of(Command, "change", command.pk),
        f"/admin/orders/{halfway.reference}",
    ):
        assert address in page
    trail = f"{address_of(Transition, 'changelist')}?"
    assert trail in page


def test_a_case_that_waits_for_a_decision_leads_to_it(
    boss: Client, client: Client, systems: ScriptedSystems
) -> None:
    manual = manual_work.the_one(manual_work.without_its_input(systems))
    case = FalloutCase.objects.get(task=manual.task)
    page, decision = (
        address_of(FalloutCase, "change", case.pk),
        address_of(ManualTask, "change", manual.pk),
    )
    shown = text_of(boss, page)
    assert "Somebody has to decide" in shown
    assert decision in shown
    assert "Nothing that you may do now" not in shown
    # Who may not see decisions, nor do anything, is not told to do something.
    watcher = User.objects.create(username="watcher", is_staff=True)
    watcher.user_permissions.add(Permission.objects.get(codename="view_falloutcase"))
    client.force_login(watcher)
    shown = text_of(client, page)
    assert decision not in shown
    assert "Somebody else has to see to it" in shown
    assert "Give the case to somebody" not in shown


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


def operate(client: Client, action: str, subject: str, **given: str) -> str:
    """Through the form: what it would do is looked at, and done. The page behind it."""
    address = reverse("admin:fulfillment_operate", args=[action, subject])
    seen = client.post(address, given).content.decode()
    hidden = dict(re.findall(r'name="(seen|version)"[^>]*value="([^"]*)"', seen))
    return str(client.post(address, {**given, **hidden}, follow=True).content.decode())


def test_a_case_is_closed_with_a_resolution_and_stands_in_the_audit_trail(
    boss: Client, case: FalloutCase, halfway: Order
) -> None:
    page = address_of(FalloutCase, "change", case.pk)
    close = f"operate/case.close/case:{case.pk}"
    assert close in text_of(boss, page)
    shown = operate(boss, "case.close", f"case:{case.pk}", reason="Sold out; the customer knows.")
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

    again = operate(boss, "case.close", f"case:{case.pk}", reason="Otherwise.")
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
    take = address_of(FalloutCase, "take", case.pk)
    assert "operate/" not in page
    assert take not in page
    assert take not in text_of(client, _LIST)
    assert client.post(take).status_code == 403
    assert FalloutCase.objects.get().state == CaseState.OPEN
    refused = AuthorityDecision.objects.get(is_allowed=False)
    assert (refused.actor, refused.subject, refused.action) == ("guest", take, "page")


def test_a_case_is_taken_with_one_click_and_who_comes_late_is_told(
    boss: Client, case: FalloutCase
) -> None:
    take = address_of(FalloutCase, "take", case.pk)
    assert take in text_of(boss, _LIST)
    assert boss.get(take).status_code == 405
    back = f"{_LIST}?whose=nobody"
    answer = boss.post(take, headers={"referer": f"http://testserver{back}"})
    assert answer["Location"].endswith(back)
    case = FalloutCase.objects.get(pk=case.pk)
    assert (case.state, case.assigned_to) == (CaseState.ASSIGNED, "boss")
    assert Operation.objects.get(kind="assign_case").reason == "I see to it."
    assert "you · operations" in text_of(boss, _LIST)

    other = Client()
    other.force_login(people.operator("olga", Action.CASE_ASSIGN))
    User.objects.get(username="olga").user_permissions.add(
        *Permission.objects.filter(codename="view_falloutcase")
    )
    late = other.post(take, follow=True, headers={"referer": "http://elsewhere.example/"})
    assert f"boss has case {case.pk} since" in late.content.decode()
    assert late.request["PATH_INFO"] == address_of(FalloutCase, "change", case.pk)

    boss.post(address_of(FalloutCase, "give_back", case.pk))
    assert FalloutCase.objects.get(pk=case.pk).state == CaseState.OPEN


def test_the_list_says_how_many_wait_and_narrows_with_one_click(
    boss: Client, case: FalloutCase
) -> None:
    late = _another(case, minutes=-5)
    FalloutCase.objects.filter(pk=late.pk).update(
        severity="HIGH",
        revenue_amount=100,
        revenue_currency="EUR",
        revenue={"1": {"EUR": ["100.00", "0"]}},
    )
    page = text_of(boss, f"{_LIST}?resolved_at__isempty=1")
    assert "2 open, 1 overdue; they keep 100.00 EUR waiting." in page
    assert "severity__exact=HIGH" in page
    for query, found in (
        ("due=overdue", [late]),
        ("whose=mine", []),
        ("whose=nobody", [late, case]),
        ("resolved_at__isempty=1&severity__exact=HIGH", [late]),
        ("resolved_at__isempty=1&joined=yes", []),
    ):
        listed = boss.get(f"{_LIST}?{query}").context["cl"].result_list
        assert [one.pk for one in listed] == [one.pk for one in found], query
    boss.post(address_of(FalloutCase, "take", case.pk))
    for query in ("whose=mine", "whose=queues"):
        listed = boss.get(f"{_LIST}?{query}").context["cl"].result_list
        assert case.pk in [one.pk for one in listed], query


def test_the_list_and_an_incident_tell_the_same_sum_as_today(
    boss: Client, case: FalloutCase
) -> None:
    """Each item once, however many cases name it."""
    other = _another(case, minutes=5)
    incident = Incident.objects.create(
        fingerprint=case.fingerprint,
        target="alpha",
        action="two",
        reason_code="no_stock",
        title="alpha two: no_stock",
        severity="HIGH",
        owner_queue="logistics",
        opened_at=case.opened_at,
    )
    FalloutCase.objects.filter(pk__in=[case.pk, other.pk]).update(
        incident=incident,
        revenue={"1": {"EUR": ["60.00", "40.00"], "USD": ["7", "0"]}},
        revenue_amount=100,
        revenue_currency="EUR",
    )
    assert "2 open, 0 overdue; they keep 100.00 EUR, 7.00 USD waiting." in text_of(boss, _LIST)
    page = text_of(boss, address_of(Incident, "change", incident.pk))
    assert "100.00 EUR" in page
    assert "7.00 USD" in page
    assert "200.00 EUR" not in page
    operations.close_case(case_id=case.pk, resolution="Done.", actor=by("anna"))
    assert "1 case, 1 order" in text_of(boss, address_of(Incident, "changelist"))


def test_more_cases_than_are_looked_at_are_told_as_more(
    boss: Client, case: FalloutCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minutes in range(3):
        _another(case, minutes=minutes + 1)
    monkeypatch.setattr(case_queue, "MOST", 2)
    tabs = {one.words: one.number for one in boss.get(_LIST).context["queue"].tabs}
    assert tabs["All open"] == "2+"
    assert tabs["Nobody's"] == "3+"


def test_a_number_beside_a_view_is_that_of_its_list(boss: Client, case: FalloutCase) -> None:
    """Where the list is narrowed already, it would be fewer: there is none then."""
    other = _another(case, minutes=5)
    FalloutCase.objects.filter(pk=other.pk).update(severity="LOW", target="beta")
    for query in ("resolved_at__isempty=1", "resolved_at__isempty=1&target__exact=beta"):
        head = boss.get(f"{_LIST}?{query}").context["queue"]
        shown = [*head.tabs, *(choice for _, choices in head.facets for choice in choices)]
        numbered = [one for one in shown if one.number and not one.is_here]
        assert numbered
        for one in numbered:
            listed = boss.get(f"{_LIST}{one.address}").context["cl"]
            assert str(listed.result_count) == one.number, (query, one)


def test_an_empty_list_says_what_that_means(boss: Client, systems: ScriptedSystems) -> None:
    shown = text_of(boss, _LIST)
    assert "No case is open: nothing waits for a person." in shown
    assert "There are no fallout cases." in shown
    filtered = text_of(boss, f"{_LIST}?resolved_at__isempty=1")
    assert "Show all fallout cases" in filtered


def test_a_page_leads_back_to_the_list_as_it_was_filtered(boss: Client, case: FalloutCase) -> None:
    page = address_of(FalloutCase, "change", case.pk)
    shown = text_of(boss, f"{page}?_changelist_filters=resolved_at__isempty%3D1")
    assert f'href="{address_of(FalloutCase, "changelist")}?resolved_at__isempty=1"' in shown


def test_who_may_have_a_case_is_offered_while_one_types(client: Client, case: FalloutCase) -> None:
    client.force_login(people.operator("carl", Action.CASE_ASSIGN))
    people.operator("dora", Action.CASE_CLOSE)
    form = f"/admin/fulfillment/operation/operate/case.assign/case:{case.pk}"
    shown = text_of(client, form)
    assert 'list="id_parameter-to_offered"' in shown
    offered = shown.split('<datalist id="id_parameter-to_offered">')[1].split("</datalist>")[0]
    assert '<option value="carl">' in offered
    assert "dora" not in offered


def test_what_is_hostile_in_a_case_is_text(boss: Client, case: FalloutCase) -> None:
    FalloutCase.objects.filter(pk=case.pk).update(
        title="<script>x</script>", explanation="<script>x</script>"
    )
    for address in (_LIST, address_of(FalloutCase, "change", case.pk)):
        page = text_of(boss, address)
        assert "<script>x" not in page
        assert "&lt;script&gt;x" in page


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


def test_an_incident_that_ended_with_its_cases_says_so(boss: Client, case: FalloutCase) -> None:
    earlier = _another(case, minutes=5)
    operations.close_case(case_id=earlier.pk, resolution="x", actor=by("anna"))
    before = case.opened_at - timedelta(hours=1)
    # What ends by itself leaves no words.
    FalloutCase.objects.filter(pk=earlier.pk).update(resolved_at=before, resolution="")
    incident = Incident.objects.create(
        fingerprint=case.fingerprint,
        title="alpha use: no_stock",
        severity="MEDIUM",
        owner_queue="operations",
        opened_at=case.opened_at,
    )
    FalloutCase.objects.filter(pk=case.pk).update(incident=incident)
    operations.close_case(case_id=case.pk, resolution="Mended.", actor=by("anna"))
    operations.group_cases()
    page = " ".join(text_of(boss, address_of(Incident, "change", incident.pk)).split())
    assert "UTC with the last of its cases, after" in page
    assert f">Case {earlier.pk}</a>, closed {before:%Y-%m-%d %H:%M} UTC by anna</li>" in page


def test_a_case_says_what_fixed_it_last_time_and_offers_to_do_the_same(
    boss: Client, case: FalloutCase, halfway: Order, systems: ScriptedSystems
) -> None:
    before = _another(case, minutes=5)
    task = desk.tasks_of(halfway)["two@1"]
    Operation.objects.create(
        kind="retry",
        subject=f"task:{task.pk}",
        actor="anna",
        reason="They have stock again.",
        order_reference=halfway.reference,
        happened_at=desk.now(),
    )
    operations.close_case(case_id=before.pk, resolution="It was delivered.", actor=by("anna"))
    page = text_of(boss, address_of(FalloutCase, "change", case.pk))
    assert "by anna: It was delivered." in page
    assert "They have stock again." in page
    assert "Do the same: try a failed task again" in page
    closed = text_of(boss, address_of(FalloutCase, "change", before.pk))
    assert "Do the same" not in closed
    assert "What may help" not in closed


def test_the_page_of_a_case_costs_the_same_however_many_tasks_it_has(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task()}, offering="pair")
    desk.workflow({f"t{n}": desk.task(action="one") for n in range(40)}, offering="crowd")
    systems.sends["one"] = [desk.rejected("no_map")] * 50
    asked = []
    for offering in ("pair", "crowd"):
        desk.order(desk.item(offering))
        desk.drain()
        case = FalloutCase.objects.latest("pk")
        with CaptureQueriesContext(connection) as captured:
            text_of(boss, address_of(FalloutCase, "change", case.pk))
        asked.append(len(captured))
    assert case.tasks_open == 40
    assert asked[0] == asked[1]
