"""The admin: every page with real rows, read-only where the engine writes, and cheap."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fulfillment.engine.outbound import outbox
from fulfillment.models import (
    Approval,
    Attempt,
    AuthorityDecision,
    BulkJob,
    BulkRow,
    BusinessCalendar,
    Command,
    Delivery,
    FalloutCase,
    Grant,
    Hold,
    InboundEvent,
    Incident,
    ManualTask,
    Operation,
    OutboxEvent,
    Plan,
    PlanGraph,
    Resource,
    ResourceLock,
    RoutingRule,
    Signal,
    Subscription,
    TargetSystem,
    Task,
    Transition,
    WorkflowVersion,
)
from oms.changes.documents import as_submitted
from oms.intake.feasibility import request_of
from oms.models import (
    AmendmentRequest,
    ApiClient,
    ApiKey,
    Asset,
    CancellationRequest,
    Notification,
    Order,
    OrderRevision,
    PendingAsset,
)
from tests import desk
from tests.pages import address_of, desk_models, text_of

pytestmark = pytest.mark.django_db
_LARGE = [
    Order,
    Plan,
    Task,
    Command,
    Attempt,
    Transition,
    InboundEvent,
    OutboxEvent,
    Delivery,
    FalloutCase,
    Hold,
    ManualTask,
    Operation,
    Signal,
    AmendmentRequest,
    Asset,
    PendingAsset,
    CancellationRequest,
    Notification,
]

_QUERIES = {ManualTask: 17}
"""Of lists whose rows have a button for what may be done; 12 are the rule."""


def test_the_admin_shows_every_table_that_operators_ask_about() -> None:
    assert set(desk_models()) == {
        *_LARGE,
        ApiClient,
        ApiKey,
        Approval,
        AuthorityDecision,
        BulkJob,
        BulkRow,
        BusinessCalendar,
        Grant,
        Incident,
        OrderRevision,
        PlanGraph,
        Resource,
        ResourceLock,
        RoutingRule,
        Subscription,
        TargetSystem,
        WorkflowVersion,
    }


def test_every_form_for_something_new_asks_in_words(boss: Client) -> None:
    forms = {}
    for model in (*desk_models(), User, Group):
        answer = boss.get(address_of(model, "add"))
        assert answer.status_code in (200, 403), model
        if answer.status_code == 200:
            forms[model] = answer.content.decode()
    assert set(forms) == {TargetSystem, Subscription, BusinessCalendar, User, Group}
    for model, form in forms.items():
        assert not re.search(r"DatabaseDefault|object at 0x", form), model


def test_every_list_and_every_detail_page_answers(boss: Client, halfway: Order) -> None:
    document = as_submitted(request_of(halfway))
    OrderRevision.objects.create(
        order=halfway, version=0, document=document, replaced_at=desk.now()
    )
    for model in desk_models():
        page = text_of(boss, address_of(model, "changelist"))
        rows = list(model._default_manager.all()[:20])
        assert rows, model
        if model is not BulkRow:  # Its list is a job's page, and leads to what each row is about.
            assert address_of(model, "change", rows[0].pk) in page
        for row in rows:
            text_of(boss, address_of(model, "change", row.pk))
    group = Group.objects.create(name="Night shift")
    for model, row in ((User, User.objects.get(username="boss")), (Group, group)):
        assert str(row) in text_of(boss, address_of(model, "changelist"))
        text_of(boss, address_of(model, "change", row.pk))


def test_every_line_of_the_side_bar_leads_somewhere(boss: Client, halfway: Order) -> None:
    page, _, _ = text_of(boss, reverse("admin:index")).partition('id="desk-live"')
    lines = set(re.findall(r'href="(/admin/[^"]+/\?[^"]*)"', page))
    # What is to be decided and approved, open cases and incidents, stuck orders, not told,
    # unmatched, dead letters.
    assert len(lines) == 8
    for line in lines:
        text_of(boss, line.replace("&amp;", "&"))


def test_logging_in_leads_to_the_desk(client: Client, db: None) -> None:
    User.objects.create_superuser("boss", password="x")
    answer = client.post(reverse("admin:login"), {"username": "boss", "password": "x"})
    assert answer["Location"] == reverse("admin:index")


def test_pages_ask_for_a_login(client: Client, halfway: Order) -> None:
    for address in (
        address_of(Order, "changelist"),
        address_of(Order, "change", halfway.pk),
    ):
        response = client.get(address)
        assert response.status_code == 302
        assert "/admin/login/" in response["Location"]


def test_a_stranger_does_not_learn_which_orders_there_are(client: Client, halfway: Order) -> None:
    for reference in (halfway.reference, "O-0"):
        response = client.get(reverse("order_page", args=[reference]))
        assert "/admin/login/" in response["Location"]


def test_an_order_is_reached_by_its_reference(boss: Client, halfway: Order) -> None:
    response = boss.get(reverse("order_page", args=[halfway.reference]))
    assert response["Location"] == address_of(Order, "change", halfway.pk)
    for unknown in ("O-0", "a\0b"):
        assert boss.get(f"/admin/orders/{quote(unknown)}").status_code == 404


def test_a_user_without_the_right_to_view_sees_nothing(client: Client, halfway: Order) -> None:
    client.force_login(User.objects.create(username="guest", is_staff=True))
    assert client.get(address_of(Order, "changelist")).status_code == 403
    assert client.get(address_of(Order, "change", halfway.pk)).status_code == 403


@pytest.mark.parametrize("model", [*_LARGE, PlanGraph, WorkflowVersion, ApiClient, ApiKey])
def test_what_the_engine_writes_nobody_else_can(
    boss: Client, halfway: Order, model: type[Model]
) -> None:
    row = model._default_manager.first()
    assert row is not None
    before = list(model._default_manager.order_by("pk").values())
    for method in (boss.get, boss.post):
        assert method(address_of(model, "add")).status_code == 403
        assert method(address_of(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert boss.post(address_of(model, "change", row.pk), {"state": "X"}).status_code == 403
    listing = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    boss.post(address_of(model, "changelist"), listing)
    assert list(model._default_manager.order_by("pk").values()) == before


def test_text_from_outside_never_becomes_markup(boss: Client, halfway: Order) -> None:
    task = desk.tasks_of(halfway)["one@1"]
    rejected = desk.order(desk.item("<script>alert(2)</script>"), external_id="<script>alert(3)")
    for address in (
        address_of(Order, "changelist"),
        address_of(Order, "change", halfway.pk),
        address_of(Order, "change", rejected.pk),
        address_of(Plan, "change", task.plan_id),
        address_of(PlanGraph, "change", task.plan.graph_id),
        address_of(Task, "change", task.pk),
        address_of(OutboxEvent, "changelist"),
    ):
        page = text_of(boss, address)
        assert "<script>alert" not in page
        assert "<b>a number" not in page
    assert "Fetch &lt;b&gt;a number" in text_of(boss, address_of(Order, "change", halfway.pk))
    assert "&lt;script&gt;alert(2)" in text_of(boss, address_of(Order, "change", rejected.pk))


# --- finding and following ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "term"),
    [
        (Order, "SHOP-7"),
        (Order, "C-1"),
        (Order, "ALERT(1)"),
        (Order, "reference"),
        (Order, "key"),
        (Plan, "reference"),
        (Task, "reference"),
        (Task, "key"),
        (Task, "two@1"),
        (Command, "key"),
        (Command, "reference"),
        (Attempt, "key"),
        (Transition, "reference"),
        (OutboxEvent, "reference"),
        (Delivery, "reference"),
        (InboundEvent, "e-1"),
        (FalloutCase, "reference"),
        (Hold, "customer:C-9"),
        (Hold, "C-9"),
        (Operation, "customer:C-9"),
        (Operation, "C-9"),
        (Operation, "anna"),
    ],
)
def test_rows_are_found_by_what_people_have_in_hand(
    boss: Client, halfway: Order, model: type[Model], term: str
) -> None:
    command = Command.objects.order_by("id").first()
    assert command is not None
    words = {"reference": halfway.reference, "key": command.idempotency_key}
    address = address_of(model, "changelist")
    found = boss.get(address, {"q": words.get(term, term)}).context["cl"].result_count
    assert found > 0
    assert boss.get(address, {"q": "nothing-like-it"}).context["cl"].result_count == 0


@pytest.mark.parametrize("query", ["q=a%00b", "state__exact=%00", "id=word", "p=999999", "o=9.-9"])
@pytest.mark.parametrize("model", [Order, Task, Transition, TargetSystem, Hold, FalloutCase])
def test_nonsense_in_an_address_is_no_fault_of_the_server(
    boss: Client, halfway: Order, model: type[Model], query: str
) -> None:
    text_of(boss, f"{address_of(model, 'changelist')}?{query}")
    for row in ("word", "a%00b", "9" * 30):
        address = address_of(model, "change", "ROW").replace("ROW", row)
        assert boss.get(address).status_code == 302  # back to the start, with a message


def test_an_order_leads_to_its_last_transition_and_back(boss: Client, halfway: Order) -> None:
    task = desk.tasks_of(halfway)["two@1"]
    command = task.commands.get()
    attempt = command.attempts.get()
    way: list[tuple[type[Model], int]] = [
        (Order, halfway.pk),
        (Plan, task.plan_id),
        (Task, task.pk),
        (Command, command.pk),
        (Attempt, attempt.pk),
    ]
    pages = [text_of(boss, address_of(model, "change", pk)) for model, pk in way]
    for page, (model, pk) in zip(pages, way[1:], strict=False):
        assert f'href="{address_of(model, "change", pk)}"' in page
    for page in pages[1:]:
        assert reverse("order_page", args=[halfway.reference]) in page
    for page in (pages[3], pages[4]):
        assert address_of(Task, "change", task.pk) in page
    trail = address_of(Transition, "changelist")
    (found,) = set(re.findall(rf'href="({trail}\?[^"]*)"', pages[4]))
    listed = boss.get(found.replace("&amp;", "&"))
    rows = listed.context["cl"].result_list
    assert {(row.entity, row.entity_id) for row in rows} == {("task", str(task.pk))}
    assert address_of(Task, "change", task.pk) in listed.content.decode()


def test_a_graph_leads_to_its_plans_and_its_workflows(boss: Client, halfway: Order) -> None:
    plan = desk.plan_of(halfway)
    page = text_of(boss, address_of(PlanGraph, "change", plan.graph_id))
    assert address_of(WorkflowVersion, "change", WorkflowVersion.objects.get().pk) in page
    assert "flowchart TD" in page
    (plans,) = set(re.findall(rf'href="({address_of(Plan, "changelist")}\?[^"]+)"', page))
    assert list(boss.get(plans).context["cl"].result_list) == [plan]


def test_states_are_told_by_sign_and_word_on_every_list(boss: Client, halfway: Order) -> None:
    for model, signed in (
        (Order, "▶</span> in progress"),
        (Plan, "■</span> blocked"),
        (Task, "✗</span> failed final"),
        (Attempt, "✗</span> rejected"),
        (Transition, "✓</span> succeeded"),
        (InboundEvent, "=</span> redundant"),
        (Delivery, "✗</span> dead"),
        (FalloutCase, "!</span> open"),
        (Hold, "⊖</span> placed"),
        (TargetSystem, "✓</span> well"),
    ):
        assert signed in text_of(boss, address_of(model, "changelist")), model


def test_times_are_told_to_the_second(boss: Client, halfway: Order) -> None:
    at = Attempt.objects.latest("pk").started_at
    assert f"{at:%Y-%m-%d %H:%M:%S}" in text_of(boss, address_of(Attempt, "changelist"))


# --- what a page costs ----------------------------------------------------------------------------


@pytest.fixture
def many(halfway: Order, redis_url: str) -> None:
    """More rows than a page shows, in every large table."""
    desk.submit_all(*[desk.request() for _ in range(55)])
    desk.drain()  # Each gets a case: the first answer lacks its number.
    event = InboundEvent.objects.get()
    hold, operation, asset = Hold.objects.get(), Operation.objects.latest("pk"), Asset.objects.get()
    signal, manual = Signal.objects.get(), ManualTask.objects.get(title="Approve it")
    amendment = AmendmentRequest.objects.get()
    for order in Order.objects.exclude(pk=amendment.order_id):
        amendment.pk, amendment.order = None, order
        amendment.save(force_insert=True)
    wish = CancellationRequest.objects.get()
    for order in Order.objects.exclude(pk=wish.order_id):
        wish.pk, wish.order = None, order
        wish.save(force_insert=True)
    tasks = Task.objects.filter(manual_tasks=None).order_by("pk")[:55]
    for number, task in enumerate(tasks):
        event.pk, event.event_id = None, f"more-{number}"
        event.save(force_insert=True)
        signal.pk, signal.event_id = None, f"more-{number}"
        signal.save(force_insert=True)
        manual.pk, manual.task = None, task
        manual.save(force_insert=True)
        asset.asset_id = f"A-{number}"
        for row in (hold, operation, asset):
            row.pk = None
            row.save(force_insert=True)
    outbox.publish_events()


@pytest.mark.parametrize("model", _LARGE)
def test_a_list_costs_no_query_per_row_and_never_reads_the_whole_table(
    boss: Client, many: None, model: type[Model]
) -> None:
    with CaptureQueriesContext(connection) as asked:
        listed = boss.get(address_of(model, "changelist"))
    assert len(listed.context["cl"].result_list) == 50
    assert len(asked) <= _QUERIES.get(model, 12)
    reads = [query["sql"] for query in asked if f'FROM "{model._meta.db_table}"' in query["sql"]]
    assert reads
    for sql in reads:
        of_this_page = f'"{model._meta.db_table}"."id" IN (' in sql
        assert " LIMIT " in sql or of_this_page
        # What no list shows may be large: snapshots of orders, payloads, bodies.
        assert not re.search(r'"(context|payload|body|outputs|details|facts)"', sql)


def test_no_list_counts_the_rows_of_each_filter(boss: Client, halfway: Order) -> None:
    for model in _LARGE:
        listed = boss.get(address_of(model, "changelist"), {"_facets": "True"}).context["cl"]
        assert not listed.add_facets


def _queries(boss: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        text_of(boss, address)
    return len(asked)


def test_a_page_costs_the_same_for_one_item_and_for_thirty(boss: Client, halfway: Order) -> None:
    orders = [
        desk.order(*[desk.item(item_id=str(number)) for number in range(size)]) for size in (1, 30)
    ]
    desk.drain()
    small, large = (_queries(boss, address_of(Order, "change", order.pk)) for order in orders)
    # Its history reads only what a page of it tells of, which is less of each kind here.
    assert large <= small
    plans = [desk.plan_of(order) for order in orders]
    small, large = (_queries(boss, address_of(Plan, "change", plan.pk)) for plan in plans)
    assert small == large


def test_a_plan_of_many_tasks_leads_to_their_list(boss: Client, halfway: Order) -> None:
    desk.workflow({f"t{number}": desk.task() for number in range(61)}, offering="wide")
    plan = desk.plan_of(desk.order(desk.item("wide")))
    page = text_of(boss, address_of(Plan, "change", plan.pk))
    (listed,) = set(re.findall(r'href="([^"]*)">All tasks as a list', page))
    found = [text_of(boss, unescape(listed) + more) for more in ("", "&p=2")]
    for task in plan.tasks.all():
        assert sum(address_of(Task, "change", task.pk) in one for one in found) == 1


def test_a_page_that_is_refused_is_not_put_together(client: Client, halfway: Order) -> None:
    client.force_login(User.objects.create(username="guest", is_staff=True))
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address_of(Order, "change", halfway.pk)).status_code == 403
    for table in ("fulfillment_task", "fulfillment_transition", "oms_milestone"):
        assert not any(f'FROM "{table}"' in query["sql"] for query in asked)
