"""The log of what people did to the engine itself: append-only."""

from __future__ import annotations

from django.db import models


class Operation(models.Model):
    """Who changed what by hand, when and why, and how it was before.

    What an operator does to an order stands in that order's audit trail as well.
    """

    kind = models.CharField(max_length=60, help_text="Such as pause_target or place_hold.")
    subject = models.CharField(max_length=300)
    actor = models.CharField(max_length=150)
    reason = models.TextField()
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    happened_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["subject", "-id"], name="operation_by_subject")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
