"""One operation over many subjects: frozen, foreseen, begun with a few, stopped when it fails."""

from __future__ import annotations

import enum
from datetime import timedelta

from django.conf import settings
from django.db import models
from django_fsm import transition

from fulfillment.models.authority import Approval
from fulfillment.models.base import StateField, StatefulModel, states_constraint
from fulfillment.models.incident import Incident
from fulfillment.models.operation import Operation


class BulkState(enum.StrEnum):
    DRAFT = "DRAFT"
    """Its rows are frozen, and each is looked at: what would it do?"""
    RUNNING_CANARY = "RUNNING_CANARY"
    """The first few are done, and it waits until it is known what came of them."""
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """A stage is over, or somebody has stopped it for now; somebody lets it go on."""
    STOPPED = "STOPPED"
    """Too many have failed."""
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


BULK_RUNNING = frozenset({BulkState.RUNNING_CANARY, BulkState.RUNNING})
BULK_TERMINAL = frozenset({BulkState.COMPLETED, BulkState.CANCELLED})


class BulkJob(StatefulModel):
    """What is to be done, to what, in which stages, and when it is to stop.

    Its rows are chosen once: what matches later does not join. It is done with the authority of
    whoever has asked for it, which is asked for again while it runs.
    """

    action = models.CharField(max_length=60)
    parameters = models.JSONField(default=dict)
    reason = models.TextField()
    evidence = models.TextField(blank=True, default="")
    selection = models.JSONField(help_text="How its rows were chosen: kept for the record.")
    digest = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="Of what is done, to what, as it was looked at; empty: not looked at yet.",
    )
    state = StateField(default=BulkState.DRAFT, choices=[(s, s) for s in BulkState])
    state_reason = models.TextField(blank=True, default="")
    canary = models.PositiveIntegerField(help_text="How many are done first.")
    stages = models.JSONField(help_text="Then so many percent of all, one after the other.")
    ends = models.JSONField(default=list, help_text="By stage, the last position that it takes.")
    stage = models.PositiveSmallIntegerField(default=0, help_text="0: the canary.")
    goes_on = models.BooleanField(help_text="After a stage that went well, without being asked.")
    most_failures = models.PositiveIntegerField(help_text="With more of them it stops.")
    most_failures_percent = models.PositiveSmallIntegerField(
        help_text="Of those that were tried; with more it stops."
    )
    forgiven = models.PositiveIntegerField(
        default=0, help_text="Failures that somebody knew of who let it go on."
    )
    forgiven_of = models.PositiveIntegerField(default=0, help_text="Of so many tried.")
    known_within = models.DurationField(
        default=timedelta(hours=1), help_text="How long to wait for what comes of a row."
    )
    approval = models.ForeignKey(
        Approval, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    incident = models.ForeignKey(
        Incident, models.PROTECT, null=True, blank=True, related_name="jobs", db_index=False
    )
    actor = models.CharField(max_length=150)
    actor_kind = models.CharField(max_length=10)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )
    drafted_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            states_constraint(states=BulkState, name="bulk_job_state_is_legal"),
            models.CheckConstraint(
                condition=models.Q(state__in=[BulkState.DRAFT, BulkState.CANCELLED])
                | models.Q(started_at__isnull=False),
                name="bulk_job_has_begun_when_it_runs",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(state__in=sorted(BULK_RUNNING))
                | models.Q(state=BulkState.DRAFT, digest=""),
                name="bulk_job_to_work_on",
            ),
            models.Index(fields=["state", "-id"], name="bulk_job_as_listed"),
            models.Index(
                fields=["incident", "-id"],
                condition=models.Q(incident__isnull=False),
                name="bulk_job_by_incident",
            ),
        ]

    def __str__(self) -> str:
        return f"bulk job {self.pk}: {self.action}"

    @transition(field=state, source=BulkState.DRAFT, target=BulkState.RUNNING_CANARY)
    def start(self) -> None:
        """Everything that is left in it can be done, and may be."""

    @transition(field=state, source=sorted(BULK_RUNNING), target=BulkState.PAUSED)
    def pause(self) -> None:
        """A stage is over, or somebody says so."""

    @transition(field=state, source=sorted(BULK_RUNNING), target=BulkState.STOPPED)
    def stop(self) -> None:
        """More have failed than may."""

    @transition(
        field=state,
        source=[BulkState.PAUSED, BulkState.STOPPED],
        target=BulkState.RUNNING_CANARY,
    )
    def resume_canary(self) -> None:
        """Its first stage is not over yet."""

    @transition(
        field=state,
        source=[*sorted(BULK_RUNNING), BulkState.PAUSED, BulkState.STOPPED],
        target=BulkState.RUNNING,
    )
    def go_on(self) -> None:
        """The next stage, or the rest of this one."""

    @transition(field=state, source=sorted(BULK_RUNNING), target=BulkState.COMPLETED)
    def complete(self) -> None:
        """Of every row it is known what came of it."""

    @transition(
        field=state,
        source=[BulkState.DRAFT, *sorted(BULK_RUNNING), BulkState.PAUSED, BulkState.STOPPED],
        target=BulkState.CANCELLED,
    )
    def cancel(self) -> None:
        """What was not done by then is left as it is."""


