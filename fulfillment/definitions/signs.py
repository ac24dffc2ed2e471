"""How states look: a sign and a tone each, beside the word, so that nothing is told by colour
alone."""

from __future__ import annotations

from collections.abc import Mapping

from fulfillment.states import PlanState, TaskState

Sign = tuple[str, str]
"""The sign, and the tone: waiting, moving, trouble, done or failed."""

TASK_SIGNS: Mapping[TaskState, Sign] = {
    TaskState.PENDING: ("○", "waiting"),
    TaskState.READY: ("◔", "moving"),
    TaskState.DISPATCHED: ("◑", "moving"),
    TaskState.ACCEPTED: ("◕", "moving"),
    TaskState.FAILED_RETRYABLE: ("↻", "trouble"),
    TaskState.OUTCOME_UNKNOWN: ("?", "trouble"),
    TaskState.AWAITING_MANUAL: ("☞", "trouble"),
    TaskState.SUCCEEDED: ("✓", "done"),
    TaskState.SKIPPED_BY_POLICY: ("↷", "done"),
    TaskState.WAIVED_BY_AUTHORIZED_USER: ("✎", "done"),
    TaskState.CANCELLED: ("⊘", "failed"),
    TaskState.FAILED_FINAL: ("✗", "failed"),
}
PLAN_SIGNS: Mapping[PlanState, Sign] = {
    PlanState.CREATED: ("○", "waiting"),
    PlanState.READY: ("◔", "waiting"),
    PlanState.RUNNING: ("▶", "moving"),
    PlanState.BLOCKED: ("■", "trouble"),
    PlanState.COMPENSATING: ("↶", "moving"),
    PlanState.COMPLETED: ("✓", "done"),
    PlanState.FAILED: ("✗", "failed"),
    PlanState.CANCELLED: ("⊘", "failed"),
    PlanState.SUPERSEDED: ("⇢", "waiting"),
}


def in_words(state: str) -> str:
    """OUTCOME_UNKNOWN → outcome unknown."""
    return state.replace("_", " ").lower()
