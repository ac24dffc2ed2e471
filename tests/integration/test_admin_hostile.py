"""The admin against whoever means harm, or copies an address wrongly: what is kept secret stays so,
nothing breaks, nothing can be made to read a whole table, and what is shown may also be done."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.reading import list_address
from fulfillment.models import (
    Approval,
    ApprovalState,
    Attempt,
    AuthorityDecision,
    BulkJob,
    FalloutCase,
    Incident,
    Resource,
    ResourceLock,
    Subscription,
    Task,
    Transition,
)
from fulfillment.operations import bulk
from oms.models import ApiKey, Order
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.pages import address_of, desk_models, text_of

pytestmark = pytest.mark.django_db
NUL = "\0"


def asked(model: type[Model], **lookups: str) -> str:
    return f"{address_of(model, 'changelist')}?{urlencode(lookups)}"


# --- what lists are asked for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "lookups"),
    [
        (Subscription, {"secret__startswith": "whsec_"}),
        (Subscription, {"secret__gte": "whsec_a"}),
        (Subscription, {"secret__lt": "whsec_z"}),
        (Subscription, {"next_secret__regex": "^w"}),
        (ApiKey, {"secret_hash__startswith": "a"}),
        (ApiKey, {"secret_hash__lte": "b"}),
        (ApiKey, {"user__password__startswith": "a"}),
        (User, {"password__startswith": "a"}),
        (User, {"username__regex": "(a+)+$"}),
        (Order, {"customer_email__iregex": "(a|a)*$"}),
        (Order, {"customer_name__icontains": "a"}),
        (Order, {"items__offering": "thing"}),
        (Order, {"items__isnull": "0"}),
        (Order, {"submitted_at__year": "2026"}),
        (Task, {"outputs__number": "N-1"}),
        (Task, {"outputs__has_key": "number"}),
        (Task, {"commands__payload__contains": "1"}),
    ],
)
def test_a_list_is_not_asked_for_parts_of_a_text(
    boss: Client, halfway: Order, model: type[Model], lookups: dict[str, str]
) -> None:
    """Letter by letter that would tell what no page shows; and it would read all rows."""
    refused = boss.get(asked(model, **lookups))
    assert (refused.status_code, refused.headers["Location"]) == (
        302,
        address_of(model, "changelist"),
    )
    assert "not filtered like that" in text_of(boss, refused.headers["Location"])


@pytest.mark.parametrize(
    ("model", "lookups"),
    [
        (Transition, {"cause": "x"}),
        (Task, {"blocked_reason": "x"}),
        (Order, {"plan_open": "1"}),
        (Order, {"customer_email": "x"}),
        (Attempt, {"message__exact": "x"}),
        (Order, {"no_such_thing": "x"}),
    ],
)
def test_a_list_is_not_asked_for_what_no_index_finds(
    boss: Client, halfway: Order, model: type[Model], lookups: dict[str, str]
) -> None:
    assert boss.get(asked(model, **lookups)).status_code == 302


def test_an_action_does_not_reach_further_than_its_list(boss: Client, halfway: Order) -> None:
    """All that a list finds, for a filter that it does not know, is not all that there is."""
    forged = {"action": "do_to_all", "select_across": "1", "_selected_action": str(halfway.pk)}
    answer = boss.post(asked(Order, customer_name__icontains="zzz"), forged)
    assert answer.headers["Location"] == address_of(Order, "changelist")


def test_a_list_is_in_the_order_that_it_offers_and_in_no_other(
    boss: Client, halfway: Order
) -> None:
    for model in desk_models():
        address = address_of(model, "changelist")
        plain = boss.get(address).context["cl"]
        if getattr(plain.model_admin, "sortable_by", None) != ():
            continue
        turned = boss.get(f"{address}?o=1.-2.3").context["cl"]
        assert str(turned.queryset.query.order_by) == str(plain.queryset.query.order_by), model


# --- what can't be stored, or be the number of a row ---------------------------------------------


def test_what_no_column_can_hold_finds_nothing_and_breaks_nothing(
    boss: Client, halfway: Order
) -> None:
    order = address_of(Order, "change", halfway.pk)
    case = address_of(FalloutCase, "change", FalloutCase.objects.values_list("pk", flat=True)[0])
    for address in (
        f"{order}?{urlencode({'key': NUL})}",
        f"{order}?{urlencode({'task': NUL})}",
        f"{order}?{urlencode({'from': NUL})}",
        f"{case}?{urlencode({'_changelist_filters': NUL})}",
        asked(User, username=NUL),
        asked(User, q=NUL),
    ):
        assert boss.get(address, follow=True).status_code == 200, address
        looked = boss.get(address, headers={"HX-Request": "true", "HX-Target": "order-entries"})
        assert looked.status_code < 500, address


@pytest.mark.parametrize(
    "subject",
    ["order:", "order:/1", "item:", "action:/x", "task:", "task:" + "9" * 40, "target:x\ny", ":"],
)
def test_a_form_about_nothing_says_so(halfway: Order, subject: str) -> None:
    anna = browser("anna", *people.EVERYTHING)
    for action in (Action.HOLD_PLACE, Action.TASK_RETRY, Action.ORDER_CANCEL, Action.TARGET_PAUSE):
        address = reverse("admin:fulfillment_operate", args=[action.value, subject])
        assert anna.get(address).status_code < 500
        assert anna.post(address, {"reason": "Why."}).status_code in (400, 403, 404, 409)


def test_the_board_of_locks_bears_the_names_that_customers_have(
    boss: Client, halfway: Order
) -> None:
    """Clients choose the ids of their customers, and locks are called by them."""
    lock = ResourceLock.objects.get()
    Resource.objects.create(name="customer", kept_by="PLAN")
    for name in ("customer:C\n1", "customer:<script>", "customer:../x", "customer:"):
        ResourceLock.objects.filter(pk=lock.pk).update(name=name)
        anna = browser("anna", *people.EVERYTHING, is_superuser=True)
        text = text_of(anna, reverse("desk_locks"))
        assert "<script>" not in text.partition("</head>")[2].replace("<script src", "")
        assert text_of(anna, address_of(ResourceLock, "change", lock.pk))


@pytest.mark.parametrize("name", ["a/../b", "../x", "a/./b", "a/..~/b", "a/..", "..."])
def test_a_browser_finds_the_form_about_what_is_called_like_a_way_up(
    boss: Client, halfway: Order, name: str
) -> None:
    lock = ResourceLock.objects.get()
    ResourceLock.objects.filter(pk=lock.pk).update(name=f"customer:{name}")
    subject = f"lock:customer:{name}@{halfway.reference}"
    for asked in (subject, f"customer:{name}"):
        address = reverse("admin:fulfillment_operate", args=[Action.LOCK_BREAK.value, asked])
        # As browsers do, before they ask.
        assert posixpath.normpath(address) == address
        assert resolve(unquote(address)).kwargs["subject"] == asked
    anna = browser("anna", *people.EVERYTHING, is_superuser=True)
    page = text_of(anna, reverse("admin:fulfillment_operate", args=["lock.break", subject]))
    assert f"customer:{name}" in page
    way_back = list_address(ResourceLock, name__exact=f"customer:{name}")
    assert f'href="{way_back}"' in page
    assert address_of(ResourceLock, "change", lock.pk) in text_of(anna, way_back)


def browser(name: str, *actions: Action, is_superuser: bool = False, **scopes: Any) -> Client:
    user = people.operator(name, *actions, **scopes)
    if is_superuser:
        User.objects.filter(pk=user.pk).update(is_superuser=True)
    client = Client()
    client.force_login(user)
    return client


# --- what is shown may be done -------------------------------------------------------------------

_SEEN = (
    *("view_falloutcase", "view_incident", "view_approval", "view_order", "view_task"),
    *("view_resourcelock", "view_bulkjob"),
)


def regional(name: str, *actions: Action, region: str) -> Client:
    """Somebody who sees everything, and may do these things in one region."""
    client = browser(name, *actions, regions=[region])
    seen = Permission.objects.filter(codename__in=_SEEN)
    User.objects.get(username=name).user_permissions.add(*seen)
    return client


@pytest.fixture
def in_indonesia(systems: ScriptedSystems) -> FalloutCase:
    """A case of an order of the region ID."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected("no_stock")]
    desk.order(region="ID")
    desk.drain()
    return FalloutCase.objects.get()


