"""The command log: what was asked of a target system, and every try at it."""

from __future__ import annotations

import enum

from django.db import models

from adapters.contract import OutcomeKind
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.target import TargetSystem
from fulfillment.models.task import Task


class Command(models.Model):
    """The outbound request of one task. Written once, never changed: it is its own outbox row."""

    task = models.ForeignKey(
        Task, models.PROTECT, related_name="commands", db_constraint=False, db_index=False
    )
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    revision = models.PositiveIntegerField(
        default=1, help_text="Raised when corrected data makes a new command for the task."
    )
    target = models.ForeignKey(TargetSystem, models.PROTECT, db_constraint=False, db_index=False)
    action = models.CharField(max_length=100)
    idempotency_key = models.CharField(max_length=64)
    payload = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["idempotency_key"], name="one_effect_per_key"),
            models.UniqueConstraint(fields=["task", "revision"], name="one_command_per_revision"),
        ]

    def __str__(self) -> str:
        return f"{self.target_id} {self.action}"


class Purpose(enum.StrEnum):
    SEND = "SEND"
    QUERY = "QUERY"


class Attempt(models.Model):
    """One try at a command, or one query about it: its own clocks, its own outcome.

    Inserted by the claim before anything is sent; finished exactly once. While `finished_at`
    is empty the row is a lease that ends at `lease_expires_at`.
    """

    command = models.ForeignKey(
        Command, models.PROTECT, related_name="attempts", db_constraint=False, db_index=False
    )
    task = models.ForeignKey(Task, models.PROTECT, db_constraint=False, db_index=False)
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    target = models.ForeignKey(
        TargetSystem, models.PROTECT, db_constraint=False, db_index=False, db_default=""
    )
    number = models.PositiveIntegerField(help_text="Counts sends and queries of the command.")
    purpose = models.CharField(max_length=10, choices=[(p, p) for p in Purpose])
    worker = models.CharField(max_length=100)
    slot = models.SmallIntegerField(
        null=True,
        blank=True,
        help_text="Of its worker. Attempts of one slot follow one another, so they count once.",
    )
    started_at = models.DateTimeField()
    lease_expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(
        max_length=20, blank=True, default="", choices=[(k, k) for k in OutcomeKind]
    )
    code = models.CharField(max_length=100, blank=True, default="")
    message = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["command", "number"], name="one_attempt_per_number"),
            models.CheckConstraint(
                condition=models.Q(purpose__in=[p.value for p in Purpose]),
                name="attempt_purpose_is_legal",
            ),
        ]
        indexes = [
            # The lease sweeper.
            models.Index(
                fields=["lease_expires_at"],
                condition=models.Q(finished_at__isnull=True),
                name="attempt_open_lease",
            ),
            # What is under way at a target system; the concurrency limit counts these rows.
            models.Index(
                fields=["target", "lease_expires_at"],
                condition=models.Q(finished_at__isnull=True),
                name="attempt_under_way",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}"
