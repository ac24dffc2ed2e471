"""What was reported from outside about orders and business keys: milestones and signals."""

from __future__ import annotations

from django.db import models


class Signal(models.Model):
    """Something that has happened. Kept, so that a wait that begins later finds it.

    `subject` says what it is about: `order:<business key>` for a milestone of an order,
    `key:<owner>/<key>` for a signal. The same event from the same source is kept once.
    """

    source = models.CharField(max_length=150)
    event_id = models.CharField(max_length=200)
    name = models.CharField(max_length=63)
    subject = models.CharField(max_length=250)
    payload = models.JSONField(default=dict)
    will_not_come = models.BooleanField(
        default=False,
        db_default=False,
        help_text="A milestone that the order goes on without; the payload says why.",
    )
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    applied = models.BooleanField(
        default=False, help_text="Whoever waited for it when it came has been told."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "event_id"], name="one_signal_per_event"),
        ]
        indexes = [
            models.Index(fields=["subject", "name"], name="signal_by_subject"),
            models.Index(fields=["id"], condition=models.Q(applied=False), name="signal_to_apply"),
        ]

    def __str__(self) -> str:
        never = " (will not come)" if self.will_not_come else ""
        return f"{self.name} of {self.subject}{never}"
