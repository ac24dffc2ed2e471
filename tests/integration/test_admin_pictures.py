"""The picture of a plan: how every task stands, why it waits, what is still ahead, and how a plan
of hundreds or thousands of tasks is shown."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fulfillment.admin import plan_view as plan_views
from fulfillment.admin.picture import Picture, graph_picture, plan_picture
from fulfillment.admin.picture_parts import DrawnTask, _sum_of
from fulfillment.definitions.drawing import COMPACT, LARGEST
from fulfillment.engine.store import graphs
from fulfillment.engine.timing import durations
from fulfillment.models import MeasuredDuration, Plan, Task
from fulfillment.queries.plan_map import plan_map
from fulfillment.queries.stages import stages, states_of
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.pages import address_of, text_of
from tests.unit.test_graph import graph_of

pytestmark = pytest.mark.django_db
_CHAIN = ("check", "reserve", "build", "test", "bill")
HOSTILE = "</title><script>alert(1)</script>"


def drawn(order: Order) -> Picture:
    plan = desk.newest_plan_of(order)
    found = plan_picture(plan=plan, graph=graphs.by_id(plan.graph_id))
    assert found is not None
    return found


def box(order: Order, key: str) -> DrawnTask:
    return next(task for task in drawn(order).tasks if task.key == key)


def page_of(boss: Client, order: Order) -> str:
    return text_of(boss, address_of(Plan, "change", desk.newest_plan_of(order).pk))


def rollout(items: int, *, offering: str = "rollout", **end: str) -> Order:
    """Five tasks for each item, between a beginning and an end."""
    desk.target("alpha")
    tasks = {"begin": desk.task(scope="order")}
    before = "begin"
    for name in _CHAIN:
        tasks[name] = desk.task(after=[before], title=f"To {name}")
        before = name
    tasks["end"] = desk.task(after=[before], scope="order", **end)
    desk.workflow(tasks, offering=offering)
    return desk.order(*[desk.item(offering, item_id=str(at + 1)) for at in range(items)])


# --- why each of them waits -----------------------------------------------------------------------


def test_a_box_says_what_its_task_waits_for_and_what_is_at_the_root(
    systems: ScriptedSystems,
) -> None:
    systems.sends["reserve"] = [desk.rejected("no_stock")]
    order = rollout(1)
    desk.finish()
    assert "It failed, and is not tried again by itself. no_stock" in box(order, "reserve@1").told
    assert (
        "It waits for “To reserve”. It failed, and is not tried again" in box(order, "build@1").told
    )
    assert (
        "It waits for “To test”. At the root of it, “To reserve”: It failed"
        in box(order, "bill@1").told
    )
    assert "waits for" not in box(order, "check@1").told


def test_of_many_that_it_waits_for_a_box_names_the_first(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    many = {f"t{at}": desk.task(title=f"Part {at}") for at in range(7)}
    desk.workflow({**many, "end": desk.task(after=list(many))})
    told = box(desk.order(), "end@1").told
    assert "It waits for “Part 0”, “Part 1”, “Part 2”, “Part 3” and 3 more." in told


def test_elements_of_a_list_are_one_box_that_says_what_they_wait_for(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "each": desk.task(for_each={"over": "${item.characteristics.list}"}),
            "end": desk.task(after=["each"]),
        }
    )
    systems.sends["each"] = [desk.rejected("bad_row"), desk.succeeded(), desk.rejected("bad_row")]
    order = desk.order(desk.item(characteristics={"list": [1, 2, 3]}))
    desk.finish()
    one = box(order, "each~element@1")
    assert one.badge is not None
    assert one.badge.words == "1/3 done, 2 failed"
    assert "bad_row" in one.told
    assert "1 more of its elements wait." in one.told
    assert f"node__exact={_node(order, 'each~element@1')}" in one.address


def _node(order: Order, key: str) -> int:
    return graphs.by_id(desk.newest_plan_of(order).graph_id).by_key[key]


def test_a_branch_that_was_not_taken_is_told_from_one_that_is_still_to_be_decided(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "first": desk.task(),
            "route": desk.step(
                after=["first"],
                decide=[{"when": "item.quantity > 5", "create": ["big"]}, {"otherwise": ["small"]}],
            ),
            "big": desk.task(),
            "small": desk.task(),
        }
    )
    order = desk.order()
    assert "Not there yet" in box(order, "big@1").told
    assert "It is there on a condition: item.quantity > 5." in box(order, "big@1").told
    assert "open" in box(order, "big@1").groups
    desk.finish()
    assert "Not there: its branch was not taken." in box(order, "big@1").told
    assert "open" not in box(order, "big@1").groups


def test_hostile_titles_and_answers_stay_text(boss: Client, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(title=HOSTILE),
            "two": desk.task(after=["one"], title="After it"),
        },
        milestones={"there": {"title": HOSTILE, "reached_by": "two"}},
    )
    systems.sends["one"] = [desk.rejected(HOSTILE)]
    order = desk.order()
    desk.finish()
    page = page_of(boss, order)
    assert "<script>alert" not in page
    assert "“&lt;/title&gt;&lt;script&gt;alert(1)" in page
    assert "⚑ Milestone: &lt;/title&gt;" in page


def test_a_task_s_page_says_what_it_waits_for_and_what_waits_for_it(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    many = {f"after{at}": desk.task(after=["one"], title=HOSTILE) for at in range(22)}
    desk.workflow({"one": desk.task(title="The first"), **many})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    tasks = desk.tasks_of(order)
    page = text_of(boss, address_of(Task, "change", tasks["one@1"].pk))
    assert "No other task: it begins with the plan." in page
    assert "And 2 more" in page
    assert "<script>alert" not in page
    page = text_of(boss, address_of(Task, "change", tasks["after3@1"].pk))
    first = page[page.index("Before it</h2>") : page.index("After it</h2>")]
    assert f'href="{address_of(Task, "change", tasks["one@1"].pk)}">The first' in first
    assert "✗</span> failed final" in first
    assert "nothing in the plan comes after it" in page


# --- what is ahead --------------------------------------------------------------------------------


def test_the_longest_way_is_marked_by_how_long_tasks_take(
    boss: Client, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "start": desk.task(),
            "quick": desk.task(after=["start"]),
            "slow": desk.task(after=["start"]),
            "end": desk.task(after=["quick", "slow"]),
        }
    )
    MeasuredDuration.objects.create(
        workflow="thing",
        task="slow",
        median_seconds=600,
        p90_seconds=700,
        samples=9,
        measured_at=desk.now(),
    )
    durations.forget()
    try:
        order = desk.order()
        ahead = {task.key for task in drawn(order).tasks if task.is_ahead}
        assert ahead == {"start@1", "slow@1", "end@1"}
        assert len(drawn(order).way_arrows) == 2
        assert "On the longest way that is still ahead." in box(order, "slow@1").told
        page = page_of(boss, order)
        assert page.count('class="desk-way-box"') == 3
        assert "the longest way that is still ahead" in page
        desk.finish()
        assert not drawn(order).ahead
        assert 'class="desk-way-box"' not in page_of(boss, order)
    finally:
        durations.forget()


def test_a_graph_alone_shows_its_longest_way() -> None:
    found = graph_picture(graph=graph_of(4, [(0, 1), (1, 3), (2, 3)]))
    assert found is not None
    assert not found.is_running
    assert [task.key for task in found.tasks if task.is_ahead] == [
        "task_0@1",
        "task_1@1",
        "task_3@1",
    ]
    assert not any(task.address or task.absent for task in found.tasks)


# --- large ones -----------------------------------------------------------------------------------


def test_a_plan_of_five_hundred_tasks_is_drawn_with_the_same_queries(
    boss: Client, systems: ScriptedSystems
) -> None:
    few, many = rollout(2), desk.order(*[desk.item("rollout", item_id=str(n)) for n in range(100)])
    desk.drain(rounds=1)
    pages, counts = [], []
    for order in (few, many):
        address = address_of(Plan, "change", desk.plan_of(order).pk)
        text_of(boss, address)
        with CaptureQueriesContext(connection) as asked:
            pages.append(text_of(boss, address))
        counts.append(len(asked))
    assert counts[0] == counts[1]
    found = drawn(many)
    assert found.size is COMPACT
    assert len(found.tasks) == 502
    assert pages[1].count('data-box="') == 502 + 1
    for task in Task.objects.filter(plan=desk.plan_of(many)):
        assert f'href="{address_of(Task, "change", task.pk)}" class="desk-box' in pages[1]


def test_five_thousand_nodes_are_not_drawn() -> None:
    assert graph_picture(graph=graph_of(5000, [])) is None
    assert graph_picture(graph=graph_of(LARGEST, [])) is not None


def test_a_plan_that_is_too_large_is_summed_up_by_state_and_stage(
    boss: Client, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fulfillment.admin.picture.LARGEST", 10)
    monkeypatch.setattr(plan_views, "LARGEST", 10)
    systems.sends["check"] = [desk.rejected()]
    order = rollout(4)
    desk.finish()
    page = page_of(boss, order)
    assert "It has 22 tasks. Beyond 10 nobody finds anything in a picture" in page
    assert "<svg role" not in page
    plan = desk.plan_of(order)
    found = stages(plan=plan, graph=graphs.by_id(plan.graph_id))
    assert [(stage.first, stage.planned, stage.titles) for stage in found][:2] == [
        (0, 1, ("A task",)),
        (1, 4, ("To check",)),
    ]
    assert found[1].states == {TaskState.SUCCEEDED: 3, TaskState.FAILED_FINAL: 1}
    (listed,) = re.findall(r'href="([^"]*)" aria-label="1 ended without success in steps 2"', page)
    rows = boss.get(unescape(listed)).context["cl"].result_list
    assert [row.key for row in rows] == ["check@1"]
    assert states_of(plan=plan) == {
        TaskState.PENDING: 5,
        TaskState.SUCCEEDED: 16,
        TaskState.FAILED_FINAL: 1,
    }


def test_a_deep_plan_has_several_steps_in_one_stage(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    names = [f"t{at}" for at in range(70)]
    desk.workflow(
        {name: desk.task(after=names[at - 1 : at] if at else []) for at, name in enumerate(names)}
    )
    plan = desk.plan_of(desk.order())
    found = stages(plan=plan, graph=graphs.by_id(plan.graph_id))
    assert len(found) == 24
    assert (found[0].first, found[0].last, found[-1].last) == (0, 2, 69)
    assert sum(sum(stage.states.values()) for stage in found) == 70


def test_an_open_page_asks_for_the_picture_alone(boss: Client, halfway: Order) -> None:
    address = address_of(Plan, "change", desk.plan_of(halfway).pk)
    look = {"HX-Request": "true", "HX-Target": "desk-plan"}
    page = boss.get(address, headers=look).content.decode()
    assert page.strip().startswith('<section id="desk-plan"')
    assert "nav-sidebar" not in page
    assert 'data-live-seconds="15"' in page


def test_a_plan_that_is_over_is_not_looked_at_again(boss: Client, systems: ScriptedSystems) -> None:
    order = rollout(1)
    desk.finish()
    assert "data-live-seconds" not in page_of(boss, order)
    plan = desk.plan_of(order)
    assert not any(
        spot.why for spot in plan_map(plan=plan, graph=graphs.by_id(plan.graph_id)).spots
    )


def test_it_says_when_the_engine_goes_on(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.failed(retry_after=timedelta(minutes=5))]
    order = desk.order()
    desk.drain()
    due = desk.tasks_of(order)["one@1"].not_before
    assert f"The engine goes on with it at {due:%Y-%m-%d %H:%M:%S} UTC." in box(order, "one@1").told


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ({TaskState.SUCCEEDED: 7, TaskState.CANCELLED: 3}, "⊘ 7/10 done, 3 cancelled"),
        ({TaskState.SUCCEEDED: 7, TaskState.FAILED_FINAL: 3}, "✗ 7/10 done, 3 failed"),
        (
            {TaskState.FAILED_FINAL: 1, TaskState.CANCELLED: 9},
            "✗ 0/10 done, 1 failed, 9 cancelled",
        ),
        ({TaskState.SUCCEEDED: 7, TaskState.CANCELLED: 1}, "◑ 7/10 done, 1 cancelled"),
    ],
)
def test_an_element_that_was_cancelled_has_not_failed(
    states: dict[TaskState, int], told: str
) -> None:
    badge = _sum_of(states, 10)
    assert f"{badge.sign} {badge.words}" == told
