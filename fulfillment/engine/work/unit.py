"""The unit of work: the only door through which plans, tasks and facts are written.

One short transaction that first locks the fulfillments it needs, in id order, then reads,
applies transitions in memory and flushes everything set-based: states, audit rows, commands,
attempts, inbox and outbox. It never calls an adapter. A unit may be run again from the start,
so the work it is given must keep its effects inside the unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg

from fulfillment.definitions.readiness import Place
from fulfillment.engine.store.database import (
    Row,
)
from fulfillment.engine.store.routing import Route
from fulfillment.engine.work import chain, events, flushing, locking
from fulfillment.engine.work.causes import cause_of
from fulfillment.engine.work.port import Notice, OrderEvent, OrderTransition, registered
from fulfillment.models import Attempt, Command, FanOut, ManualTask, Plan, Signal, Task, Trouble
from fulfillment.states import (
    PLAN_TERMINAL,
    TASK_AWAITED,
    TASK_MOVING,
    TASK_SENDABLE,
    TASK_SUCCESSFUL,
    TASK_TERMINAL,
    PlanState,
    TaskState,
)

_BEFORE_IT_BEGINS = frozenset({TaskState.FAILED_FINAL, TaskState.PENDING})
_TRYING = frozenset({TaskState.FAILED_RETRYABLE, TaskState.OUTCOME_UNKNOWN})
# A superseded plan leaves its locks, and clocks that stand still, to its successor.
_LETS_GO = PLAN_TERMINAL - {PlanState.SUPERSEDED}


@dataclass(slots=True)
class LockedFulfillment:
    """A locked `Fulfillment` row and the head of its audit chain."""

    id: int
    order_reference: str
    correlation_id: str
    priority: int
    rank: int
    customer: str
    business_key: str
    audit_sequence: int
    audit_head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InTrouble:
    """What a person has to know about a task that can't go on by itself."""

    trouble: Trouble
    title: str
    explanation: str
    route: Route
    """Where it goes, as its case does."""


