"""Why a task waits, as its last change of state decides it; holds and locks say so themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fulfillment.models import Task
from fulfillment.states import Cause, TaskState

_BY_STATE: Mapping[TaskState, Cause] = {
    TaskState.PENDING: Cause.DEPENDENCY,
    TaskState.DISPATCHED: Cause.CALL,
    TaskState.FAILED_RETRYABLE: Cause.RETRY,
    TaskState.OUTCOME_UNKNOWN: Cause.UNKNOWN_OUTCOME,
    TaskState.AWAITING_MANUAL: Cause.REPAIR,
}


def cause_of(task: Task, *, before: TaskState, now: datetime) -> Cause:
    """From the task as it is about to be written, and the state it comes from."""
    state = TaskState(task.state)
    if state is TaskState.READY:
        if task.not_before <= now:
            return Cause.TARGET
        # Sent again after a pause; for whatever begins, or begins anew, only a window is shut.
        return Cause.RETRY if before is TaskState.OUTCOME_UNKNOWN else Cause.WINDOW
    if state is TaskState.ACCEPTED:
        if task.target_id:
            return Cause.REPORT
        if not task.awaits:
            return Cause.TIME
        about = task.awaits.partition(" ")[2]
        return Cause.MILESTONE if about.startswith("order:") else Cause.SIGNAL
    if state in (TaskState.FAILED_FINAL, TaskState.CANCELLED):
        return Cause.REPAIR if task.required else Cause.NONE
    return _BY_STATE.get(state, Cause.NONE)
