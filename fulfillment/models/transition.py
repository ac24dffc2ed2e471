"""The audit trail: one row per state change, append-only and chained by hash per order."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from fulfillment.models.fulfillment import Fulfillment


class Transition(models.Model):
    """Who changed which state, when, why and from what; the proof that nothing else did.

    `sequence` counts from 1 within one order and `hash` covers the row and the hash before it
    (see `fulfillment.engine.work.chain`). The application's role may only INSERT and SELECT.
    """

    # Written by the unit of work alone, under the lock of the row that it names and after it, and
    # nobody may delete that one: what every order writes many of has no check by the database,
    # which would be a quarter of what a task costs it.
    fulfillment = models.ForeignKey(
        Fulfillment,
        models.PROTECT,
        related_name="transitions",
        db_constraint=False,
        db_index=False,
    )
    sequence = models.PositiveIntegerField()
    entity = models.CharField(max_length=20, help_text="order, plan or task")
    entity_id = models.CharField(max_length=40)
    name = models.CharField(max_length=60, help_text="The transition, as in the state machine.")
    from_state = models.CharField(max_length=40)
    to_state = models.CharField(max_length=40)
    actor = models.CharField(max_length=150)
    cause = models.TextField()
    details = models.JSONField(default=dict)
    occurred_at = models.DateTimeField()
    hash = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["fulfillment", "sequence"], name="audit_chain_has_no_fork"
            )
        ]
        # Rows stand in the order in which they were written: what happened in an hour is found by
        # an index of a few pages, which costs whoever writes next to nothing.
        indexes = [
            BrinIndex(
                fields=["occurred_at"],
                autosummarize=True,
                pages_per_range=32,
                name="transition_by_time",
            )
        ]
        ordering = ["fulfillment_id", "sequence"]

    def __str__(self) -> str:
        return f"{self.entity} {self.from_state} → {self.to_state}"
