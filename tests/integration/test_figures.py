"""What is counted for reports is what happened: each thing once, whoever counts it when."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from math import ceil

import pytest
from django.core.management import CommandError, call_command

from fulfillment import operations
from fulfillment.engine.store import graphs
from fulfillment.errors import NotPossible
from fulfillment.models import (
    Command,
    FalloutCase,
    ManualTask,
    Operation,
    Plan,
    Task,
    Transition,
)
from oms.changes import cancelling
from oms.figures import durations, keeping
from oms.figures.counting import CASEWORK, Cell
from oms.models import CancellationRequest, CountedDay, Figure, Measure, Order, OrderItem
from oms.states import ORDER_TERMINAL
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
_DAY = timedelta(days=1)
_QUESTION = {
    "queue": "approvals",
    "role": "manager",
    "instructions": "Look at the amount.",
    "outcomes": {"yes": "proceed", "no": "refuse"},
    "within": "P9D",
    "otherwise": "escalate",
}
_ENDED = {"SUCCEEDED", "FAILED_FINAL", "CANCELLED", "SKIPPED_BY_POLICY"} | {
    "WAIVED_BY_AUTHORIZED_USER"
}


def figures() -> Counter[Cell]:
    found: Counter[Cell] = Counter()
    for row in Figure.objects.all():
        cell = Cell(Measure(row.measure), row.subject, row.action, row.outcome, row.bucket)
        found[cell] += row.count
    return found


def _command_of(task_id: int, at: datetime) -> Command | None:
    rows = Command.objects.filter(task_id=task_id, created_at__lte=at)
    return rows.order_by("-revision").first()


def _of_task(row: Transition) -> Counter[Cell]:
    found: Counter[Cell] = Counter()
    command = _command_of(int(row.entity_id), row.occurred_at)
    if command is None or row.from_state == row.to_state:
        return found
    what = (command.target_id, command.action)
    if row.to_state == "DISPATCHED":
        again = "AGAIN" if row.details["attempt"] > 1 else "FIRST"
        found[Cell(Measure.SENDS, *what, again)] += 1
    elif row.to_state == "OUTCOME_UNKNOWN":
        found[Cell(Measure.DOUBTS, *what, row.details.get("code", ""))] += 1
    elif row.to_state in _ENDED:
        found[Cell(Measure.TASKS, *what, row.to_state)] += 1
    if row.to_state == "SUCCEEDED":
        task = Task.objects.select_related("plan").get(pk=row.entity_id)
        if graphs.by_id(task.plan.graph_id).nodes[task.node].by(task.route).undoes:
            found[Cell(Measure.UNDONE, *what)] += 1
    return found


def _of_order(row: Transition) -> Counter[Cell]:
    found: Counter[Cell] = Counter()
    if row.to_state not in ORDER_TERMINAL:
        return found
    order = Order.objects.get(reference=row.entity_id)
    offering = OrderItem.ever.filter(order=order).order_by("position")[0].offering
    took = (row.occurred_at - order.submitted_at).total_seconds()
    bucket = durations.bucket_of(took)
    found[Cell(Measure.ORDERS, offering, "", row.to_state)] += 1
    if row.to_state in ("COMPLETED", "PARTIALLY_COMPLETED"):
        found[Cell(Measure.CYCLES, offering, bucket=bucket)] += 1
    if FalloutCase.objects.filter(
        fulfillment_id=order.fulfillment_id, opened_at__lte=row.occurred_at
    ).exists():
        found[Cell(Measure.ORDERS_WITH_CASE, offering, "", row.to_state)] += 1
    kinds = {
        one.kind
        for one in Operation.objects.filter(order_reference=order.reference)
        if one.happened_at <= row.occurred_at and one.kind not in CASEWORK
    }
    for hand, there in {
        "DECIDED": "decide" in kinds,
        "REPAIRED": bool(kinds - {"decide"}),
        "BY_HAND": bool(kinds),
    }.items():
        if there:
            found[Cell(Measure.ORDERS_BY_HAND, offering, "", hand)] += 1
    return found


def told_plainly() -> Counter[Cell]:
    """The same as the figures, one row after the other and in Python."""
    found: Counter[Cell] = Counter()
    for row in Transition.objects.all():
        if row.entity == "task":
            found += _of_task(row)
        elif row.entity == "order":
            found += _of_order(row)
        elif row.entity == "plan" and row.to_state == "COMPLETED":
            plan = Plan.objects.get(pk=row.entity_id)
            names = sorted({one.name for one in graphs.by_id(plan.graph_id).workflows})
            took = (row.occurred_at - plan.created_at).total_seconds()
            bucket = durations.bucket_of(took)
            found[Cell(Measure.PLANS, " + ".join(names), bucket=bucket)] += 1
        elif row.entity == "case" and row.from_state == "":
            case = FalloutCase.objects.get(pk=row.entity_id)
            found[Cell(Measure.CASES, case.target, case.reason_code, case.category)] += 1
        elif row.entity == "cancellation" and row.to_state in ("DONE", "DENIED"):
            request = CancellationRequest.objects.get(pk=row.entity_id)
            item = OrderItem.ever.filter(order=request.order_id).order_by("position")[0]
            found[Cell(Measure.CANCELLATIONS, item.offering, "", row.to_state)] += 1
    for one in Operation.objects.all():
        if one.order_reference and one.kind not in CASEWORK:
            found[Cell(Measure.OPERATIONS, one.kind)] += 1
    return found


def _a_world(systems: ScriptedSystems, seed: int) -> None:
    """Orders that went well and badly, some tried again by hand; one is cancelled and undone."""
    desk.messy_run(orders=5, seed=seed)
    for task in Task.objects.filter(state="FAILED_FINAL")[:4]:
        with suppress(NotPossible):
            operations.retry(task_id=task.pk, actor=by("ann"), reason="They have mended it.")
        desk.drain()
    desk.advance(7200)
    desk.finish()
    undo = {"target": "alpha", "action": "give_back"}
    desk.workflow(
        {
            "take": desk.task(compensation=undo),
            "ask": desk.step(manual=_QUESTION, after=["take"]),
        },
        offering="asked",
    )
    systems.sends["take"] = [desk.succeeded(), desk.rejected()]
    given_up, decided = (desk.order(desk.item("asked")) for _ in range(2))
    desk.finish()
    refused = desk.tasks_of(decided)["take@1"]
    operations.retry(task_id=refused.pk, actor=by("ann"), reason="They have mended it.")
    desk.finish()
    manual = ManualTask.objects.get(fulfillment_id=decided.fulfillment_id)
    operations.decide(
        manual_id=manual.pk, outcome="yes", values={}, actor=by("ann"), reason="Fine."
    )
    cancelling.cancel(order=given_up, requested_by="a client", reason="Too late.")
    desk.finish()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_are_what_a_plain_count_comes_to(systems: ScriptedSystems, seed: int) -> None:
    _a_world(systems, seed)
    keeping.keep_up()
    found = figures()
    assert found == told_plainly()
    assert {cell.measure for cell in found} == set(Measure)
    keeping.keep_up()  # Again changes nothing.
    assert figures() == found


def test_each_end_is_counted_once_whenever_it_is_counted(systems: ScriptedSystems) -> None:
    """Between two runs, at the end of an hour, and of a day that is closed after it has settled."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    _at(desk.now() + timedelta(days=1), hour=22, minute=58)
    ends = 0
    for _ in range(6):  # To 01:28 of the next day.
        desk.order()
        desk.finish()
        ends += 1
        keeping.keep_up()
        keeping.keep_up()
        assert _ended() == ends
        desk.order()
        desk.advance(1800)
        desk.finish()
        ends += 1
    keeping.keep_up()
    assert _ended() == ends
    assert figures() == told_plainly()
    closed, today = CountedDay.objects.order_by("day").filter(day__gte=desk.now() - _DAY)
    assert closed.is_closed
    assert not today.is_closed
    begins = set(Figure.objects.values_list("starts_at", flat=True))
    assert {at.hour for at in begins if at.date() == closed.day} == {0}
    assert {at.hour for at in begins if at.date() == today.day} == {0, 1}


