"""Target systems: the downstream systems that commands are sent to, as data."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now

from fulfillment.states import Breaker, Domain


class TargetSystem(models.Model):
    """One downstream system: which queue carries its commands and what it can do for us."""

    name = models.SlugField(primary_key=True, max_length=60)
    title = models.CharField(max_length=200, blank=True)
    domain = models.CharField(
        max_length=20,
        default=Domain.OTHER,
        db_default=Domain.OTHER,
        choices=[(one, one) for one in Domain],
        help_text="What kind of system it is, and so who approves what is done by hand.",
    )
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
    concurrency_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Calls under way at the same time, over all workers; empty: no limit.",
    )
    query_slots = models.PositiveIntegerField(
        default=4,
        help_text="Of these, calls at the same time that only ask what became of a command.",
    )
    accepted_holds_slot = models.BooleanField(
        default=False,
        help_text="What it has accepted counts as under way until it has reported.",
    )
    rate_per_second = models.FloatField(
        null=True, blank=True, help_text="Calls per second, over all workers; empty: no limit."
    )
    rate_burst = models.PositiveIntegerField(
        default=1, help_text="Calls that may be made at once after a pause."
    )
    breaker_failures = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Calls in a row that got no usable answer before it is left alone for a while; "
        "empty: never.",
    )
    breaker_pause = models.DurationField(
        default=timedelta(seconds=10), help_text="How long it is left alone before it is tried."
    )
    breaker_probes = models.PositiveIntegerField(
        default=1, help_text="Calls that must succeed, one at a time, before all go on again."
    )
    ramp = models.DurationField(
        null=True,
        blank=True,
        help_text="After a pause or an outage its limits grow to their full size over this time.",
    )
    lost_leases_limit = models.PositiveIntegerField(
        default=5, help_text="Workers that a command may take down before it is quarantined."
    )
    retry_policies = models.JSONField(
        default=dict,
        blank=True,
        help_text='By action, "*" for every other; a workflow\'s own policy goes before.',
    )
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(sender_slots__gte=1), name="target_has_a_sender_slot"
            ),
            models.CheckConstraint(
                condition=models.Q(query_slots__gte=1), name="target_has_a_query_slot"
            ),
            models.CheckConstraint(
                condition=models.Q(concurrency_limit__isnull=True)
                | models.Q(concurrency_limit__gte=1),
                name="target_concurrency_is_positive",
            ),
            models.CheckConstraint(
                condition=models.Q(rate_per_second__isnull=True)
                | models.Q(rate_per_second__gt=0, rate_burst__gte=1),
                name="target_rate_is_positive",
            ),
            models.CheckConstraint(
                condition=models.Q(breaker_failures__isnull=True)
                | models.Q(breaker_failures__gte=1, breaker_probes__gte=1),
                name="target_breaker_is_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class TargetCondition(models.Model):
    """How a target system is doing; the lock under which its limits are granted.

    Apart from `TargetSystem`, because an operator who saves that row must not put back what the
    engine has counted meanwhile. What is under way is never counted here: open attempts are, so
    that a crash leaks nothing.
    """

    target = models.OneToOneField(
        TargetSystem, models.CASCADE, primary_key=True, related_name="condition"
    )
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, blank=True, default="")
    pause_reason = models.TextField(blank=True, default="")
    ramp_from = models.DateTimeField(
        null=True, blank=True, help_text="Since when its limits grow to their full size again."
    )
    rate_tokens = models.FloatField(default=0)
    rate_at = models.DateTimeField(null=True, blank=True)
    breaker = models.CharField(
        max_length=10, default=Breaker.CLOSED, choices=[(b, b) for b in Breaker]
    )
    breaker_until = models.DateTimeField(null=True, blank=True)
    breaker_reason = models.TextField(blank=True, default="")
    failures_in_a_row = models.PositiveIntegerField(default=0)
    probes_passed = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(breaker__in=[state.value for state in Breaker]),
                name="breaker_state_is_legal",
            )
        ]

    def __str__(self) -> str:
        return f"condition of {self.target_id}"
