"""Manual tasks that wait for somebody else: the customer says something, or there is a new quote.

Meanwhile time stands still: that of the manual task, of its case, and the clocks that the customer
was promised. It goes on when the answer comes, or when somebody decides without it.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from fulfillment import sentences
from fulfillment.definitions.graph import Node
from fulfillment.engine.protection import holds
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import allocate, clean
from fulfillment.engine.tasks import manual as questions
from fulfillment.engine.timing import standing
from fulfillment.engine.work import asking, casework, events, hints, sla
from fulfillment.engine.work.port import registered
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.models import (
    UNRESOLVED,
    CaseState,
    CaseTask,
    ClockPolicy,
    FalloutCase,
    Hold,
    HoldScope,
    ManualState,
    ManualTask,
    Task,
)
from fulfillment.states import TaskState

CUSTOMER = "customer"
COMMERCE = "commerce"
_CASES = f"""
SELECT c.id FROM fulfillment_falloutcase c JOIN fulfillment_casetask t ON t.case_id = c.id
WHERE t.task_id = %s AND t.left_at IS NULL AND c.{UNRESOLVED} ORDER BY c.id
"""
ANSWER = "answer"
"""In the context of a manual task: what came back."""


def ask_customer(unit: Unit, *, manual: ManualTask, task: Task, node: Node, question: str) -> None:
    """The customer gets a message with the question; the same again asks again."""
    asked_before = manual.awaits == CUSTOMER
    _await(unit, manual, task, node, awaits=CUSTOMER, question=question)
    registered().ask_customer(
        unit,
        fulfillment_id=manual.fulfillment_id,
        question=question,
        # Once per question: what is asked anew in the same words is said anew.
        number=f"{manual.pk}.{unit.fulfillments[manual.fulfillment_id].audit_sequence}",
    )
    if asked_before:
        asking.note(unit, manual=manual, name="ask_again", cause=question)


def ask_commerce(
    unit: Unit, *, manual: ManualTask, task: Task, node: Node, outcome: str, reason: str
) -> Hold:
    """The order is held, and commerce is told that it needs a new quote.

    No gate has to be closed: every claim of this order waits for the lock that this unit has.
    """
    end(unit, manual=manual, reason="It is asked for anew.")
    locked = unit.fulfillments[manual.fulfillment_id]
    (hold_id,) = allocate(unit.raw, "fulfillment_hold", 1)
    hold = Hold(
        pk=hold_id,
        scope=HoldScope.ORDER,
        subject=holds.subject_of(scope=HoldScope.ORDER, name=locked.order_reference),
        reason=f"It needs a new quote: {reason}",
        clock_policy=ClockPolicy.RUN,
        placed_by=unit.actor[:150],
        placed_at=unit.now,
    )
    hold.save(force_insert=True)
    manual.hold_id = hold_id
    asking.record_hold(unit, manual=manual, name="place_hold", states=("", "PLACED"), cause=reason)
    _await(unit, manual, task, node, awaits=COMMERCE, question=reason)
    unit.emit(
        fulfillment_id=manual.fulfillment_id,
        event_type=events.NEEDS_REQUOTE,
        payload={
            "task": task.key,
            "manual_task": manual.pk,
            "outcome": outcome,
            "reason": reason,
            "asked_by": unit.actor,
            "hold": hold_id,
        },
        plan_id=task.plan_id,
        task_id=task.id,
    )
    return hold


def resume(
    unit: Unit, *, manual: ManualTask, task: Task, cause: str, answer: dict[str, Any] | None = None
) -> None:
    """Its time goes on, with what was left of it, and whoever had it has it again."""
    end(unit, manual=manual, reason=cause)
    if manual.due_at is not None and manual.stopped_at is not None:
        left = sla.left(calendar=manual.calendar, now=manual.stopped_at, until=manual.due_at)
        manual.due_at = sla.deadline(calendar=manual.calendar, start=unit.now, within=left)
    manual.awaits, manual.stopped_at = "", None
    if answer:
        manual.context = {**manual.context, ANSWER: answer}
    back = ManualTask.resume if manual.claimed_by else ManualTask.reopen
    asking.move(unit, manual=manual, transition=back, cause=cause)
    _tell_task(unit, manual, task)
    standing.go_on(unit, plan=unit.plans[task.plan_id])
    asking.tell(unit, event_type=events.MANUAL_RESUMED, manual=manual, task=task)


def resume_all(
    unit: Unit,
    *,
    fulfillment_id: int,
    awaits: str,
    cause: str,
    hold_id: int | None = None,
    answer: dict[str, Any] | None = None,
) -> list[ManualTask]:
    """What of this order waits for them; of a hold only what it was placed for."""
    rows = ManualTask.objects.filter(
        fulfillment=fulfillment_id, state=ManualState.AWAITING_CUSTOMER, awaits=awaits
    )
    if hold_id is not None:
        rows = rows.filter(hold=hold_id)
    found = [
        row
        for row in (unit.changed_manual.get(one.pk, one) for one in rows.order_by("pk"))
        if row.state == ManualState.AWAITING_CUSTOMER
    ]
    if not found:
        return []
    tasks = tasks_by_id(unit.raw, [row.task_id for row in found])
    unit.adopt_tasks(tasks)
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks}))
    # What is not to be decided any more ends with the unit.
    found = [row for row in found if unit.tasks[row.task_id].state == TaskState.AWAITING_MANUAL]
    for row in found:
        resume(unit, manual=row, task=unit.tasks[row.task_id], cause=cause, answer=answer)
    return found


def end(unit: Unit, *, manual: ManualTask, reason: str) -> None:
    """Nobody is awaited any more: the hold that was placed for it is released, its case goes on."""
    for case in _cases(unit, manual.task_id):
        is_awaited = case.state == CaseState.AWAITING_CUSTOMER
        if is_awaited and not _others_await(unit, case=case, manual=manual):
            casework.go_on(unit, case=case, cause=reason)
    if asking.let_go(unit, manual=manual, reason=reason):
        # If this process dies before it, the scanner finds the same tasks.
        transaction.on_commit(_set_going, robust=True)


def _await(
    unit: Unit, manual: ManualTask, task: Task, node: Node, *, awaits: str, question: str
) -> None:
    manual.awaits, manual.question = awaits, clean(question, 2000)
    if manual.state == ManualState.AWAITING_CUSTOMER:
        asking.note(unit, manual=manual, name="await_another", cause=question)
    else:
        manual.stopped_at = unit.now
        asking.move(
            unit,
            manual=manual,
            transition=ManualTask.await_customer,
            cause=question,
            details={"awaits": awaits},
        )
    standing.stop(unit, plan=unit.plans[task.plan_id])
    for case in _cases(unit, task.pk):
        if case.state == CaseState.OPEN:  # Who asks has it.
            casework.assign(unit, case=case, to=manual.claimed_by or unit.actor, cause=question)
        if case.state == CaseState.ASSIGNED:
            casework.await_customer(unit, case=case, asked=question, cause=question)
    _tell_task(unit, manual, task)
    asking.tell(unit, event_type=events.MANUAL_AWAITING, manual=manual, task=task)


def _cases(unit: Unit, task_id: int) -> list[FalloutCase]:
    """The open ones that the task is in, locked."""
    unit.raw.execute(_CASES, [task_id], prepare=True)
    return [casework.locked(case_id) for (case_id,) in unit.raw.fetchall()]


def _others_await(unit: Unit, *, case: FalloutCase, manual: ManualTask) -> bool:
    """Whether somebody is awaited for another task of the same case."""
    tasks = CaseTask.objects.filter(case=case, left_at=None).values("task_id")
    rows = ManualTask.objects.filter(task__in=tasks, state=ManualState.AWAITING_CUSTOMER)
    return any(
        unit.changed_manual.get(row.pk, row).state == ManualState.AWAITING_CUSTOMER
        for row in rows.exclude(pk=manual.pk)
    )


def _tell_task(unit: Unit, manual: ManualTask, task: Task) -> None:
    node = graphs.routed(unit.plans[task.plan_id].graph_id, task.node, task.route)
    task.waits_for = questions.waits_for(manual, node)
    if manual.awaits or not manual.trouble:
        task.blocked_reason = sentences.of_manual(manual)
    else:
        task.blocked_reason = manual.context.get("task", {}).get("why", task.blocked_reason)
    unit.touched_tasks.add(task.id)


def _set_going() -> None:
    hints.publish(targets=dict.fromkeys(holds.unpark(), 1), wake_ups={})
