"""What a person is told about a report that belongs to no task."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.dispatch import callbacks, suggesting
from fulfillment.engine.dispatch.callbacks import Report
from fulfillment.engine.store.database import cursor
from fulfillment.models import Command, Disposition, Fulfillment, InboundEvent, Task
from fulfillment.queries.matches import Sureness, matches
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def under_way(systems: ScriptedSystems) -> list[Order]:
    """Two orders; of each, `one` and `other` are accepted by alpha, `billed` by beta."""
    desk.target("alpha", asynchronous=True)
    desk.target("beta", asynchronous=True)
    desk.workflow(
        {"one": desk.task(), "other": desk.task(), "billed": desk.task("beta")},
    )
    for action in ("one", "other", "billed"):
        systems.sends[action] = [
            Outcome(kind=OutcomeKind.ACCEPTED, reference=f"R-{action}-{number}")
            for number in (1, 2)
        ]
    orders = [desk.order(), desk.order()]
    desk.drain()
    return orders


def suggested(key: str = "nobody's", source: str = "alpha", **body: Any) -> list[dict[str, Any]]:
    receipt = callbacks.receive(
        report=Report(
            source=source,
            event_id="E-1",
            idempotency_key=key,
            outcome=desk.succeeded(),
            body={"idempotency_key": key, "status": "succeeded", **body},
        )
    )
    assert receipt.disposition == Disposition.UNMATCHED
    suggestions: list[dict[str, Any]] = InboundEvent.objects.get().suggestions
    return suggestions


def task(order: Order, name: str) -> Task:
    return desk.tasks_of(order)[f"{name}@1"]


def key_of(order: Order, name: str) -> str:
    return Command.objects.get(task=task(order, name)).idempotency_key


def tasks(suggestions: list[dict[str, Any]]) -> list[int]:
    return [one["task_id"] for one in suggestions]


def test_the_targets_own_reference_names_the_task(under_way: list[Order]) -> None:
    first = task(under_way[0], "one")
    assert suggested(reference=first.reference) == [
        {
            "task_id": first.pk,
            "task": "one@1",
            "order": under_way[0].reference,
            "why": "It carries the same reference.",
        }
    ]


def test_a_reference_of_another_target_says_nothing(under_way: list[Order]) -> None:
    assert suggested(reference="R-billed-1") == []


def test_an_order_that_is_named_suggests_its_tasks_at_this_target(under_way: list[Order]) -> None:
    order = under_way[1]
    found = suggested(order=order.reference, reference=task(order, "other").reference)
    assert tasks(found) == [task(order, "other").pk, task(order, "one").pk]
    assert {one["order"] for one in found} == {order.reference}
    assert "names this order" in found[1]["why"]


def test_a_correlation_id_names_the_order(under_way: list[Order]) -> None:
    order = under_way[1]
    correlation = Fulfillment.objects.get(pk=order.fulfillment_id).correlation_id
    found = suggested(trace=correlation)
    assert set(tasks(found)) == {task(order, "one").pk, task(order, "other").pk}
    assert "correlation id" in found[0]["why"]


def test_an_action_suggests_what_is_under_way(under_way: list[Order]) -> None:
    found = suggested(action="other")
    assert set(tasks(found)) == {task(order, "other").pk for order in under_way}
    assert found[0]["why"] == "other is under way there."


@pytest.mark.parametrize("state", ["DISPATCHED", "OUTCOME_UNKNOWN"])
def test_under_way_is_also_what_is_on_the_wire_or_in_doubt(
    systems: ScriptedSystems, state: str
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    (claim,) = desk.claim()
    if state == "OUTCOME_UNKNOWN":
        desk.settle(desk.result(claim, desk.unknown()))
    assert Task.objects.get().state == state
    assert tasks(suggested(action="one")) == [claim.task_id]


def test_what_is_settled_is_not_under_way(under_way: list[Order]) -> None:
    for order in under_way:
        callbacks.receive(
            report=Report(
                source="alpha",
                event_id=f"done-{order.pk}",
                idempotency_key=key_of(order, "other"),
                outcome=desk.succeeded(),
                body={},
            )
        )
    InboundEvent.objects.all().delete()
    assert suggested(action="other") == []


def test_a_key_that_was_cut_short_or_written_in_capitals_is_recognised(
    under_way: list[Order],
) -> None:
    whole = key_of(under_way[0], "one")
    found = suggested(key=whole[:20].upper())
    assert tasks(found) == [task(under_way[0], "one").pk]
    assert "20 characters" in found[0]["why"]


@pytest.mark.parametrize("change", ["{}-1", " {}", "{}0"])
def test_a_key_with_something_around_it_is_recognised(under_way: list[Order], change: str) -> None:
    key = change.format(key_of(under_way[0], "one"))
    assert tasks(suggested(key=key)) == [task(under_way[0], "one").pk]


def test_a_key_of_another_target_is_pointed_out(under_way: list[Order]) -> None:
    found = suggested(key=key_of(under_way[0], "billed"))
    assert tasks(found) == [task(under_way[0], "billed").pk]
    assert found[0]["why"] == "Its key is that of a command to beta."


def test_part_of_a_key_of_another_target_is_none_of_its_business(under_way: list[Order]) -> None:
    assert suggested(key=key_of(under_way[0], "billed")[:40]) == []


def test_a_task_is_suggested_once_for_the_best_reason_and_five_are_enough(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.accepted()] * 7
    orders = [desk.order() for _ in range(7)]
    desk.drain()
    found = suggested(key=key_of(orders[0], "one")[:12], order=orders[0].reference, action="one")
    assert len(found) == len(set(tasks(found))) == 5
    assert tasks(found)[0] == task(orders[0], "one").pk
    assert "12 characters" in found[0]["why"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reference": "", "action": ""},
        {"reference": 7, "action": ["one"], "order": {"id": 1}, "more": None},
        {"order": "x" * 65},
        {"outputs": {"order": "O-1"}, "error": {"code": "O-1"}},
    ],
)
def test_nothing_is_asked_when_nothing_could_match(body: dict[str, Any]) -> None:
    with cursor() as raw:
        pass
    # Closed: any query on it would raise.
    assert suggesting.suggest(raw, target="alpha", key="nobody's", body=body) == []


def plan_of(statement: str) -> str:
    """With few rows a scan is cheaper; forbidden to scan, the planner has to have an index."""
    given = {
        "target": "alpha",
        "start": "a" * 64,
        "end": "a" * 64 + "g",
        "reference": "R",
        "action": "one",
        "names": ["O-1"],
    }
    with cursor() as raw:
        raw.execute("SET LOCAL enable_seqscan = off")
        raw.execute("SET LOCAL enable_sort = off")
        raw.execute(f"EXPLAIN {statement}", given)
        plan = "\n".join(row[0] for row in raw.fetchall())
        raw.execute("RESET enable_seqscan")
        raw.execute("RESET enable_sort")
    return plan


@pytest.mark.parametrize(
    "statement", [suggesting.BY_KEY, suggesting.BY_ORDER, suggesting.AMONG_OPEN]
)
def test_every_table_is_read_by_an_index(under_way: list[Order], statement: str) -> None:
    plan = plan_of(statement)
    assert "Seq Scan" not in plan, plan
    assert "Index" in plan


def test_what_is_open_at_a_target_is_read_newest_first_from_indexes_of_its_own(
    under_way: list[Order],
) -> None:
    plan = plan_of(suggesting.AMONG_OPEN)
    for index in ("task_accepted", "task_reconcile_order"):
        assert f"Index Scan Backward using {index} on fulfillment_task" in plan, plan
    assert plan.count("Index Cond: ((target_id)::text = 'alpha'::text)") >= 2, plan


def test_the_name_of_an_action_makes_nothing_sure(systems: ScriptedSystems) -> None:
    """It is the sender's own word, even where it speaks of keys and references."""
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task(action="make_key_reference")})
    systems.sends["make_key_reference"] = [desk.accepted()]
    desk.order()
    desk.drain()
    desk.advance(2 * 3600)  # Else it speaks for it that it was asked for just before.
    suggested(action="make_key_reference")
    (found,) = matches(event=InboundEvent.objects.get())
    assert found.why == ("make_key_reference is under way there.",)
    assert found.sureness is Sureness.POSSIBLE
