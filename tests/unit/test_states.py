"""The state machines: every legal edge, and the refusal of every other one."""

from __future__ import annotations

from typing import Any

import pytest
from django_fsm import TransitionNotAllowed

from fulfillment.models import (
    BULK_TERMINAL,
    BulkJob,
    BulkRow,
    BulkState,
    ManualState,
    ManualTask,
    Plan,
    RowState,
    Task,
)
from fulfillment.states import (
    PLAN_SELECTABLE,
    PLAN_TERMINAL,
    TASK_CLAIMABLE,
    TASK_MOVING,
    TASK_SUCCESSFUL,
    TASK_TERMINAL,
    PlanState,
    TaskState,
)
from oms.models import (
    AmendmentRequest,
    AmendmentState,
    CancellationRequest,
    CancellationState,
    Order,
)
from oms.states import ORDER_TERMINAL, OrderState

# transition: ({where it may begin}, where it ends), as docs/states.md and the domain have it.
ORDER = {
    "validate": ({"SUBMITTED"}, "VALIDATING"),
    "reject": ({"VALIDATING"}, "REJECTED"),
    "accept": ({"VALIDATING"}, "READY_FOR_FULFILLMENT"),
    "start": ({"READY_FOR_FULFILLMENT"}, "IN_PROGRESS"),
    "complete": ({"IN_PROGRESS"}, "COMPLETED"),
    "complete_partly": ({"IN_PROGRESS"}, "PARTIALLY_COMPLETED"),
    "fail": ({"IN_PROGRESS"}, "FAILED"),
    "assess_cancellation": (
        {"SUBMITTED", "VALIDATING", "READY_FOR_FULFILLMENT", "IN_PROGRESS"},
        "ASSESSING_CANCELLATION",
    ),
    "deny_cancellation": ({"ASSESSING_CANCELLATION"}, "IN_PROGRESS"),
    "begin_cancelling": ({"ASSESSING_CANCELLATION"}, "CANCELLING"),
    "cancel": ({"CANCELLING"}, "CANCELLED"),
}
CANCELLATION = {
    "deny": ({"ASSESSING"}, "DENIED"),
    "begin_undoing": ({"ASSESSING"}, "UNDOING"),
    "finish": ({"UNDOING"}, "DONE"),
}
AMENDMENT = {
    "apply": ({"ASSESSING"}, "APPLIED"),
    "await_completion": ({"ASSESSING"}, "WAITING_FOR_COMPLETION"),
    "order_change": ({"WAITING_FOR_COMPLETION"}, "CHANGE_ORDERED"),
    "deny": ({"ASSESSING", "WAITING_FOR_COMPLETION"}, "DENIED"),
    "give_way": ({"ASSESSING", "WAITING_FOR_COMPLETION"}, "SUPERSEDED"),
}
PLAN = {
    "graph_validated": ({"CREATED"}, "READY"),
    "start": ({"READY"}, "RUNNING"),
    "block": ({"RUNNING"}, "BLOCKED"),
    "unblock": ({"BLOCKED"}, "RUNNING"),
    "complete": ({"RUNNING", "BLOCKED"}, "COMPLETED"),
    "compensate": ({"RUNNING"}, "COMPENSATING"),
    "cancel": ({"RUNNING", "BLOCKED", "COMPENSATING"}, "CANCELLED"),
    "fail": ({"RUNNING", "BLOCKED", "COMPENSATING"}, "FAILED"),
    "supersede": ({"CREATED", "READY", "RUNNING", "BLOCKED"}, "SUPERSEDED"),
}
OPEN_AFTER_DISPATCH = {
    "READY",
    "DISPATCHED",
    "ACCEPTED",
    "FAILED_RETRYABLE",
    "OUTCOME_UNKNOWN",
    "AWAITING_MANUAL",
}
TASK = {
    "make_ready": ({"PENDING"}, "READY"),
    "dispatch": ({"READY", "FAILED_RETRYABLE"}, "DISPATCHED"),
    "accept": ({"DISPATCHED", "OUTCOME_UNKNOWN"}, "ACCEPTED"),
    "succeed": (OPEN_AFTER_DISPATCH | {"PENDING"}, "SUCCEEDED"),
    "lose_track": ({"DISPATCHED", "ACCEPTED"}, "OUTCOME_UNKNOWN"),
    "send_again": ({"OUTCOME_UNKNOWN"}, "READY"),
    "retry_later": ({"DISPATCHED", "ACCEPTED", "OUTCOME_UNKNOWN"}, "FAILED_RETRYABLE"),
    "fall_back": (
        {"READY", "DISPATCHED", "ACCEPTED", "FAILED_RETRYABLE", "OUTCOME_UNKNOWN"},
        "FAILED_RETRYABLE",
    ),
    "fail": (OPEN_AFTER_DISPATCH, "FAILED_FINAL"),
    "await_manual": (OPEN_AFTER_DISPATCH | {"PENDING"}, "AWAITING_MANUAL"),
    "skip": ({"PENDING"}, "SKIPPED_BY_POLICY"),
    "conclude": ({"PENDING"}, "SUCCEEDED"),
    "begin_waiting": ({"PENDING"}, "ACCEPTED"),
    "send_back": ({"READY", "FAILED_RETRYABLE"}, "PENDING"),
    "withdraw": (
        {"PENDING", "READY", "FAILED_RETRYABLE", "ACCEPTED", "AWAITING_MANUAL"},
        "CANCELLED",
    ),
    "give_up": ({"PENDING"}, "FAILED_FINAL"),
    "reopen": ({"FAILED_FINAL"}, "PENDING"),
    "try_again": ({"FAILED_FINAL"}, "READY"),
}
NOT_DONE = {
    "PENDING",
    "READY",
    "ACCEPTED",
    "FAILED_RETRYABLE",
    "AWAITING_MANUAL",
    "FAILED_FINAL",
}
REPAIRED = (NOT_DONE | {"OUTCOME_UNKNOWN"}) - {"PENDING"}
TASK |= {
    "send_anew": (REPAIRED, "READY"),
    "confirm": (REPAIRED, "SUCCEEDED"),
    "look_again": ({"AWAITING_MANUAL"}, "PENDING"),
    "waive": (NOT_DONE, "WAIVED_BY_AUTHORIZED_USER"),
    "leave_out": (NOT_DONE, "SKIPPED_BY_POLICY"),
}
MANUAL_TO_DO = {"OPEN", "CLAIMED"}
MANUAL = {
    "claim": ({"OPEN"}, "CLAIMED"),
    "release": ({"CLAIMED"}, "OPEN"),
    "reassign": (MANUAL_TO_DO, "CLAIMED"),
    "await_customer": (MANUAL_TO_DO, "AWAITING_CUSTOMER"),
    "resume": ({"AWAITING_CUSTOMER"}, "CLAIMED"),
    "reopen": ({"AWAITING_CUSTOMER"}, "OPEN"),
    "decide": (MANUAL_TO_DO | {"AWAITING_CUSTOMER"}, "DECIDED"),
    "withdraw": (MANUAL_TO_DO | {"AWAITING_CUSTOMER"}, "WITHDRAWN"),
}
BY_HAND = ("try_again", "reopen", "send_anew", "confirm", "waive", "leave_out")
BULK_ACTIVE = {"RUNNING_CANARY", "RUNNING"}
BULK_JOB = {
    "start": ({"DRAFT"}, "RUNNING_CANARY"),
    "pause": (BULK_ACTIVE, "PAUSED"),
    "stop": (BULK_ACTIVE, "STOPPED"),
    "resume_canary": ({"PAUSED", "STOPPED"}, "RUNNING_CANARY"),
    "go_on": (BULK_ACTIVE | {"PAUSED", "STOPPED"}, "RUNNING"),
    "complete": (BULK_ACTIVE, "COMPLETED"),
    "cancel": (BULK_ACTIVE | {"DRAFT", "PAUSED", "STOPPED"}, "CANCELLED"),
}
BULK_ROW = {
    "leave_out": ({"PENDING"}, "LEFT_OUT"),
    "carry_out": ({"PENDING"}, "DONE"),
    "refuse": ({"PENDING"}, "REFUSED"),
    "fail": ({"PENDING"}, "FAILED"),
    "verify": ({"DONE"}, "VERIFIED"),
    "give_up": ({"DONE"}, "NOT_VERIFIED"),
}
MACHINES = [
    (BulkJob, BulkState, BULK_JOB),
    (BulkRow, RowState, BULK_ROW),
    (Order, OrderState, ORDER),
    (CancellationRequest, CancellationState, CANCELLATION),
    (AmendmentRequest, AmendmentState, AMENDMENT),
    (Plan, PlanState, PLAN),
    (Task, TaskState, TASK),
    (ManualTask, ManualState, MANUAL),
]
PAIRS = [
    pytest.param(model, state, name, edges, id=f"{model.__name__}-{state}-{name}")
    for model, states, edges in MACHINES
    for state in states
    for name in edges
]


