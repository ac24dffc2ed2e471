"""The engine and the model of time side by side: the model says when a clock has run out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from adapters.contract import Outcome, OutcomeKind
from fulfillment import operations
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.timing import durations, jeopardy
from fulfillment.models import (
    CaseCategory,
    CaseTask,
    ClockPolicy,
    Command,
    FalloutCase,
    MeasuredDuration,
    Plan,
    Purpose,
    Task,
)
from oms.models import Order
from tests import desk
from tests.desk import by
from tests.properties import model_clocks
from tests.properties.model import MOVING
from tests.properties.model_locks import Place
from tests.properties.scenarios import Asked, Part, Scenario, locks_of
from tests.properties.side_by_side import Run, picked
from tests.properties.timed_scenarios import (
    STEP,
    HoldStill,
    Look,
    Rerun,
    ShowLife,
    TimedOrder,
    TimedPart,
    TimedScenario,
    TimedStep,
    expanded,
    timeouts,
    usual,
)
from tests.properties.world import Fate

A_MOMENT = timedelta(minutes=STEP) / 4
"""By so much the engine's clock may be ahead of the model's, which stands still between steps."""


class TimedRun(Run):
    long = 60.0 * STEP * 2
    plans: dict[int, model_clocks.Plan]  # type: ignore[assignment]

    def more(self, scenario: Scenario) -> dict[str, Any]:
        assert isinstance(scenario, TimedScenario)
        MeasuredDuration.objects.bulk_create(
            MeasuredDuration(
                workflow="thing",
                task=f"t{number}",
                median_seconds=60 * part.usual,
                p90_seconds=120 * part.usual,
                samples=100,
                measured_at=desk.now(),
            )
            for number, part in enumerate(scenario.workflow)
            if isinstance(part, TimedPart)
        )
        durations.forget()
        found: dict[str, Any] = {}
        if scenario.deadline is not None:
            found["deadline"] = {"within": f"PT{scenario.deadline}M"}
        if scenario.urgent is not None:
            found["priority"] = f"${{plan.in_jeopardy ? {scenario.urgent} : order.priority}}"
        return found

    def more_of(self, part: Part) -> dict[str, Any]:
        assert isinstance(part, TimedPart)
        return {"timeouts": timeouts(part.limits)}

    def more_asked(self, asked: Asked) -> dict[str, Any]:
        assert isinstance(asked, TimedOrder)
        if asked.promise is None:
            return {}
        return {"promised_at": desk.now() + timedelta(minutes=asked.promise)}

    def expect(self, asked: Asked, *, rank: int) -> model_clocks.Plan:
        assert isinstance(asked, TimedOrder)
        assert isinstance(self.scenario, TimedScenario)
        return model_clocks.Plan(
            tasks=expanded(self.scenario.workflow, order=asked),
            fast_path=self.scenario.fast_path,
            locks=locks_of(self.scenario.locks, order=asked),
            priority=asked.priority,
            rank=rank,
            deadline=self.scenario.deadline,
            promise=asked.promise,
            usual=usual(self.scenario.workflow, order=asked),
            urgent=self.scenario.urgent,
        )

    # --- steps ----------------------------------------------------------------------------------

    def take(self, step: TimedStep) -> None:
        match step:
            case HoldStill(which):
                for order in picked(self.orders, [which]):
                    self.hold_or_release(order, policy=ClockPolicy.STOP)
            case Look():
                self.look()
            case ShowLife(job):
                for key in picked(self.world.jobs, [job]):
                    self.show_life(key)
            case Rerun(which):
                for place in picked(self.failed(), [which]):
                    self.rerun(place)
            case _:
                super().take(step)
                return
        self.compare()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for plan in self.plans.values():
            plan.advance(round(seconds / 60))

    def hold_or_release(self, order: Order, *, policy: ClockPolicy = ClockPolicy.RUN) -> None:
        super().hold_or_release(order, policy=policy)
        plan = self.plans[order.fulfillment_id]
        plan.stand_still(plan.held and policy == ClockPolicy.STOP)

    def begin(self, target: str, fates: Sequence[Fate]) -> None:
        before = len(self.calls)
        super().begin(target, fates)
        for claim in (call.claim for call in self.calls[before:]):
            progress = self.task(self.places[claim.task_id]).progress
            told = claim.purpose is Purpose.SEND and progress
            assert claim.command.resume_from == ({"step": progress} if told else None)

    def sweep(self) -> None:
        self.heard(self.swept())
        late = set()
        for order, plan in self.plans.items():
            late |= {(order, key) for key in plan.ring()}
            self.shop.let_go(order)
        for place in [p for p in self.shop.line if self.task(p).state not in MOVING]:
            del self.shop.line[place]
        told = {self.places[pk] for pk in self.late_tasks()}
        assert late <= told, f"nobody is told that {late - told} is late"
        assert all(self.task(place).told for place in told), "somebody is told too early"

    def beat(self) -> None:
        super().beat()
        self.look()

    def look(self) -> None:
        jeopardy.look()
        rows = {row["fulfillment_id"]: row for row in Plan.objects.values()}
        now = desk.now()
        for order, plan in self.plans.items():
            if plan.look():
                near(rows[order]["estimated_at"], plan.estimate, now=now, what="the estimate")

    def show_life(self, key: str) -> None:
        command = Command.objects.get(idempotency_key=key)
        number = len(self.received) + 1
        self.received.add(f"L-{number}")
        receipt = callbacks.receive(
            report=callbacks.Report(
                source=command.target_id,
                event_id=f"L-{number}",
                idempotency_key=key,
                outcome=Outcome(kind=OutcomeKind.ACCEPTED, progress={"step": number}),
                body={},
            )
        )
        assert not receipt.duplicate
        task = self.task(self.places[command.task_id])
        if command.revision == task.command:
            task.show_life(number)

    def rerun(self, place: Place) -> None:
        (task_id,) = (pk for pk, one in self.places.items() if one == place)
        operations.retry(task_id=task_id, actor=by("a test"), reason="x")
        self.plans[place[0]].rerun(place[1])

    def failed(self) -> list[Place]:
        """What might be tried again by hand."""
        return [
            (order, key)
            for order, plan in self.plans.items()
            for key, task in plan.tasks.items()
            if task.state == "FAILED_FINAL" and plan.state != "COMPLETED"
        ]

    def task(self, place: Place) -> model_clocks.Task:
        return self.plans[place[0]].tasks[place[1]]

    # --- what must hold -------------------------------------------------------------------------

    def compare(self) -> None:
        super().compare()
        now = desk.now()
        for task in Task.objects.all():
            self.compare_task(task, now=now)
        for plan in Plan.objects.all():
            self.compare_plan(plan, now=now)
        in_jeopardy = {o for o, p in self.plans.items() if p.in_jeopardy}
        told = FalloutCase.objects.filter(category=CaseCategory.JEOPARDY, state="OPEN")
        cases = set(told.values_list("fulfillment_id", flat=True))
        assert cases == in_jeopardy - self.completed

    def compare_task(self, task: Task, *, now: datetime) -> None:
        expected = self.task(self.places[task.pk])
        if task.state not in MOVING | {"AWAITING_MANUAL"}:
            return
        assert task.priority == self.plans[task.fulfillment_id].priority, f"{task.key}'s priority"
        assert task.progress == ({"step": expected.progress} if expected.progress else None)
        if task.state == "ACCEPTED":
            near(task.not_before, expected.to_look, now=now, what=f"{task.key} is to report")
        if task.stopped_at is not None:
            assert expected.still, f"the clocks of {task.key} stand still"
        elif not expected.still and task.state != "AWAITING_MANUAL":
            near(task.start_by, expected.to_start, now=now, what=f"{task.key} is to start")
            if task.state != "DISPATCHED" or expected.to_close is not None:
                near(task.close_by, expected.to_close, now=now, what=f"{task.key} is to end")

    def compare_plan(self, plan: Plan, *, now: datetime) -> None:
        expected = self.plans[plan.fulfillment_id]
        if plan.state == "COMPLETED":
            return
        assert (plan.late_since is not None) == expected.late
        assert (plan.at_risk_since is not None) == expected.in_jeopardy
        if plan.stopped_at is not None:
            assert expected.still, "the clocks of an order stand still"
        elif not expected.still:
            near(plan.finish_by, expected.deadline, now=now, what="the deadline")
            near(plan.due_at, expected.promise, now=now, what="the promise")

    @property
    def completed(self) -> set[int]:
        return {order for order, plan in self.plans.items() if plan.state == "COMPLETED"}

    def late_tasks(self) -> list[int]:
        """What the open cases are about that tell of lateness, the tasks that joined included."""
        late = CaseTask.objects.filter(case__category=CaseCategory.LATE, case__state="OPEN")
        return list(late.filter(left_at=None).values_list("task_id", flat=True))


def near(at: datetime | None, minutes: float | None, *, now: datetime, what: str) -> None:
    """It comes in so many minutes; what is None never comes."""
    expected = None if minutes is None else now + timedelta(minutes=minutes)
    assert (at is None) == (expected is None), f"{what}: {at}, and it should be {expected}"
    if at is not None and expected is not None:
        assert abs(at - expected) < A_MOMENT, f"{what}: {at}, and it should be {expected}"