@dataclass(slots=True)
class Unit:
    """What one unit of work has read and means to write."""

    raw: psycopg.Cursor[Row]
    actor: str
    now: datetime
    fulfillments: dict[int, LockedFulfillment]
    plans: dict[int, Plan] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    new_plans: list[Plan] = field(default_factory=list)
    new_tasks: list[Task] = field(default_factory=list)
    new_commands: list[Command] = field(default_factory=list)
    new_attempts: list[Attempt] = field(default_factory=list)
    new_manual: list[ManualTask] = field(default_factory=list)
    changed_manual: dict[int, ManualTask] = field(default_factory=dict)
    """By their ids, those that this unit has changed."""
    troubles: dict[int, InTrouble] = field(default_factory=dict)
    """By task, why it can't go on by itself; see `engine.work.asking`."""
    repaired: set[int] = field(default_factory=set)
    """Tasks that had waited for a person and do so no more."""
    fan_outs: dict[tuple[int, int], FanOut] = field(default_factory=dict)
    """By plan and SPREAD node."""
    elements: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    """The lists of those, where all of them are looked at."""
    signals: list[Signal] = field(default_factory=list)
    """Milestones that other orders may wait for."""
    places: dict[int, dict[Place, Task | None]] = field(default_factory=dict)
    """By plan, what has been asked for; None is known not to exist."""
    finished_attempts: list[Attempt] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    hinted: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    wake_ups: dict[str, timedelta] = field(default_factory=dict)
    transitions: list[Row] = field(default_factory=list)
    outbox: list[events.Event] = field(default_factory=list)
    heard: bool = False
    _plan_states: dict[int, str] = field(default_factory=dict)
    _task_states: dict[int, str] = field(default_factory=dict)
    touched_plans: set[int] = field(default_factory=set)
    unstuck: set[int] = field(default_factory=set)
    """Plans that the detector had flagged, and that have moved in this unit."""
    touched_tasks: set[int] = field(default_factory=set)
    clocked_plans: set[int] = field(default_factory=set)
    clocked_tasks: set[int] = field(default_factory=set)
    """Whose clocks have changed; most have none, and nothing is written for them."""
    corrected_tasks: set[int] = field(default_factory=set)
    """Whose payload is to differ from what their workflow makes."""
    letting_go: set[str] = field(default_factory=set)
    """Locks that tasks and plans that have ended in this unit may keep."""
    _left_line: set[int] = field(default_factory=set)
    """Tasks that are not to be sent any more, or in another way: no hold or lock keeps them now."""
    _freed_tasks: set[int] = field(default_factory=set)
    _freed_plans: set[int] = field(default_factory=set)
    _passed_on: bool = False
    rests: bool = False
    """Something has ended that a plan waits for which is to be given up or changed."""
    fell_out: bool = False
    """A case was opened that may have its cause in common with others."""
    given_up: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """Plans that are to be undone, why, and the names of the tasks if not of all."""
    failed: dict[int, list[Task]] = field(default_factory=lambda: defaultdict(list))
    """By plan, the required tasks that have failed for good in this unit."""

    # --- reading -----------------------------------------------------------------------------

    def adopt_plans(self, plans: Iterable[Plan]) -> None:
        """Take over plans that were read under this unit's locks."""
        for plan in plans:
            if plan.id not in self.plans:
                self.plans[plan.id] = plan
                self._plan_states[plan.id] = str(plan.state)

    def adopt_tasks(self, tasks: Iterable[Task]) -> None:
        """Take over tasks that were read under this unit's locks."""
        for task in tasks:
            if task.id not in self.tasks:
                self.tasks[task.id] = task
                self._task_states[task.id] = str(task.state)
                if not task.round:
                    self.places.setdefault(task.plan_id, {})[task.node, task.element] = task

    # --- changing ----------------------------------------------------------------------------

    def change_task(
        self, task: Task, transition: Callable[[Task], Any], *, cause: str, **details: Any
    ) -> None:
        """Apply a transition of the task's state machine and note it for the audit."""
        before = TaskState(task.state)
        transition(task)
        after = TaskState(task.state)
        task.changed_at = self.now
        if before in _BEFORE_IT_BEGINS or task.began_at is None:
            task.began_at = None if after == TaskState.PENDING else self.now
        task.waits_for = cause_of(task, before=before, now=self.now)
        self.touched_tasks.add(task.id)
        self.record(
            fulfillment_id=task.fulfillment_id,
            entity="task",
            entity_id=str(task.id),
            name=transition.__name__,
            before=before,
            after=after,
            cause=cause,
            details=details,
        )
        if after in events.TASK_EVENTS and after != before:
            self.emit(
                fulfillment_id=task.fulfillment_id,
                event_type=events.TASK_EVENTS[after],
                payload=events.of_task(task),
                plan_id=task.plan_id,
                task_id=task.id,
            )
        if after == TaskState.DISPATCHED:
            return  # Moves nothing in the plan.
        if before == TaskState.AWAITING_MANUAL:
            self.repaired.add(task.id)
        if before in TASK_SENDABLE:
            self._left_line.add(task.id)
        if task.locks and (after in TASK_TERMINAL or after == TaskState.PENDING):
            self.letting_go.update(task.locks)
            self._freed_tasks.add(task.id)
        if task.stopped_by_id is not None and after in TASK_TERMINAL:
            task.stopped_at = task.stopped_by_id = None  # What is over is not set going again.
            self.clocked_tasks.add(task.id)
        plan = self.plans[task.plan_id]
        if task.required and after == TaskState.FAILED_FINAL:
            self.failed[plan.id].append(task)
        if plan.rest_due_at is not None and before in TASK_AWAITED and after not in TASK_AWAITED:
            plan.rest_due_at = self.now
            self.clocked_plans.add(plan.id)
            self.rests = True
        plan.moving += (after in TASK_MOVING) - (before in TASK_MOVING)
        plan.tasks_open += (before in TASK_TERMINAL) - (after in TASK_TERMINAL)
        if task.required:
            plan.mandatory_open += (before in TASK_SUCCESSFUL) - (after in TASK_SUCCESSFUL)
        self.touched_plans.add(plan.id)
        still_in_doubt = before == TaskState.OUTCOME_UNKNOWN and after in TASK_MOVING
        if after in _TRYING or still_in_doubt:
            return  # Trying again and again is no progress.
        plan.last_progress_at = self.now
        # Left alone where it is earlier: not to touch an indexed column makes the update cheap, and
        # the detector finds out by itself that there is more time.
        plan.patient_until = min(plan.patient_until, self.now + plan.stalls_after)
        if plan.stuck_at is not None:
            plan.stuck_at, plan.stuck_reason = None, ""
            self.unstuck.add(plan.id)

    def change_plan(
        self, plan: Plan, transition: Callable[[Plan], Any], *, cause: str, **details: Any
    ) -> None:
        """Apply a transition of the plan's state machine and note it for the audit."""
        before = str(plan.state)
        transition(plan)
        self.touched_plans.add(plan.id)
        if plan.stopped_by_id is not None and plan.state in _LETS_GO:
            plan.stopped_at = plan.stopped_by_id = None
            self.clocked_plans.add(plan.id)
        # Not only if it has them all: of another version it may have been given some.
        if plan.locks and plan.state in _LETS_GO:
            self.letting_go.update(plan.locks)
            self._freed_plans.add(plan.id)
        self.record(
            fulfillment_id=plan.fulfillment_id,
            entity="plan",
            entity_id=str(plan.id),
            name=transition.__name__,
            before=before,
            after=str(plan.state),
            cause=cause,
            details=details,
        )
        if str(plan.state) in events.PLAN_EVENTS:
            self.emit(
                fulfillment_id=plan.fulfillment_id,
                event_type=events.PLAN_EVENTS[str(plan.state)],
                payload=events.of_plan(plan),
                plan_id=plan.id,
            )

    def record(
        self,
        *,
        fulfillment_id: int,
        entity: str,
        entity_id: str,
        name: str,
        before: str,
        after: str,
        cause: str,
        details: dict[str, Any] | None = None,
        actor: str = "",
    ) -> None:
        """Append one audit row to the fulfillment's chain."""
        locked = self.fulfillments[fulfillment_id]
        locked.audit_sequence += 1
        details = details or {}
        actor = actor or self.actor
        locked.audit_head = chain.link(
            previous=locked.audit_head,
            sequence=locked.audit_sequence,
            entity=entity,
            entity_id=entity_id,
            name=name,
            from_state=before,
            to_state=after,
            actor=actor,
            cause=cause,
            details=details,
            occurred_at=self.now,
        )
        self.transitions.append(
            (
                fulfillment_id,
                locked.audit_sequence,
                entity,
                entity_id,
                name,
                str(before),
                str(after),
                actor,
                cause,
                chain.document(details),
                self.now,
                locked.audit_head,
            )
        )

    def emit(
        self,
        *,
        fulfillment_id: int,
        event_type: str,
        payload: dict[str, Any],
        plan_id: int | None = None,
        task_id: int | None = None,
        causation_id: str = "",
    ) -> None:
        """Write an event that leaves the system once this unit has committed (§22.2).

        `causation_id` names what made it happen: `cmd-7` for command 7, `evt-…` for a report.
        """
        self.outbox.append(
            events.Event(
                fulfillment_id=fulfillment_id,
                event_type=event_type,
                payload=payload,
                occurred_at=self.now,
                plan_id=plan_id,
                task_id=task_id,
                causation_id=causation_id,
            )
        )

    def hint(self, *, target: str) -> None:
        """Tell the target's workers, after the commit, that there is something to claim."""
        self.hinted[target] += 1

    def wake_up(self, *, target: str, at: datetime) -> None:
        """Look at the target again at `at`; the scanner does the same if this process dies."""
        delay = at - self.now
        self.wake_ups[target] = min(delay, self.wake_ups.get(target, delay))

    def give_up(self, task: Task, *, reason: str, only: Sequence[str] = ()) -> None:
        """Its order is undone now, all of it or only these tasks; whoever updates the plan sees
        to it."""
        self.given_up.setdefault(task.plan_id, (reason, tuple(only)))

    def free(
        self, *, locks: Iterable[str], task_ids: Iterable[int], plan_ids: Iterable[int]
    ) -> None:
        """By hand: what these tasks and plans keep is released at the end of this unit, although
        they have not ended; `locks` are the names of all that they may keep."""
        self.letting_go.update(locks)
        self._freed_tasks.update(task_ids)
        self._freed_plans.update(plan_ids)

    # --- the end -----------------------------------------------------------------------------

    def let_go(self) -> None:
        """Release the locks of what has ended; before the condition of a target is locked."""
        if not self.letting_go:
            return
        self._passed_on |= locking.release(
            self.raw,
            names=self.letting_go,
            task_ids=self._freed_tasks,
            plan_ids=self._freed_plans,
        )
        self.letting_go, self._freed_tasks, self._freed_plans = set(), set(), set()

    @property
    def passed_on(self) -> bool:
        """Whether somebody may have a turn at a lock that this unit has released."""
        return self._passed_on

    def notify_orders(self) -> None:
        """Hand the notices to the order desk; its transitions join the audit chain."""
        if not self.notices:
            return
        notices, self.notices = self.notices, []
        for change in registered().notify(notices=notices, now=self.now):
            if isinstance(change, OrderEvent):
                self.emit(
                    fulfillment_id=change.fulfillment_id,
                    event_type=change.event_type,
                    payload=change.event,
                )
            else:
                self.record_order(change)

    def record_order(self, change: OrderTransition) -> None:
        """Append an order's transition to its chain, and its event to the outbox."""
        self.record(
            fulfillment_id=change.fulfillment_id,
            entity=change.entity,
            entity_id=change.order_id,
            name=change.name,
            before=change.from_state,
            after=change.to_state,
            cause=change.cause,
        )
        if change.event_type:
            self.emit(
                fulfillment_id=change.fulfillment_id,
                event_type=change.event_type,
                payload=change.event,
            )

    def write_now(self, plan: Plan) -> None:
        """Write the state of a plan before everything else: its successor takes its place."""
        flushing.check(
            flushing.write_changed(self.raw, tasks=(), plans=[(plan, self._plan_states[plan.id])])
        )
        self._plan_states[plan.id] = str(plan.state)

    def write_finished_attempts(self) -> None:
        """Write these before everything else: what is under way is counted next."""
        flushing.write_finished(self.raw, finished=self.finished_attempts)
        self.finished_attempts = []

    def flush(self) -> None:
        """Write everything; raises ConcurrentChange if a row was not as it had been read.

        All statements leave together: on an idle system their round trips are what takes time.
        """
        written, self.heard = events.wanted(self.raw, self.outbox)
        with self.raw.connection.pipeline():
            changes = self._write(written)
        flushing.check(changes)

    def _write(self, written: Sequence[events.Event]) -> flushing.Changes:
        flushing.write_new(
            self.raw, plans=self.new_plans, tasks=self.new_tasks, manual=self.new_manual
        )
        new_plans = {plan.id for plan in self.new_plans}
        new_tasks = {task.id for task in self.new_tasks}
        changes = flushing.write_changed(
            self.raw,
            tasks=[
                (self.tasks[pk], self._task_states[pk])
                for pk in sorted(self.touched_tasks - new_tasks)
            ],
            plans=[
                (self.plans[pk], self._plan_states[pk])
                for pk in sorted(self.touched_plans - new_plans)
            ],
        )
        if self._left_line:
            locking.leave_line(self.raw, task_ids=self._left_line)
        flushing.write_clocks(
            self.raw,
            tasks=[self.tasks[pk] for pk in sorted(self.clocked_tasks)],
            plans=[self.plans[pk] for pk in sorted(self.clocked_plans)],
        )
        flushing.write_corrections(
            self.raw, tasks=[self.tasks[pk] for pk in sorted(self.corrected_tasks)]
        )
        flushing.write_log(
            self.raw,
            commands=self.new_commands,
            attempts=self.new_attempts,
            finished=self.finished_attempts,
            outbox=[event.row() for event in written],
            transitions=self.transitions,
            heads=[
                (locked.id, locked.audit_sequence, locked.audit_head)
                for locked in self.fulfillments.values()
            ]
            if self.transitions
            else [],
        )
        flushing.write_flow(
            self.raw,
            fan_outs=list(self.fan_outs.values()),
            manual=list(self.changed_manual.values()),
            signals=self.signals,
        )
        return changes