CASEWORK = (Action.CASE_ASSIGN, Action.CASE_CLOSE, Action.CASE_ESCALATE)


def test_a_case_of_another_region_has_no_button(in_indonesia: FalloutCase) -> None:
    page = address_of(FalloutCase, "change", in_indonesia.pk)
    take = reverse("admin:fulfillment_falloutcase_take", args=[in_indonesia.pk])
    for region, expected in (("ID", True), ("AT", False)):
        client = regional(f"clerk-{region}", *CASEWORK, region=region)
        text = text_of(client, page)
        listed = text_of(client, address_of(FalloutCase, "changelist"))
        for button in (take, "case.close", "case.escalate"):
            assert (button in text) is expected, (region, button)
        assert (take in listed) is expected, region


def test_a_list_of_cases_costs_no_more_for_whom_it_asks_about_each(
    in_indonesia: FalloutCase, systems: ScriptedSystems
) -> None:
    client = regional("clerk", *CASEWORK, region="ID")

    def cost() -> int:
        with CaptureQueriesContext(connection) as asked:
            text_of(client, address_of(FalloutCase, "changelist"))
        return len(asked)

    text_of(client, address_of(FalloutCase, "changelist"))
    few = cost()
    systems.sends["one"] = [desk.rejected("no_stock") for _ in range(5)]
    for _ in range(5):
        desk.order(region="ID")
    desk.drain()
    assert FalloutCase.objects.count() == 6
    assert cost() == few


