"""What seals the audit trails: taken every minute, with a key that the database does not know."""

from __future__ import annotations

from django.db import models


class AuditSeal(models.Model):
    """One seal: over what has come since the seal before, and over that seal. Append-only."""

    number = models.BigIntegerField(primary_key=True, help_text="From 1, without gaps.")
    sealed_at = models.DateTimeField()
    marks = models.JSONField(help_text="Up to which id each log is sealed.")
    rows = models.IntegerField(help_text="How many sealed rows it has.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over its sealed rows.")
    previous = models.CharField(max_length=64, blank=True, help_text="The seal before it.")
    key_id = models.CharField(max_length=16, help_text="Which key has sealed it.")
    seal = models.CharField(max_length=64, help_text="HMAC-SHA256 over all of the above.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["previous"], name="seals_have_no_fork"),
        ]

    def __str__(self) -> str:
        return f"seal {self.number}"


class SealedRow(models.Model):
    """What a seal has seen of one order's chain, or of one row of a log. Append-only."""

    # Written with its seal in one statement after the other, and read with it.
    of = models.ForeignKey(
        AuditSeal, models.PROTECT, related_name="sealed", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=20, help_text="As in `fulfillment.audit.logs`.")
    row_id = models.BigIntegerField(help_text="Of the order's fulfillment, or of the log's row.")
    sequence = models.IntegerField(help_text="Of a chain its newest row; of commands, how many.")
    digest = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["of", "kind", "row_id"], name="sealed_once_by_a_seal"),
        ]
        indexes = [models.Index(fields=["kind", "row_id", "of"], name="seals_by_row")]

    def __str__(self) -> str:
        return f"{self.kind} {self.row_id}"
