"""Resource locks: what orders use alone, or a part of (reference §9.1)."""

from __future__ import annotations

from django.db import models

from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.plan import Plan
from fulfillment.models.task import Task


class KeptBy(models.TextChoices):
    PLAN = "PLAN", "the order, to its end"
    TASK = "TASK", "the task, to its end"


class Resource(models.Model):
    """A kind of resource that published workflows lock; written when they are published."""

    name = models.CharField(max_length=64, primary_key=True)
    kept_by = models.CharField(max_length=10, choices=KeptBy.choices)
    capacity = models.PositiveIntegerField(
        default=1, help_text="Units in use at once, of each single one of its kind."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(capacity__gte=1), name="resource_has_a_capacity"
            ),
            models.CheckConstraint(
                condition=models.Q(kept_by__in=KeptBy.values), name="resource_kept_by_is_legal"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ResourceLock(models.Model):
    """One resource in use. Written and deleted with what its holder does, in one transaction."""

    name = models.CharField(max_length=200, help_text="Such as customer:C-17.")
    units = models.PositiveIntegerField(default=1)
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    plan = models.ForeignKey(Plan, models.PROTECT, db_constraint=False, db_index=False)
    task = models.ForeignKey(
        Task,
        models.PROTECT,
        null=True,
        db_constraint=False,
        db_index=False,
        help_text="Empty: the whole plan keeps it.",
    )
    taken_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name", "plan", "task"], nulls_distinct=False, name="one_lock_per_holder"
            ),
        ]
        indexes = [
            models.Index(fields=["plan", "task"], name="lock_by_holder"),
        ]

    def __str__(self) -> str:
        return self.name


class LockRelease(models.Model):
    """A lock that has become free while others wait for it; deleted by whoever has woken them."""

    name = models.CharField(max_length=200, primary_key=True)

    def __str__(self) -> str:
        return self.name