def test_an_incident_at_another_target_system_has_no_button(halfway: Order) -> None:
    incident = Incident.objects.get()
    page = address_of(Incident, "change", incident.pk)
    take = reverse("admin:fulfillment_incident_take", args=[incident.pk])
    actions = (
        *(Action.INCIDENT_ASSIGN, Action.INCIDENT_RELEASE, Action.INCIDENT_CLOSE),
        *(Action.BULK_START, Action.TASK_RETRY),
    )
    for target, expected in (("alpha", True), ("beta", False)):
        client = browser(f"at-{target}", *actions, targets=[target])
        user = User.objects.get(username=f"at-{target}")
        user.user_permissions.add(*Permission.objects.filter(codename__in=_SEEN))
        text = text_of(client, page)
        for button in (take, "incident.release", "incident.close"):
            assert (button in text) is expected, (target, button)


def test_who_may_try_none_of_them_again_is_not_offered_to_release_them(halfway: Order) -> None:
    """What comes of a release is tried again in the name of whoever starts it."""
    incident = Incident.objects.get()
    page = address_of(Incident, "change", incident.pk)
    form = reverse(
        "admin:fulfillment_operate", args=[Action.INCIDENT_RELEASE.value, f"incident:{incident.pk}"]
    )
    for name, scopes, expected in (
        ("here", {"targets": [incident.target]}, True),
        ("some-of-them", {"regions": ["ID"]}, True),  # Which of them is known row by row.
        ("elsewhere", {"targets": ["beta"]}, False),
    ):
        client = browser(name, Action.INCIDENT_RELEASE, Action.BULK_START)
        user = User.objects.get(username=name)
        people.operator(name, Action.TASK_RETRY, **scopes)
        user.user_permissions.add(*Permission.objects.filter(codename__in=_SEEN))
        assert ("incident.release" in text_of(client, page)) is expected, name
        assert client.get(form).status_code == (200 if expected else 403), name
        asked = client.post(form, {"reason": "They have mended it."})
        assert (asked.status_code != 403) is expected, name
    (refused,) = AuthorityDecision.objects.filter(actor="elsewhere", is_allowed=False)
    assert refused.action == Action.TASK_RETRY


def test_who_approves_elsewhere_is_not_offered_to_approve_here(in_indonesia: FalloutCase) -> None:
    asked_for = operations.ask_for_approval(
        prepared=operations.prepared(
            actor=people.anybody("anna", Action.TASK_WAIVE),
            request=operations.Request(
                action=Action.TASK_WAIVE,
                subject=f"task:{in_indonesia.task_id}",
                reason="Sold out.",
                evidence="A call.",
            ),
        )
    )
    page = address_of(Approval, "change", asked_for.pk)
    approve = reverse("admin:fulfillment_approval_approve", args=[asked_for.pk])
    for region, expected in (("ID", True), ("AT", False)):
        client = regional(f"senior-{region}", Action.APPROVE_OPERATIONS, region=region)
        assert (approve in text_of(client, page)) is expected, region
        if not expected:
            client.post(approve, {"reason": "Fine."})
            asked_for.refresh_from_db()
            assert asked_for.state == ApprovalState.REQUESTED


def test_the_form_of_what_one_may_not_do_here_is_not_shown(in_indonesia: FalloutCase) -> None:
    for subject, action in (
        (f"case:{in_indonesia.pk}", Action.CASE_CLOSE),
        (f"task:{in_indonesia.task_id}", Action.TASK_RETRY),
    ):
        form = reverse("admin:fulfillment_operate", args=[action.value, subject])
        assert regional("ida", action, region="ID").get(form).status_code == 200
        assert regional("ante", action, region="AT").get(form).status_code == 403