def test_days_that_nobody_has_counted_are_made_up_for(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    for _ in range(3):
        desk.order()
        desk.finish()
        desk.advance(2 * 86_400)
    keeping.keep_up()
    assert figures() == told_plainly()
    assert _ended() == 3
    assert CountedDay.objects.filter(is_closed=True).count() >= 6


def _a_counted_day() -> date:
    """A day that is over, on which one order was carried out."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    desk.finish()
    day = desk.now().astimezone(UTC).date()
    desk.advance(2 * 86_400)
    keeping.keep_up()
    return day


def test_figures_outlive_what_they_were_counted_from(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = _a_counted_day()
    kept = figures()
    assert kept
    monkeypatch.setattr(keeping, "count", lambda raw, since, until: Counter())
    keeping.recount(since=day, until=day)
    assert figures() == kept


def test_a_range_is_counted_anew_by_hand(systems: ScriptedSystems) -> None:
    day = _a_counted_day()
    right = figures()
    Figure.objects.update(count=99)
    Figure.objects.create(
        measure=Measure.SENDS,
        starts_at=datetime(day.year, day.month, day.day, tzinfo=UTC),
        subject="nobody",
        bucket=0,
        count=1,
    )
    call_command("figures", since=str(day), until=str(day))
    assert figures() == right
    with pytest.raises(CommandError, match="is no day"):
        call_command("figures", since="yesterday")


def test_a_quantile_is_told_within_a_twentieth() -> None:
    seconds = sorted(0.2 * 1.37**n for n in range(50))
    counts = Counter(durations.bucket_of(one) for one in seconds)
    for share in (0.1, 0.5, 0.9, 1.0):
        true = seconds[max(1, ceil(share * len(seconds))) - 1]
        told = durations.quantile(counts, share)
        assert told == pytest.approx(true, rel=0.05)
    assert durations.quantile(Counter(), 0.5) is None
    assert durations.quantile({durations.bucket_of(0): 1}, 0.5) == 0.05
    assert durations.quantile({durations.bucket_of(1e12): 1}, 0.5) == durations.BOUNDS_SECONDS[-1]


def _ended() -> int:
    return sum(number for cell, number in figures().items() if cell.measure is Measure.ORDERS)


def _at(day: datetime, *, hour: int, minute: int) -> None:
    at = day.astimezone(UTC).replace(hour=hour, minute=minute)
    desk.advance((at - desk.now()).total_seconds())
