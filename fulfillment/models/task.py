"""The tasks of a plan, their states, and by which indexes the engine finds them."""

from __future__ import annotations

from django.db import models
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.hold import Hold
from fulfillment.models.plan import Plan
from fulfillment.models.target import TargetSystem
from fulfillment.states import CAUSE_LATER, TASK_RARE, TASK_SENDABLE, TASK_TIMED, Cause, TaskState

# Where a definitive outcome may find a task, whichever attempt brings it (truth-over-fencing).
_OPEN_AFTER_DISPATCH = [
    TaskState.READY,
    TaskState.DISPATCHED,
    TaskState.ACCEPTED,
    TaskState.FAILED_RETRYABLE,
    TaskState.OUTCOME_UNKNOWN,
    TaskState.AWAITING_MANUAL,
]
_BY_HAND = [
    TaskState.READY,
    TaskState.ACCEPTED,
    TaskState.FAILED_RETRYABLE,
    TaskState.OUTCOME_UNKNOWN,
    TaskState.AWAITING_MANUAL,
    TaskState.FAILED_FINAL,
]
_NOT_DONE = [
    TaskState.PENDING,
    TaskState.READY,
    TaskState.ACCEPTED,
    TaskState.FAILED_RETRYABLE,
    TaskState.AWAITING_MANUAL,
    TaskState.FAILED_FINAL,
]


