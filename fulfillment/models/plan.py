"""The fulfillment of one order, its plans and their tasks."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django_fsm import FSMField, transition

from fulfillment.models.base import StatefulModel, states_constraint
from fulfillment.models.hold import Hold
from fulfillment.models.target import TargetSystem
from fulfillment.models.workflow import PlanGraph
from fulfillment.states import PLAN_TERMINAL, TASK_SENDABLE, PlanState, TaskState

# Where a definitive outcome may find a task, whichever attempt brings it (truth-over-fencing).
_OPEN_AFTER_DISPATCH = [
    TaskState.READY,
    TaskState.DISPATCHED,
    TaskState.ACCEPTED,
    TaskState.FAILED_RETRYABLE,
    TaskState.OUTCOME_UNKNOWN,
    TaskState.AWAITING_MANUAL,
]


class Fulfillment(models.Model):
    """One row per order: the row that every change of the order's plans locks first.

    It knows the order only by an opaque reference, and carries the head of the audit chain.
    """

    order_reference = models.CharField(max_length=64, unique=True)
    correlation_id = models.CharField(max_length=64)
    priority = models.SmallIntegerField(default=0)
    customer = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="Opaque; holds may name it.",
    )
    business_key = models.CharField(
        max_length=220,
        blank=True,
        default="",
        db_default="",
        help_text="By which other orders may name it; opaque.",
    )
    audit_sequence = models.IntegerField(default=0)
    audit_head = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.order_reference


class Plan(StatefulModel):
    """The frozen task graph of one order version, and how far it got.

    CREATED → READY → RUNNING ⇄ BLOCKED → COMPLETED; COMPENSATING, FAILED, CANCELLED and
    SUPERSEDED are entered by operations that undo or replace a plan (reference §5).
    """

    fulfillment = models.ForeignKey(Fulfillment, models.PROTECT, related_name="plans")
    order_version = models.PositiveIntegerField()
    version = models.PositiveIntegerField(default=1)
    state = FSMField(default=PlanState.CREATED, choices=[(s, s) for s in PlanState], protected=True)
    graph = models.ForeignKey(PlanGraph, models.PROTECT, related_name="plans")
    context = models.JSONField(help_text="The order as it was when the plan was made.")
    tasks_total = models.PositiveIntegerField()
    tasks_open = models.PositiveIntegerField(help_text="Tasks that are not terminal.")
    mandatory_total = models.PositiveIntegerField()
    mandatory_open = models.PositiveIntegerField()
    moving = models.PositiveIntegerField(
        default=0, help_text="Tasks in a state that the engine will leave by itself."
    )
    selection_due_at = models.DateTimeField(null=True, blank=True)
    blocked_reason = models.TextField(blank=True, default="")
    stalls_after = models.DurationField(default=timedelta(minutes=15))
    last_progress_at = models.DateTimeField()
    patient_until = models.DateTimeField(
        db_default=Now(),
        help_text="Until then the detector leaves it alone; it looks itself whether there is "
        "more time. What moves or blocks the plan sets it anew.",
    )
    stuck_at = models.DateTimeField(null=True, blank=True)
    stuck_reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            states_constraint(states=PlanState, name="plan_state_is_legal"),
            models.UniqueConstraint(
                fields=["fulfillment"],
                condition=~models.Q(state__in=sorted(PLAN_TERMINAL)),
                name="one_active_plan",
            ),
            models.UniqueConstraint(
                fields=["fulfillment", "order_version", "version"], name="one_plan_per_version"
            ),
            models.CheckConstraint(
                condition=~models.Q(state=PlanState.COMPLETED) | models.Q(mandatory_open=0),
                name="order_completes_on_evidence",
            ),
        ]
        indexes = [
            # The scanner: plans in which a selection is due.
            models.Index(
                fields=["selection_due_at"],
                condition=models.Q(selection_due_at__isnull=False),
                name="plan_selection_due",
            ),
            # What the detector has flagged: a handful among all plans.
            models.Index(
                fields=["stuck_at"], condition=models.Q(stuck_at__isnull=False), name="plan_stuck"
            ),
            # The stuck-order detector: active plans by when it next has to look at them.
            models.Index(
                fields=["patient_until"],
                condition=~models.Q(state__in=sorted(PLAN_TERMINAL))
                & models.Q(stuck_at__isnull=True),
                name="plan_patience",
            ),
        ]

    def __str__(self) -> str:
        return f"plan {self.pk}"

    @transition(field=state, source=PlanState.CREATED, target=PlanState.READY)
    def graph_validated(self) -> None:
        """The graph has no faults."""

    @transition(field=state, source=PlanState.READY, target=PlanState.RUNNING)
    def start(self) -> None:
        """Its tasks may be selected from now on."""

    @transition(field=state, source=PlanState.RUNNING, target=PlanState.BLOCKED)
    def block(self) -> None:
        """Nothing can move before somebody has helped, or decided."""

    @transition(field=state, source=PlanState.BLOCKED, target=PlanState.RUNNING)
    def unblock(self) -> None:
        """Something moves again."""

    @transition(
        field=state, source=[PlanState.RUNNING, PlanState.BLOCKED], target=PlanState.COMPLETED
    )
    def complete(self) -> None:
        """Every mandatory task is terminal successful and nothing is under way."""

    @transition(
        field=state,
        source=[PlanState.CREATED, PlanState.READY, PlanState.RUNNING, PlanState.BLOCKED],
        target=PlanState.SUPERSEDED,
    )
    def supersede(self) -> None:
        """Another plan takes its place; nothing of it is sent any more."""


class Task(StatefulModel):
    """One node of a plan (reference §6).

    Forward: PENDING → READY → DISPATCHED → ACCEPTED → SUCCEEDED. Beside the way:
    FAILED_RETRYABLE waits for its next attempt, OUTCOME_UNKNOWN is reconciled before anything
    else, AWAITING_MANUAL waits for a person. `not_before` is when the engine next looks at it:
    the earliest claim, or for ACCEPTED the time by which the target must have reported.
    """

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="tasks")
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    node = models.PositiveIntegerField(help_text="Position in the plan's graph.")
    element = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Within a fan-out the number of its element, from 1."
    )
    round = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text="0: this one counts. From 1: what it returned has expired, and its successor "
        "at the same place counts.",
    )
    key = models.CharField(max_length=200)
    state = FSMField(default=TaskState.PENDING, choices=[(s, s) for s in TaskState], protected=True)
    # Empty, and no row's name, for what the engine or a person does.
    target = models.ForeignKey(TargetSystem, models.PROTECT, db_constraint=False, db_index=False)
    route = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="0 as planned; else which of its fallbacks is used."
    )
    awaits = models.CharField(
        max_length=320,
        blank=True,
        default="",
        db_default="",
        help_text="What has to be reported: the name and the subject of a signal.",
    )
    priority = models.SmallIntegerField(default=0)
    depth = models.PositiveIntegerField()
    required = models.BooleanField()
    not_before = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    sends = models.PositiveIntegerField(default=0)
    unanswered_queries = models.PositiveIntegerField(default=0)
    # The database's own defaults let processes of the release before go on meanwhile.
    lost_leases = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Workers in a row that went away with it."
    )
    held_by = models.ForeignKey(
        Hold,
        models.PROTECT,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        help_text="The hold that a claim has met; it is out of the workers' way until then.",
    )
    outputs = models.JSONField(null=True, blank=True)
    reference = models.CharField(max_length=200, blank=True, default="")
    blocked_reason = models.TextField(blank=True, default="")
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            states_constraint(states=TaskState, name="task_state_is_legal"),
            models.UniqueConstraint(
                fields=["plan", "node", "element", "round"], name="one_task_per_node"
            ),
        ]
        indexes = [
            # The claim: deterministic-selection within one target.
            models.Index(
                "target",
                models.F("priority").desc(),
                "depth",
                "id",
                condition=models.Q(state__in=sorted(TASK_SENDABLE), held_by__isnull=True),
                name="task_claim_order",
            ),
            # The reconciliation: whoever has waited longest is asked for first.
            models.Index(
                fields=["target", "not_before"],
                condition=models.Q(state=TaskState.OUTCOME_UNKNOWN),
                name="task_reconcile_order",
            ),
            # A released hold: the tasks that waited for it.
            models.Index(
                fields=["held_by"],
                condition=models.Q(held_by__isnull=False),
                name="task_held",
            ),
            # Accepted work of a target: what holds a slot, and what a report may be about.
            models.Index(
                fields=["target", "not_before"],
                condition=models.Q(state=TaskState.ACCEPTED),
                name="task_accepted",
            ),
            # A signal: the tasks that wait for it.
            models.Index(
                fields=["awaits"],
                condition=models.Q(state__in=[TaskState.ACCEPTED, TaskState.AWAITING_MANUAL])
                & ~models.Q(awaits=""),
                name="task_awaits",
            ),
            # The sweeper: accepted tasks whose report is overdue.
            models.Index(
                fields=["not_before"],
                condition=models.Q(state=TaskState.ACCEPTED),
                name="task_report_due",
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @transition(field=state, source=TaskState.PENDING, target=TaskState.READY)
    def make_ready(self) -> None:
        """Everything it waited for is there; its command is written in the same unit."""

    @transition(
        field=state,
        source=[TaskState.READY, TaskState.FAILED_RETRYABLE],
        target=TaskState.DISPATCHED,
    )
    def dispatch(self) -> None:
        """Claimed; from the commit on it may be on the wire."""

    @transition(
        field=state,
        source=[TaskState.DISPATCHED, TaskState.OUTCOME_UNKNOWN],
        target=TaskState.ACCEPTED,
    )
    def accept(self) -> None:
        """The target has it and will report."""

    @transition(
        field=state,
        source=[*_OPEN_AFTER_DISPATCH, TaskState.PENDING],
        target=TaskState.SUCCEEDED,
    )
    def succeed(self) -> None:
        """The target confirmed the effect; also of what was sent back meanwhile."""

    @transition(
        field=state,
        source=[TaskState.DISPATCHED, TaskState.ACCEPTED],
        target=TaskState.OUTCOME_UNKNOWN,
    )
    def lose_track(self) -> None:
        """Whether the effect happened is not known."""

    @transition(field=state, source=TaskState.OUTCOME_UNKNOWN, target=TaskState.READY)
    def send_again(self) -> None:
        """Sending the same key once more is safe: no effect, or the target deduplicates."""

    @transition(
        field=state,
        source=[TaskState.DISPATCHED, TaskState.ACCEPTED, TaskState.OUTCOME_UNKNOWN],
        target=TaskState.FAILED_RETRYABLE,
    )
    def retry_later(self) -> None:
        """Known to have had no effect; waits for its next attempt."""

    @transition(
        field=state,
        source=[
            TaskState.READY,
            TaskState.DISPATCHED,
            TaskState.ACCEPTED,
            TaskState.FAILED_RETRYABLE,
            TaskState.OUTCOME_UNKNOWN,
        ],
        target=TaskState.FAILED_RETRYABLE,
    )
    def fall_back(self) -> None:
        """Known to have had no effect, and never to have one: another way is tried."""

    @transition(field=state, source=_OPEN_AFTER_DISPATCH, target=TaskState.FAILED_FINAL)
    def fail(self) -> None:
        """Known to have had no effect, and no further attempt makes sense."""

    @transition(
        field=state,
        source=[
            TaskState.PENDING,
            TaskState.READY,
            TaskState.DISPATCHED,
            TaskState.ACCEPTED,
            TaskState.FAILED_RETRYABLE,
            TaskState.OUTCOME_UNKNOWN,
            TaskState.AWAITING_MANUAL,
        ],
        target=TaskState.AWAITING_MANUAL,
    )
    def await_manual(self) -> None:
        """Only a person can tell, or decide, how it goes on."""

    @transition(field=state, source=TaskState.PENDING, target=TaskState.SKIPPED_BY_POLICY)
    def skip(self) -> None:
        """Its condition does not hold; or it is optional, and what it needs will never be there."""

    @transition(field=state, source=TaskState.PENDING, target=TaskState.SUCCEEDED)
    def conclude(self) -> None:
        """The engine has done it itself: a decision, a fan-out, the frame of a sub-process."""

    @transition(field=state, source=TaskState.PENDING, target=TaskState.ACCEPTED)
    def begin_waiting(self) -> None:
        """From now on a report, or its time, ends it."""

    @transition(
        field=state,
        source=[TaskState.READY, TaskState.FAILED_RETRYABLE],
        target=TaskState.PENDING,
    )
    def send_back(self) -> None:
        """A value that it uses has expired before it was sent; it waits for a fresh one."""

    @transition(
        field=state,
        source=[TaskState.PENDING, TaskState.READY, TaskState.AWAITING_MANUAL],
        target=TaskState.CANCELLED,
    )
    def withdraw(self) -> None:
        """Another plan has taken the place of its own before it had begun."""

    @transition(field=state, source=TaskState.PENDING, target=TaskState.FAILED_FINAL)
    def give_up(self) -> None:
        """More of a fan-out has failed than may."""

    @transition(field=state, source=TaskState.FAILED_FINAL, target=TaskState.PENDING)
    def reopen(self) -> None:
        """By hand: what it waited for is tried again."""

    @transition(field=state, source=TaskState.FAILED_FINAL, target=TaskState.READY)
    def try_again(self) -> None:
        """By hand: known to have had no effect, so it is sent anew."""
