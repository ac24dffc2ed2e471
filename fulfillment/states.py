"""The words for plan and task states, and the sets of them that rules are written in.

Source: reference §5, §6; the shared vocabulary is described in docs/states.md.
"""

from __future__ import annotations

import enum


class PlanState(enum.StrEnum):
    CREATED = "CREATED"
    READY = "READY"
    RUNNING = "RUNNING"
    BLOCKED = "BLOCKED"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"


class TaskState(enum.StrEnum):
    PENDING = "PENDING"
    READY = "READY"
    DISPATCHED = "DISPATCHED"
    ACCEPTED = "ACCEPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED_RETRYABLE = "FAILED_RETRYABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    AWAITING_MANUAL = "AWAITING_MANUAL"
    SKIPPED_BY_POLICY = "SKIPPED_BY_POLICY"
    WAIVED_BY_AUTHORIZED_USER = "WAIVED_BY_AUTHORIZED_USER"
    CANCELLED = "CANCELLED"
    FAILED_FINAL = "FAILED_FINAL"


class Cause(enum.StrEnum):
    """Why a task waits; one at a time, stored by the code that decides it."""

    NONE = ""
    """It has ended."""
    DEPENDENCY = "DEPENDENCY"
    """Other tasks of its plan come first."""
    TIME = "TIME"
    WINDOW = "WINDOW"
    """It may be sent at other hours."""
    MILESTONE = "MILESTONE"
    OTHER_ORDER = "OTHER_ORDER"
    """A milestone of another order."""
    SIGNAL = "SIGNAL"
    TARGET = "TARGET"
    """Its target system takes no more at the moment, or it is about to be sent."""
    PAUSED = "PAUSED"
    """Its target system is: told from the target's own row, as the three below."""
    BREAKER = "BREAKER"
    RATE = "RATE"
    CAPACITY = "CAPACITY"
    LOCK = "LOCK"
    HOLD = "HOLD"
    CALL = "CALL"
    """It is on the wire."""
    REPORT = "REPORT"
    """The target system works on it and will report."""
    RETRY = "RETRY"
    UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"
    HUMAN = "HUMAN"
    """Somebody has to decide, as its workflow says."""
    CUSTOMER = "CUSTOMER"
    """The customer is awaited: a wait or a decision that stops what was promised."""
    REPAIR = "REPAIR"
    """It can't go on by itself."""


class Breaker(enum.StrEnum):
    """The circuit breaker of a target system (reference §12.2)."""

    CLOSED = "CLOSED"
    """All calls go through."""
    OPEN = "OPEN"
    """Nothing is sent for a while."""
    HALF_OPEN = "HALF_OPEN"
    """Probes go through, one at a time."""


class Domain(enum.StrEnum):
    """What kind of system a target is; what is at stake there."""

    BILLING = "billing"
    PAYMENT = "payment"
    PROVISIONING = "provisioning"
    LOGISTICS = "logistics"
    INVENTORY = "inventory"
    CUSTOMER = "customer"
    OTHER = "other"


PLAN_TERMINAL = frozenset(
    {PlanState.COMPLETED, PlanState.FAILED, PlanState.CANCELLED, PlanState.SUPERSEDED}
)
PLAN_GOING_ON = frozenset({PlanState.RUNNING, PlanState.BLOCKED})
"""States of a plan that still fulfils its order."""
PLAN_SELECTABLE = PLAN_GOING_ON | {PlanState.COMPENSATING}
"""Selection treats BLOCKED like RUNNING, so that a healthy branch is never stopped. What is being
undone runs like everything else."""

TASK_SUCCESSFUL = frozenset(
    {TaskState.SUCCEEDED, TaskState.SKIPPED_BY_POLICY, TaskState.WAIVED_BY_AUTHORIZED_USER}
)
TASK_TERMINAL = TASK_SUCCESSFUL | {TaskState.CANCELLED, TaskState.FAILED_FINAL}
TASK_MOVING = frozenset(
    {
        TaskState.READY,
        TaskState.DISPATCHED,
        TaskState.ACCEPTED,
        TaskState.FAILED_RETRYABLE,
        TaskState.OUTCOME_UNKNOWN,
    }
)
"""States that the engine itself will leave; a plan with none of them waits for help."""

TASK_AWAITED = frozenset(
    {
        TaskState.DISPATCHED,
        TaskState.ACCEPTED,
        TaskState.OUTCOME_UNKNOWN,
        TaskState.AWAITING_MANUAL,
    }
)
"""States whose end may be what a plan that is to be given up or changed waits for."""

TASK_SENDABLE = frozenset({TaskState.READY, TaskState.FAILED_RETRYABLE})
"""States that a worker may claim to send, once `not_before` has passed."""

TASK_TIMED = TASK_MOVING - {TaskState.DISPATCHED}
"""States in which a task's time may be up; the call that is under way has a deadline of its own."""

CAUSE_LATER = frozenset({Cause.RETRY, Cause.WINDOW})
"""What waits for a time of its own is out of the claim's way, until a claim finds that it has
come: nobody reads through those whose time has not."""

TASK_CLAIMABLE = TASK_SENDABLE | {TaskState.OUTCOME_UNKNOWN}
"""States that a worker may claim at all: to send, or to ask what became of it."""
TASK_RARE = frozenset(TaskState) - {
    *(TaskState.PENDING, TaskState.READY, TaskState.DISPATCHED, TaskState.SUCCEEDED)
}
"""States off the way that most tasks go: few are in each, and lists of them are looked at."""