class Task(StatefulModel):
    """One node of a plan (reference §6).

    Forward: PENDING → READY → DISPATCHED → ACCEPTED → SUCCEEDED. Beside the way:
    FAILED_RETRYABLE waits for its next attempt, OUTCOME_UNKNOWN is reconciled before anything
    else, AWAITING_MANUAL waits for a person. `not_before` is when the engine next looks at it:
    the earliest claim, or for ACCEPTED the time by which the target must have reported.
    """

    has_moved_when_stored = True

    # The constraint below begins with it. (What it refers to: see `Transition.fulfillment`.)
    plan = models.ForeignKey(
        Plan, models.PROTECT, related_name="tasks", db_constraint=False, db_index=False
    )
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
    state = StateField(default=TaskState.PENDING, choices=[(s, s) for s in TaskState])
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
    rank = models.BigIntegerField(default=0, db_default=0)
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
    locks = models.JSONField(
        null=True, blank=True, help_text="What it has to lock before it is sent: name, units."
    )
    limits = models.JSONField(
        null=True, blank=True, help_text="Clocks that were computed for it: name, seconds."
    )
    waits_for = models.CharField(
        max_length=20,
        blank=True,
        default=Cause.DEPENDENCY,
        db_default="",
        help_text="The one reason why it waits, as decided last.",
    )
    waits_for_lock = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="The lock that a claim has met; until then it is out of the way.",
    )
    start_by = models.DateTimeField(
        null=True, blank=True, help_text="By when its first send has to begin."
    )
    close_by = models.DateTimeField(
        null=True, blank=True, help_text="By when it has to end, however often it is tried."
    )
    late_since = models.DateTimeField(
        null=True, blank=True, help_text="It should have ended by then; what follows has begun."
    )
    stopped_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when these clocks stand still."
    )
    stopped_by = models.ForeignKey(
        Hold,
        models.PROTECT,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
        help_text="The hold that stops them.",
    )
    report_by = models.DateTimeField(
        null=True, blank=True, help_text="By when its last send has to have a result."
    )
    heard_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When its last send was alive last, by the target system's clock if it tells.",
    )
    progress = models.JSONField(
        null=True,
        blank=True,
        help_text="How far the target system came, by its own account; told to it with the next "
        "send.",
    )
    outputs = models.JSONField(null=True, blank=True)
    correction = models.JSONField(
        null=True,
        blank=True,
        help_text="By hand: how its payload differs from what its workflow makes.",
    )
    reference = models.CharField(max_length=200, blank=True, default="")
    blocked_reason = models.TextField(blank=True, default="")
    began_at = models.DateTimeField(
        null=True, blank=True, help_text="When nothing before it was missing any more."
    )
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
                "rank",
                "depth",
                "id",
                condition=models.Q(
                    state__in=sorted(TASK_SENDABLE), held_by__isnull=True, waits_for_lock=""
                )
                & ~models.Q(waits_for__in=sorted(CAUSE_LATER)),
                name="task_claim_order",
            ),
            # What is sent later, by when.
            models.Index(
                fields=["target", "not_before"],
                condition=models.Q(
                    state__in=sorted(TASK_SENDABLE),
                    held_by__isnull=True,
                    waits_for_lock="",
                    waits_for__in=sorted(CAUSE_LATER),
                ),
                name="task_later",
            ),
            # A lock that is free again: whose turn it is.
            models.Index(
                "waits_for_lock",
                "target",
                models.F("priority").desc(),
                "rank",
                "depth",
                "id",
                condition=~models.Q(waits_for_lock=""),
                name="task_lock_order",
            ),
            # The reconciliation: whoever has waited longest is asked for first.
            models.Index(
                fields=["target", "not_before"],
                condition=models.Q(state=TaskState.OUTCOME_UNKNOWN),
                name="task_reconcile_order",
            ),
            # Lists of tasks in a state that few are in. What goes well pays for none of it.
            models.Index(
                "state",
                models.F("id").desc(),
                condition=models.Q(state__in=sorted(TASK_RARE)),
                name="task_by_rare_state",
            ),
            # What waits for what. Those before their turn are found by their plans.
            models.Index(
                fields=["waits_for", "changed_at"],
                condition=~models.Q(waits_for__in=["", Cause.DEPENDENCY]),
                name="task_by_cause",
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
            # The sweeper: what should have been sent, or have ended, by now.
            models.Index(
                fields=["start_by"],
                condition=models.Q(
                    state__in=sorted(TASK_SENDABLE),
                    start_by__isnull=False,
                    stopped_at__isnull=True,
                ),
                name="task_start_due",
            ),
            models.Index(
                fields=["close_by"],
                condition=models.Q(
                    state__in=sorted(TASK_TIMED), close_by__isnull=False, stopped_at__isnull=True
                ),
                name="task_close_due",
            ),
            # A released hold: the clocks that it has stopped.
            models.Index(
                fields=["stopped_by"],
                condition=models.Q(stopped_by__isnull=False),
                name="task_stopped",
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
        source=[
            TaskState.PENDING,
            TaskState.READY,
            TaskState.FAILED_RETRYABLE,
            TaskState.ACCEPTED,
            TaskState.AWAITING_MANUAL,
        ],
        target=TaskState.CANCELLED,
    )
    def withdraw(self) -> None:
        """Another plan takes the place of its own, or its order is given up, and it has had no
        effect. ACCEPTED is what only waited."""

    @transition(field=state, source=TaskState.PENDING, target=TaskState.FAILED_FINAL)
    def give_up(self) -> None:
        """More of a fan-out has failed than may."""

    @transition(field=state, source=TaskState.FAILED_FINAL, target=TaskState.PENDING)
    def reopen(self) -> None:
        """By hand: what it waited for is tried again."""

    @transition(field=state, source=TaskState.FAILED_FINAL, target=TaskState.READY)
    def try_again(self) -> None:
        """By hand: known to have had no effect, so it is sent anew."""

    @transition(field=state, source=_BY_HAND, target=TaskState.READY)
    def send_anew(self) -> None:
        """By hand: another command takes the place of one that is known to have had no effect."""

    @transition(field=state, source=_BY_HAND, target=TaskState.SUCCEEDED)
    def confirm(self) -> None:
        """By hand: somebody has found out that it was done, and what came of it."""

    @transition(field=state, source=TaskState.AWAITING_MANUAL, target=TaskState.PENDING)
    def look_again(self) -> None:
        """By hand: what kept it from beginning is mended, so it is told anew whether it may."""

    @transition(field=state, source=_NOT_DONE, target=TaskState.WAIVED_BY_AUTHORIZED_USER)
    def waive(self) -> None:
        """By hand: it would be needed, and somebody answers for its not being done. ACCEPTED is
        what only waits."""

    @transition(field=state, source=_NOT_DONE, target=TaskState.SKIPPED_BY_POLICY)
    def leave_out(self) -> None:
        """By hand: this order does not need it. ACCEPTED is what only waits."""
