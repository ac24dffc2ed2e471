"""Target systems: the downstream systems that commands are sent to, as data."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now


class TargetSystem(models.Model):
    """One downstream system: which queue carries its commands and what it can do for us."""

    name = models.SlugField(primary_key=True, max_length=60)
    title = models.CharField(max_length=200, blank=True)
    queue = models.SlugField(
        max_length=60, help_text="Celery queue that carries its work; must be declared."
    )
    adapter = models.CharField(max_length=40, help_text="Kind of adapter: http, python, …")
    settings = models.JSONField(
        default=dict, blank=True, help_text="What the adapter needs, such as base_url. No secrets."
    )
    idempotent = models.BooleanField(
        help_text="The same key sent twice has one effect, and the second answer repeats the first."
    )
    status_query = models.BooleanField(help_text="It can be asked what became of a key.")
    asynchronous = models.BooleanField(
        default=False, help_text="It may accept now and report later by callback."
    )
    sender_slots = models.PositiveIntegerField(
        default=16, help_text="Calls that one worker process makes at the same time."
    )
    reconcile_after = models.DurationField(
        default=timedelta(seconds=2),
        help_text="How long after an unknown outcome the target is asked; long enough for a "
        "request that is still on the wire to arrive.",
    )
    maximum_queries = models.PositiveIntegerField(
        default=20, help_text="Unanswered queries in a row before a person takes over."
    )
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(sender_slots__gte=1), name="target_has_a_sender_slot"
            )
        ]

    def __str__(self) -> str:
        return self.name