def test_a_task_of_another_region_is_not_offered_to_be_tried_again(
    in_indonesia: FalloutCase,
) -> None:
    page = address_of(Task, "change", in_indonesia.task_id)
    retry = reverse("admin:fulfillment_task_retry", args=[in_indonesia.task_id])
    for region, expected in (("ID", 200), ("AT", 403)):
        client = regional(f"clerk-{region}", Action.TASK_RETRY, region=region)
        assert (retry in text_of(client, page)) is (expected == 200), region
        assert client.get(retry, follow=True).status_code == expected


def test_the_evidence_of_another_region_is_neither_offered_nor_given(
    in_indonesia: FalloutCase,
) -> None:
    order = Order.objects.get()
    take = address_of(Order, "evidence", order.pk)
    page = address_of(Order, "change", order.pk)
    for region, expected in (("ID", 200), ("AT", 403)):
        client = regional(f"clerk-{region}", Action.ORDER_EVIDENCE, region=region)
        assert (take in text_of(client, page)) is (expected == 200), region
        assert client.get(take).status_code == expected
        assert client.post(take, {"reason": "For the court."}).status_code == expected
    (refused,) = AuthorityDecision.objects.filter(actor="clerk-AT", is_allowed=False)
    assert refused.action == Action.ORDER_EVIDENCE