@pytest.mark.parametrize(("model", "state", "name", "edges"), PAIRS)
def test_a_transition_works_where_it_is_legal_and_nowhere_else(
    model: Any, state: str, name: str, edges: dict[str, tuple[set[str], str]]
) -> None:
    sources, target = edges[name]
    row = model(state=state)
    if state in sources:
        getattr(row, name)()
        assert row.state == target
    else:
        with pytest.raises(TransitionNotAllowed):
            getattr(row, name)()
        assert row.state == state


@pytest.mark.parametrize(("model", "states", "edges"), MACHINES)
def test_there_is_no_transition_beside_the_documented_ones(
    model: Any, states: Any, edges: dict[str, Any]
) -> None:
    assert {transition.name for transition in model().get_all_state_transitions()} == set(edges)


@pytest.mark.parametrize(
    ("terminal", "edges"),
    [
        (ORDER_TERMINAL, ORDER),
        (frozenset({"DENIED", "DONE"}), CANCELLATION),
        (frozenset({"APPLIED", "DENIED", "SUPERSEDED", "CHANGE_ORDERED"}), AMENDMENT),
        (PLAN_TERMINAL, PLAN),
        (TASK_TERMINAL, TASK),
        (BULK_TERMINAL, BULK_JOB),
        (frozenset(RowState) - {"PENDING", "DONE"}, BULK_ROW),
    ],
)
def test_nothing_leads_out_of_a_final_state(
    terminal: frozenset[str], edges: dict[str, tuple[set[str], str]]
) -> None:
    by_itself = [sources for name, (sources, _) in edges.items() if name not in BY_HAND]
    assert not terminal & {source for sources in by_itself for source in sources}


