"""The workflows' pages: which version new orders get, what runs on each, what each has changed."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.models import Plan, WorkflowVersion
from fulfillment.publishing import publish
from fulfillment.queries.versions_in_use import plans_under_way, versions_in_use
from tests import desk, people, shipped
from tests.desk import ScriptedSystems
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db
LIST = "desk_workflows"


def sub_process(version: int = 1) -> WorkflowDefinition:
    definition = WorkflowDefinition.model_validate(
        {
            "workflow": "part",
            "version": version,
            "title": "A part",
            "subprocess": {},
            "tasks": {"inner": {**desk.task(), "action": f"inner{version}"}},
        }
    )
    publish(definition=definition, published_by="a test")
    desk.workflows.forget()
    return definition


def under_way() -> dict[str, int]:
    return {str(use.workflow): use.under_way for use in versions_in_use()}


def test_it_counts_what_is_under_way_on_each_version_and_leads_there(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    older = [desk.order(), desk.order(desk.item(), desk.item(item_id="2"))]
    desk.workflow({"one": desk.task(), "two": desk.task()}, version=2)
    newer = desk.order()
    assert under_way() == {"thing v2": 1, "thing v1": 2}
    page = text_of(boss, reverse(LIST))
    (listed,) = re.findall(r'href="([^"]*)">2 plans</a>', page)
    rows = boss.get(unescape(listed)).context["cl"].result_list
    assert {row.pk for row in rows} == {desk.plan_of(order).pk for order in older}
    desk.finish()
    assert under_way() == {"thing v2": 0, "thing v1": 0}
    assert desk.plan_of(newer).state == "COMPLETED"
    assert not boss.get(unescape(listed)).context["cl"].result_list


def test_only_the_newest_version_is_for_new_orders(boss: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.workflow({"one": desk.task()}, version=2)
    sub_process()
    chosen = {str(use.workflow): use.is_chosen for use in versions_in_use()}
    assert chosen == {"part v1": True, "thing v2": True, "thing v1": False}
    page = text_of(boss, reverse(LIST))
    assert page.count("for new orders") == 1
    assert page.count("for new parts") == 1
    assert page.count("replaced") == 1
    assert "a part of other workflows" in page


def test_a_sub_process_has_what_runs_within_others(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    sub_process()
    desk.workflow({"use": desk.step(use="part")})
    desk.order()
    assert plans_under_way() == {("part", 1): 1, ("thing", 1): 1}


@pytest.mark.parametrize("asked", ["thing@x", "thing", "@", "thing@99999999999999999999", "no@1"])
def test_a_version_that_there_is_not_has_nothing_under_way(
    boss: Client, systems: ScriptedSystems, asked: str
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    answer = boss.get(address_of(Plan, "changelist"), {"runs_on": asked}, follow=True)
    assert answer.status_code == 200
    assert not answer.context["cl"].result_list


def test_the_list_costs_the_same_however_much_runs(boss: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            text_of(boss, reverse(LIST))
        return len(asked)

    queries()
    few = queries()
    for version in range(2, 12):
        desk.workflow({"one": desk.task()}, version=version)
        desk.order(*[desk.item(item_id=str(at)) for at in range(version)])
    assert queries() <= few + 1  # New shapes are looked at together, once.
    assert queries() == few


def test_it_is_for_those_who_may_see_workflows(client: Client) -> None:
    client.force_login(people.operator("anybody"))
    assert client.get(reverse(LIST)).status_code == 403


def test_without_workflows_it_says_what_to_do(boss: Client) -> None:
    assert "manage.py workflows publish" in text_of(boss, reverse(LIST))


def test_every_shipped_version_has_its_page(boss: Client, systems: ScriptedSystems) -> None:
    """Also those that use sub-processes, and the sub-processes themselves."""
    parts = ("approval", "support-specialist")
    rest = sorted({path.name for path in shipped.TEMPLATES.iterdir() if path.is_dir()} - {*parts})
    shipped.open_shop(*parts, *rest)
    rows = list(WorkflowVersion.objects.all())
    assert len(rows) > 20
    for row in rows:
        page = text_of(boss, address_of(WorkflowVersion, "change", row.pk))
        assert '<svg role="graphics-document img"' in page
        assert "flowchart TD" in page


def version_page(boss: Client, version: int, **query: Any) -> str:
    row = WorkflowVersion.objects.get(name="thing", version=version)
    answer = boss.get(address_of(WorkflowVersion, "change", row.pk), query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_a_version_says_what_it_has_changed_since_the_one_before_or_any_other(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task(title="<b>One</b>"), "gone": desk.task(title="Gone")})
    desk.workflow(
        {
            "one": desk.task("beta", title="<b>One</b>"),
            "two": desk.task(after=["one"], title="Two"),
        },
        version=2,
        stalls_after="PT1H",
    )
    desk.workflow(
        {"one": desk.task("beta", title="Won"), "two": desk.task(title="Two")},
        version=3,
        stalls_after="PT1H",
    )
    page = version_page(boss, 2)
    assert "What v2 does otherwise than v1" in page
    assert "&lt;b&gt;One&lt;/b&gt;" in page
    assert "<b>One</b>" not in page
    assert "who does it: alpha one → beta one" in page
    assert "how long nothing may happen: PT15M → PT1H" in page
    assert all(words in page for words in ("+</span> added", "−</span> removed"))
    page = version_page(boss, 3)
    assert "What v3 does otherwise than v2" in page
    assert "its title, before “&lt;b&gt;One&lt;/b&gt;”" in page
    assert "no longer waits for “Won”" in page or "no longer waits for “&lt;b&gt;One" in page
    page = version_page(boss, 3, since=1)
    assert "What v3 does otherwise than v1" in page
    assert "-  &quot;version&quot;: 1" in page
    for odd in ("x", "99", "3", "9" * 30):
        assert "What v3 does otherwise than v2" in version_page(boss, 3, since=odd)
    assert "does otherwise than" not in version_page(boss, 1)
    assert "What v1 does otherwise than v3" in version_page(boss, 1, since=3)