def test_a_lock_of_another_region_has_no_button(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    customer = {"resource": "customer", "key": "${order.customer.id}"}
    desk.workflow({"one": desk.task()}, locks=[customer])
    systems.sends["one"] = [desk.accepted()] * 2
    for region in ("ID", "AT"):
        desk.order(region=region, customer_id=f"C-{region}")
    desk.drain()
    locks = {lock.name: lock for lock in ResourceLock.objects.all()}
    assert set(locks) == {"customer:C-ID", "customer:C-AT"}
    for region in ("ID", "AT"):
        client = regional(f"clerk-{region}", Action.LOCK_BREAK, region=region)
        for address in (
            reverse("desk_locks"),
            *(address_of(ResourceLock, "change", lock.pk) for lock in locks.values()),
        ):
            shown = set(re.findall(r"lock.break/lock:customer:(C-..)", text_of(client, address)))
            assert shown <= {f"C-{region}"}, address
        assert f"lock.break/lock:customer:C-{region}" in text_of(client, reverse("desk_locks"))


def test_the_board_of_locks_asks_no_query_per_lock(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    customer = {"resource": "customer", "key": "${order.customer.id}"}
    desk.workflow({"one": desk.task()}, locks=[customer])
    systems.sends["one"] = [desk.accepted()] * 8
    client = regional("clerk", Action.LOCK_BREAK, region="ID")

    def cost(customers: Iterable[str]) -> int:
        for customer in customers:
            desk.order(region="ID", customer_id=customer)
        desk.drain()
        text_of(client, reverse("desk_locks"))
        with CaptureQueriesContext(connection) as asked:
            text_of(client, reverse("desk_locks"))
        return len(asked)

    assert cost(["C-1"]) == cost(f"C-{number}" for number in range(2, 8))
    assert ResourceLock.objects.count() == 7


def test_a_bulk_job_elsewhere_has_no_button(in_indonesia: FalloutCase) -> None:
    """Whoever starts a job does all of its rows, so all of them have to be theirs to do."""
    actions = (Action.BULK_START, Action.BULK_CONTROL, Action.TASK_RETRY)
    job = bulk.draft(
        actor=people.anybody("anna", *actions),
        action=Action.TASK_RETRY,
        selection=bulk.Selection(of="task", names=[str(in_indonesia.task_id)]),
        reason="In stock again.",
    )
    bulk.work()
    page = address_of(BulkJob, "change", job.pk)
    start, cancel = (
        reverse(f"admin:fulfillment_bulkjob_{one}", args=[job.pk]) for one in ("start", "cancel")
    )
    for region in ("ID", "AT"):
        client = regional(f"clerk-{region}", *actions, region=region)
        user = User.objects.get(username=f"clerk-{region}")
        people.grant(user, Action.BULK_CONTROL)
        text = text_of(client, page)
        assert cancel in text
        assert (start in text) is (region == "ID")
        assert client.get(start).status_code == (200 if region == "ID" else 403)


def test_today_leads_nobody_to_a_page_that_they_may_not_see(halfway: Order) -> None:
    alone = FalloutCase.objects.get()
    FalloutCase.objects.filter(pk=alone.pk).update(incident=Incident.objects.get())
    page = address_of(Incident, "change", Incident.objects.get().pk)
    for name, seen in (("all", _SEEN), ("some", ("view_falloutcase",))):
        client = browser(name)
        user = User.objects.get(username=name)
        user.user_permissions.add(*Permission.objects.filter(codename__in=seen))
        assert (page in text_of(client, reverse("desk_today"))) is (name == "all")


def test_nobody_whose_grant_is_over_or_who_is_inactive_gets_in(in_indonesia: FalloutCase) -> None:
    take = reverse("admin:fulfillment_falloutcase_take", args=[in_indonesia.pk])
    past = desk.now() - timedelta(days=1)
    over = browser("over", Action.CASE_ASSIGN, valid_until=past)
    assert over.post(take).status_code == 403
    gone = browser("gone", Action.CASE_ASSIGN)
    User.objects.filter(username="gone").update(is_active=False)
    assert reverse("admin:login") in gone.post(take).headers["Location"]
    in_indonesia.refresh_from_db()
    assert in_indonesia.assigned_to == ""


# --- forged requests -----------------------------------------------------------------------------


def test_what_changes_something_takes_a_post_of_this_site(in_indonesia: FalloutCase) -> None:
    take = reverse("admin:fulfillment_falloutcase_take", args=[in_indonesia.pk])
    anna = people.operator("anna", *people.EVERYTHING)
    plain, strict = Client(), Client(enforce_csrf_checks=True)
    plain.force_login(anna)
    strict.force_login(anna)
    assert plain.get(take).status_code == 405
    assert plain.get(take, headers={"X-HTTP-Method-Override": "POST"}).status_code == 405
    assert strict.post(take).status_code == 403
    in_indonesia.refresh_from_db()
    assert in_indonesia.assigned_to == ""


def test_a_button_leads_back_to_a_page_of_ours_alone(in_indonesia: FalloutCase) -> None:
    take = reverse("admin:fulfillment_falloutcase_take", args=[in_indonesia.pk])
    anna = browser("anna", Action.CASE_ASSIGN, is_superuser=True)
    for before in (
        "https://evil.example/",
        "//evil.example/x",
        "javascript:alert(1)",
        "http:///evil",
        "https://testserver@evil.example/",
    ):
        answer = anna.post(take, headers={"Referer": before})
        assert answer.headers["Location"] == address_of(FalloutCase, "change", in_indonesia.pk), (
            before
        )


@pytest.mark.parametrize("canary", ["0", "-1", "1001", "9" * 40, "1.5", "NaN", "x"])
def test_a_canary_of_an_odd_size_releases_nothing(halfway: Order, canary: str) -> None:
    incident = Incident.objects.get()
    jobs = BulkJob.objects.count()
    anna = browser("anna", *people.EVERYTHING)
    form = reverse(
        "admin:fulfillment_operate", args=["incident.release", f"incident:{incident.pk}"]
    )
    sent = {"reason": "Mended.", "parameter-canary": canary, "parameter-known_within": "PT1H"}
    assert anna.post(form, sent).status_code in (200, 400, 409)
    assert BulkJob.objects.count() == jobs


@pytest.mark.parametrize(
    "value",
    [
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\u0000"}',
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        "[" * 20_000,
        "9" * 5000,
        '"text"',
        "{",
    ],
)
def test_json_that_can_not_be_kept_is_refused_beside_its_field(
    in_indonesia: FalloutCase, value: str
) -> None:
    anna = browser("anna", *people.EVERYTHING)
    form = reverse(
        "admin:fulfillment_operate", args=["task.correct", f"task:{in_indonesia.task_id}"]
    )
    sent = {"reason": "Why.", "evidence": "A call.", "parameter-patch": value}
    assert anna.post(form, sent).status_code in (200, 400)
    assert not Approval.objects.exists()


@pytest.mark.parametrize("text", ["=1+1", " =1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"])
def test_a_file_of_rows_has_no_formulas(boss: Client, halfway: Order, text: str) -> None:
    job = BulkJob.objects.order_by("pk")[0]
    job.rows.update(told=text)
    file = reverse("admin:fulfillment_bulkjob_rows", args=[job.pk])
    content = b"".join(boss.get(file).streaming_content).decode()  # type: ignore[attr-defined]
    (row,) = list(csv.reader(io.StringIO(content, newline="")))[1:]
    assert row[5] == f"'{text}"