def test_only_a_person_leads_out_of_a_failure_and_nobody_out_of_a_success() -> None:
    by_hand = {source for name in BY_HAND for source in TASK[name][0]}
    assert by_hand & TASK_TERMINAL == {"FAILED_FINAL"}


@pytest.mark.parametrize(("model", "states", "edges"), MACHINES)
def test_a_state_can_not_be_written_directly(model: Any, states: Any, edges: Any) -> None:
    row = model()
    before = row.state
    for state in states:
        with pytest.raises(AttributeError):
            row.state = state
    assert row.state == before


@pytest.mark.parametrize(
    ("model", "beginning"),
    [
        (Order, "SUBMITTED"),
        (CancellationRequest, "ASSESSING"),
        (AmendmentRequest, "ASSESSING"),
        (Plan, "CREATED"),
        (Task, "PENDING"),
        (BulkJob, "DRAFT"),
        (BulkRow, "PENDING"),
    ],
)
def test_a_new_row_begins_at_the_beginning(model: Any, beginning: str) -> None:
    assert model().state == beginning


def test_the_sets_of_states_fit_together() -> None:
    assert TASK_SUCCESSFUL < TASK_TERMINAL
    assert not TASK_MOVING & TASK_TERMINAL
    assert TASK_CLAIMABLE < TASK_MOVING
    assert not PLAN_SELECTABLE & PLAN_TERMINAL
    # Neither moving nor final: it waits for its dependencies, or for a person.
    assert set(TaskState) - TASK_MOVING - TASK_TERMINAL == {"PENDING", "AWAITING_MANUAL"}