class BulkPlace(models.Model):
    """One place where rows of a job are, as authority looks at it (`authority.context`)."""

    job = models.ForeignKey(BulkJob, models.CASCADE, related_name="places", db_index=False)
    key = models.CharField(max_length=64, help_text="A hash of the context.")
    context = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "key"], name="one_bulk_place_per_context")
        ]

    def __str__(self) -> str:
        return f"place {self.pk} of bulk job {self.job_id}"


class RowState(enum.StrEnum):
    PENDING = "PENDING"
    LEFT_OUT = "LEFT_OUT"
    """It can't be done, and somebody knows; or the job was cancelled before its turn."""
    DONE = "DONE"
    """Done; what comes of it is not known yet."""
    REFUSED = "REFUSED"
    """It is not as it was looked at any more, or is not allowed now. Nothing was done."""
    FAILED = "FAILED"
    """The engine failed with it. Nothing was done."""
    VERIFIED = "VERIFIED"
    """What was wanted has come about."""
    NOT_VERIFIED = "NOT_VERIFIED"
    """It was done, and what was wanted has not come about in time."""


class Foreseen(enum.StrEnum):
    UNSEEN = ""
    POSSIBLE = "POSSIBLE"
    IMPOSSIBLE = "IMPOSSIBLE"
    DENIED = "DENIED"


class BulkRow(StatefulModel):
    """One subject of a job. What it was for, and that it was done, are written together."""

    job = models.ForeignKey(BulkJob, models.CASCADE, related_name="rows", db_index=False)
    position = models.PositiveIntegerField(help_text="From 1, in the order in which they are done.")
    subject = models.CharField(max_length=300)
    subject_pk = models.BigIntegerField(default=0, help_text="0: not looked at yet.")
    place = models.ForeignKey(
        BulkPlace, models.SET_NULL, null=True, blank=True, related_name="rows", db_index=False
    )
    state = StateField(default=RowState.PENDING, choices=[(s, s) for s in RowState])
    foreseen = models.CharField(
        max_length=10,
        blank=True,
        default=Foreseen.UNSEEN,
        choices=[(s, s.name.lower()) for s in Foreseen],
    )
    foretold = models.TextField(
        blank=True, default="", help_text="What it would do, or why it can't be done."
    )
    version = models.CharField(
        max_length=64, blank=True, default="", help_text="Of the subject, when it was looked at."
    )
    told = models.TextField(blank=True, default="", help_text="What was done, or why not.")
    code = models.CharField(max_length=100, blank=True, default="", help_text="Of an error.")
    operation = models.ForeignKey(
        Operation, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    leased_until = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(
        default=0, help_text="Workers that have taken it and were not heard of again."
    )
    done_at = models.DateTimeField(null=True, blank=True)
    look_at = models.DateTimeField(
        null=True, blank=True, help_text="When it is next asked what came of it."
    )
    known_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            states_constraint(states=RowState, name="bulk_row_state_is_legal"),
            models.UniqueConstraint(fields=["job", "subject"], name="one_bulk_row_per_subject"),
        ]
        indexes = [
            models.Index(
                fields=["job", "position"],
                condition=models.Q(state=RowState.PENDING),
                name="bulk_row_to_be_done",
            ),
            models.Index(
                fields=["job", "position"],
                condition=models.Q(state=RowState.PENDING, foreseen=""),
                name="bulk_row_to_be_foreseen",
            ),
            models.Index(
                fields=["look_at"],
                condition=models.Q(state=RowState.DONE),
                name="bulk_row_to_be_known",
            ),
            models.Index(fields=["job", "state", "position"], name="bulk_row_as_listed"),
            models.Index(fields=["job", "position", "id"], name="bulk_row_in_order"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} in bulk job {self.job_id}"

    @transition(field=state, source=RowState.PENDING, target=RowState.LEFT_OUT)
    def leave_out(self) -> None:
        """It is not done."""

    @transition(field=state, source=RowState.PENDING, target=RowState.DONE)
    def carry_out(self) -> None:
        """In the transaction that has done it."""

    @transition(field=state, source=RowState.PENDING, target=RowState.REFUSED)
    def refuse(self) -> None:
        """It can't be done any more, or may not be."""

    @transition(field=state, source=RowState.PENDING, target=RowState.FAILED)
    def fail(self) -> None:
        """The engine fails with it."""

    @transition(field=state, source=RowState.DONE, target=RowState.VERIFIED)
    def verify(self) -> None:
        """It has come about."""

    @transition(field=state, source=RowState.DONE, target=RowState.NOT_VERIFIED)
    def give_up(self) -> None:
        """It has not come about, or not in time."""
