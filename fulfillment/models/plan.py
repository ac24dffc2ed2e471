"""The plans of a fulfillment: which graph runs, and how far it is."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.hold import Hold
from fulfillment.models.workflow import PlanGraph
from fulfillment.states import PLAN_TERMINAL, PlanState


class Plan(StatefulModel):
    """The frozen task graph of one order version, and how far it got.

    CREATED → READY → RUNNING ⇄ BLOCKED → COMPLETED; COMPENSATING, FAILED, CANCELLED and
    SUPERSEDED are entered by operations that undo or replace a plan (reference §5).
    """

    has_moved_when_stored = True

    fulfillment = models.ForeignKey(Fulfillment, models.PROTECT, related_name="plans")
    order_version = models.PositiveIntegerField()
    version = models.PositiveIntegerField(default=1)
    state = StateField(default=PlanState.CREATED, choices=[(s, s) for s in PlanState])
    graph = models.ForeignKey(PlanGraph, models.PROTECT, related_name="plans")
    context = models.JSONField(help_text="The order as it was when the plan was made.")
    tasks_total = models.PositiveIntegerField()
    tasks_open = models.PositiveIntegerField(help_text="Tasks that are not terminal.")
    mandatory_total = models.PositiveIntegerField()
    mandatory_open = models.PositiveIntegerField()
    moving = models.PositiveIntegerField(
        default=0, help_text="Tasks in a state that the engine will leave by itself."
    )
    locks = models.JSONField(
        null=True, blank=True, help_text="What it keeps locked from its first command on."
    )
    is_locked = models.BooleanField(default=False, db_default=False)
    selection_due_at = models.DateTimeField(null=True, blank=True)
    blocked_reason = models.TextField(blank=True, default="")
    due_at = models.DateTimeField(null=True, blank=True, help_text="As the customer was promised.")
    look_at = models.DateTimeField(
        null=True, blank=True, help_text="Before then it can't be in jeopardy."
    )
    at_risk_since = models.DateTimeField(null=True, blank=True)
    estimated_at = models.DateTimeField(
        null=True, blank=True, help_text="When it will be done, as estimated last."
    )
    stalls_after = models.DurationField(default=timedelta(minutes=15))
    last_progress_at = models.DateTimeField()
    patient_until = models.DateTimeField(
        db_default=Now(),
        help_text="Until then the detector leaves it alone; it looks itself whether there is "
        "more time. What moves or blocks the plan sets it anew.",
    )
    stuck_at = models.DateTimeField(null=True, blank=True)
    stuck_reason = models.TextField(blank=True, default="")
    finish_by = models.DateTimeField(
        null=True, blank=True, help_text="Its deadline; a person is told when that passes."
    )
    late_since = models.DateTimeField(
        null=True, blank=True, help_text="Its deadline has passed, and a person was told."
    )
    stopped_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when its deadline stands still."
    )
    stopped_by = models.ForeignKey(
        Hold,
        models.PROTECT,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
        help_text="The hold that stops it; empty: a wait for the customer.",
    )
    giving_up = models.TextField(
        blank=True, default="", db_default="", help_text="Why all of it is undone, once it rests."
    )
    giving_up_what = models.JSONField(
        null=True, blank=True, help_text="What of it, if not all; see engine.plans.withholding."
    )
    rest_due_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When it is next looked whether nothing of it is under way any more; empty: "
        "nobody waits for that.",
    )
    case_due_at = models.DateTimeField(
        db_default=Now(),
        help_text="When the detector next makes sure that what is stuck has a case.",
    )
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
            # Jeopardy: plans whose estimate may have become later than what was promised.
            models.Index(
                fields=["look_at"], condition=models.Q(look_at__isnull=False), name="plan_look"
            ),
            models.Index(
                fields=["at_risk_since"],
                condition=models.Q(at_risk_since__isnull=False),
                name="plan_in_jeopardy",
            ),
            # What the detector has flagged, by when it next makes sure that there is a case.
            models.Index(
                fields=["case_due_at"],
                condition=models.Q(stuck_at__isnull=False),
                name="plan_stuck",
            ),
            # How many are stuck, and for how long.
            models.Index(
                fields=["stuck_at"],
                condition=models.Q(stuck_at__isnull=False)
                & ~models.Q(state__in=sorted(PLAN_TERMINAL)),
                name="plan_stuck_since",
            ),
            # The stuck-order detector: active plans by when it next has to look at them.
            models.Index(
                fields=["patient_until"],
                condition=~models.Q(state__in=sorted(PLAN_TERMINAL))
                & models.Q(stuck_at__isnull=True),
                name="plan_patience",
            ),
            # The sweeper: plans whose deadline has passed.
            models.Index(
                fields=["finish_by"],
                condition=models.Q(finish_by__isnull=False, stopped_at__isnull=True)
                & ~models.Q(state__in=sorted(PLAN_TERMINAL)),
                name="plan_deadline",
            ),
            # What runs on a version of a workflow: plans that are not over, by their shape.
            models.Index(
                fields=["graph", "-id"],
                condition=~models.Q(state__in=sorted(PLAN_TERMINAL)),
                name="plan_under_way",
            ),
            # What is to be given up or changed as soon as nothing of it is under way.
            models.Index(
                fields=["rest_due_at"],
                condition=models.Q(rest_due_at__isnull=False)
                & ~models.Q(state__in=sorted(PLAN_TERMINAL)),
                name="plan_rest_due",
            ),
            # A released hold: the deadlines that it has stopped.
            models.Index(
                fields=["stopped_by"],
                condition=models.Q(stopped_by__isnull=False),
                name="plan_stopped",
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

    @transition(field=state, source=PlanState.RUNNING, target=PlanState.COMPENSATING)
    def compensate(self) -> None:
        """It holds nothing but what has to be undone."""

    @transition(
        field=state,
        source=[PlanState.RUNNING, PlanState.BLOCKED, PlanState.COMPENSATING],
        target=PlanState.CANCELLED,
    )
    def cancel(self) -> None:
        """Everything that had to be undone has been, because its order was cancelled."""

    @transition(
        field=state,
        source=[PlanState.RUNNING, PlanState.BLOCKED, PlanState.COMPENSATING],
        target=PlanState.FAILED,
    )
    def fail(self) -> None:
        """Everything that had to be undone has been, because it could not be completed."""

    @transition(
        field=state,
        source=[PlanState.CREATED, PlanState.READY, PlanState.RUNNING, PlanState.BLOCKED],
        target=PlanState.SUPERSEDED,
    )
    def supersede(self) -> None:
        """Another plan takes its place; nothing of it is sent any more."""
