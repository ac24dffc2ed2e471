"""Why tasks wait: for time, for an answer, for a person, or kept back by somebody or something.

A fixed number of queries for any number of fulfillments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from fulfillment import keeping, sentences
from fulfillment.definitions.graph import Node
from fulfillment.engine.protection import holds
from fulfillment.engine.store import graphs, targets
from fulfillment.engine.work import patience
from fulfillment.keeping import Keeper
from fulfillment.models import Hold, HoldScope, Plan, Task
from fulfillment.states import (
    PLAN_SELECTABLE,
    TASK_CLAIMABLE,
    TASK_SENDABLE,
    Cause,
    PlanState,
    TaskState,
)
from fulfillment.waits.conditions import (
    NOW,
    Fitness,
    KeptBy,
    Obstacle,
    active_holds,
    fitness,
    held_by,
)
from fulfillment.waits.inner_waits import Wait as Wait
from fulfillment.waits.inner_waits import asked, inner_wait, of_elements, under_way

_WAITS: Mapping[TaskState, str] = {
    TaskState.READY: "It waits for a free slot of {target}.",
    TaskState.DISPATCHED: "It is being sent to {target}: attempt {sends} of {maximum}.",
    TaskState.ACCEPTED: "{target} is working on it and will report.",
    TaskState.FAILED_RETRYABLE: "Nothing happened at {target}; it is tried again, "
    "attempt {next} of {maximum}.",
    TaskState.OUTCOME_UNKNOWN: "Whether {target} did it is not known; it is being asked.",
    TaskState.AWAITING_MANUAL: "A person has to decide.",
    TaskState.FAILED_FINAL: "It failed, and is not tried again by itself.",
}
_LOOK_FIRST = (
    TaskState.AWAITING_MANUAL,
    TaskState.FAILED_FINAL,
    TaskState.OUTCOME_UNKNOWN,
    TaskState.FAILED_RETRYABLE,
    TaskState.ACCEPTED,
    TaskState.DISPATCHED,
    TaskState.READY,
    # A fan-out whose elements are under way.
    TaskState.PENDING,
)
_ELEMENTS_AT_MOST = 20
"""Tasks of one fan-out; what the others wait for reads alike."""


def waiting(*, fulfillment_ids: Collection[int]) -> dict[int, list[Wait]]:
    """Per fulfillment what its active plan waits for, the most pressing first.

    Tasks that only wait for other tasks are left out: those others are the answer.
    """
    tasks = list(
        Task.objects.filter(
            plan__fulfillment_id__in=fulfillment_ids,
            state__in=set(_LOOK_FIRST) - {TaskState.PENDING},
            plan__state__in=PLAN_SELECTABLE,
        )
        .select_related("plan", "fulfillment")
        .defer("outputs", "plan__context")
        .order_by("fulfillment_id", "node", "element")
    )
    fan_outs = under_way(fulfillment_ids=fulfillment_ids)
    tasks = _few_of_each_fan_out(tasks)
    fit = fitness(names={task.target_id for task in tasks if task.target_id})
    kept = holds_on([task for task in tasks if task.state in TASK_SENDABLE])
    manual = asked(tasks)
    keepers = keeping.keepers(names={task.waits_for_lock for task in tasks if task.waits_for_lock})
    promising = keeping.promising(tasks)
    found: dict[int, list[Wait]] = {}
    for task in tasks:
        node = graphs.routed(task.plan.graph_id, task.node, task.route)
        wait = (
            _wait(
                task,
                node,
                fit.get(task.target_id),
                kept.get(task.pk, ()),
                keepers.get(task.waits_for_lock, ()),
            )
            if node.is_command
            else inner_wait(
                task=task,
                node=node,
                manual=manual.get(task.pk),
                others=promising.get(task.pk, ()),
            )
        )
        found.setdefault(task.fulfillment_id, []).append(wait)
    for task, fan_out in fan_outs:
        found.setdefault(task.fulfillment_id, []).append(of_elements(task=task, fan_out=fan_out))
    for waits in found.values():
        waits.sort(key=lambda wait: _LOOK_FIRST.index(wait.state))
    return found


def decided_by(*, plan: Plan) -> datetime | None:
    """Until when a plan waits for nothing but decisions of people who still have time."""
    patient = Plan.objects.filter(
        pk=plan.pk,
        state__in=[PlanState.BLOCKED, PlanState.COMPENSATING],
        patient_until__gt=NOW + patience.GRACE,
    ).exclude(blocked_reason="")
    found = patient.values_list("patient_until", flat=True).first()
    return None if found is None else found - patience.GRACE


def _few_of_each_fan_out(tasks: Sequence[Task]) -> list[Task]:
    """Of thousands of elements the most pressing ones."""
    shown: Counter[tuple[int, int | None]] = Counter()
    kept = []
    for task in sorted(tasks, key=lambda task: _LOOK_FIRST.index(TaskState(task.state))):
        if task.element:
            group = (task.plan_id, graphs.by_id(task.plan.graph_id).nodes[task.node].group)
            shown[group] += 1
            if shown[group] > _ELEMENTS_AT_MOST:
                continue
        kept.append(task)
    return sorted(kept, key=lambda task: (task.fulfillment_id, task.node, task.element))


def holds_of(*, plan: Plan | None, order_reference: str, customer: str) -> list[Hold]:
    """The active holds on an order itself: on it, its customer, its plan, items or tasks.

    Those on target systems and actions keep many orders; `waiting` names them where they do.
    """
    subjects = {holds.subject_of(scope=HoldScope.ORDER, name=order_reference)}
    if customer:
        subjects.add(holds.subject_of(scope=HoldScope.CUSTOMER, name=customer))
    if plan is not None:
        nodes = graphs.by_id(plan.graph_id).nodes
        subjects.add(holds.subject_of(scope=HoldScope.PLAN, name=str(plan.pk)))
        subjects.add(holds.subject_of(scope=HoldScope.CHANGE, name=str(plan.pk)))
        subjects.update(
            holds.subject_of(scope=HoldScope.ITEM, name=f"{order_reference}/{position}")
            for node in nodes
            for position in node.items
        )
        tasks = Task.objects.filter(plan=plan).values_list("pk", flat=True)
        subjects.update(holds.subject_of(scope=HoldScope.TASK, name=str(task)) for task in tasks)
    return active_holds(subjects=subjects)


def holds_on(tasks: Sequence[Task]) -> dict[int, list[Hold]]:
    """By task, the active holds that keep it from being sent."""
    subjects = {
        task.pk: set(
            holds.subjects_of(
                holds.Held.of(
                    task,
                    order_reference=task.fulfillment.order_reference,
                    customer=task.fulfillment.customer,
                    graph_id=task.plan.graph_id,
                )
            )
        )
        for task in tasks
    }
    found = active_holds(subjects=set().union(*subjects.values()))
    return {
        task_id: [hold for hold in found if hold.subject in mine]
        for task_id, mine in subjects.items()
    }


def _wait(
    task: Task,
    node: Node,
    fit: Fitness | None,
    kept: Sequence[Hold],
    keepers: Sequence[Keeper],
) -> Wait:
    state = TaskState(task.state)
    policy = targets.retry_policy(node, row=fit.row if fit else None)
    obstacle = _obstacle(task, fit, kept, keepers)
    sentence = _WAITS[state].format(
        target=task.target_id,
        sends=task.sends,
        next=task.sends + 1,
        maximum=policy.maximum_attempts,
    )
    if state is TaskState.ACCEPTED:
        sentence += sentences.of_progress(task)
    if state is TaskState.READY and node.window is not None and task.not_before > task.changed_at:
        sentence = f"Its window opens at {sentences.moment(task.not_before)}; it is sent then."
    if obstacle is not None:
        # What is only READY waits for nothing else.
        sentence = (
            obstacle.sentence if state is TaskState.READY else f"{sentence} {obstacle.sentence}"
        )
    before = task.blocked_reason
    if before and state is TaskState.DISPATCHED:
        before = f"The last time: {before}"
    awaits_time = state in (
        TaskState.FAILED_RETRYABLE,
        TaskState.OUTCOME_UNKNOWN,
        TaskState.ACCEPTED,
        # What is runnable at once waits for no time; what is sent again after a pause does.
    ) or (state is TaskState.READY and task.not_before > task.changed_at)
    until = task.not_before if awaits_time else None
    if obstacle is not None:
        until = max(obstacle.until, until or obstacle.until) if obstacle.until else None
    return Wait(
        task_id=task.pk,
        task=task.key,
        title=node.title,
        target=task.target_id,
        state=state,
        reason=f"{sentence} {before}".strip(),
        until=until,
        sends=task.sends,
        maximum_attempts=policy.maximum_attempts,
        kept_by=obstacle.kept_by if obstacle else None,
        cause=_cause(task, fit, obstacle),
        # What the engine itself holds nobody releases.
        hold_id=kept[0].pk if kept and kept[0].scope != HoldScope.CHANGE else None,
        is_of_target=bool(kept) and kept[0].scope == HoldScope.TARGET,
        others=tuple(one.fulfillment_id for one in keepers),
        names=tuple(one.name for one in keepers),
        node=task.node,
        kept_by_task=keepers[0].task_id if keepers else None,
    )


def _cause(task: Task, fit: Fitness | None, obstacle: Obstacle | None) -> Cause:
    """What is stored, unless it has come to an end since, or somebody keeps it back besides."""
    if obstacle is not None:
        return obstacle.cause
    stored = Cause(task.waits_for)
    its_time = fit is not None and task.not_before <= fit.now
    if task.state == TaskState.FAILED_RETRYABLE:
        return Cause.WINDOW if stored is Cause.WINDOW and not its_time else Cause.RETRY
    if stored in (Cause.RETRY, Cause.WINDOW, Cause.HOLD, Cause.LOCK) and its_time:
        return Cause.TARGET
    return stored


def _obstacle(
    task: Task, fit: Fitness | None, kept: Sequence[Hold], keepers: Sequence[Keeper]
) -> Obstacle | None:
    """What keeps the task from being sent, or asked for; somebody's fit goes first."""
    if kept:
        others = len(kept) - 1
        more = f" {others} more {'keeps' if others == 1 else 'keep'} it as well." if others else ""
        endless = any(hold.until is None for hold in kept)
        return Obstacle(
            kept_by=KeptBy.HOLD,
            cause=Cause.HOLD,
            sentence=held_by(kept[0]) + more,
            until=None if endless else max(hold.until for hold in kept if hold.until),
        )
    if task.waits_for_lock and task.state in TASK_SENDABLE:
        return Obstacle(
            kept_by=KeptBy.LOCK,
            cause=Cause.LOCK,
            sentence=sentences.of_lock(task.waits_for_lock, keepers),
        )
    found = fit.obstacle if fit and task.state in TASK_CLAIMABLE else None
    if fit is None or found is None or found.kept_by is KeptBy.PAUSE:
        return found
    if task.not_before <= fit.now:
        return found
    # Its time has not come; by then calls end, and only a long pause of the breaker matters.
    late = found.until is not None and found.until > task.not_before
    return found if found.kept_by is KeptBy.BREAKER and late else None
