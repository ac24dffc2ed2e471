"""Who may do what and where, every decision about it, and what needs a second person."""

from __future__ import annotations

import enum

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment


class Grant(models.Model):
    """Where and how long a person, or everybody of a role, may use permissions that they have.

    A permission alone allows nothing: a grant has to cover the action and all that it is about.
    An empty list means everywhere.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="grants"
    )
    group = models.ForeignKey(Group, models.CASCADE, null=True, blank=True, related_name="grants")
    actions = models.JSONField(help_text='Names such as "task.retry", or "task.*".')
    targets = models.JSONField(default=list, blank=True)
    domains = models.JSONField(default=list, blank=True)
    regions = models.JSONField(default=list, blank=True)
    products = models.JSONField(default=list, blank=True)
    maximum_amount = models.DecimalField(max_digits=20, decimal_places=4, null=True, blank=True)
    currency = models.CharField(max_length=3, blank=True, default="")
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_until = models.DateTimeField(null=True, blank=True)
    reason = models.TextField()
    granted_by = models.CharField(max_length=150)
    granted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(user__isnull=True) ^ models.Q(group__isnull=True),
                name="grant_is_for_a_user_or_a_group",
            ),
            models.CheckConstraint(
                condition=models.Q(maximum_amount__isnull=True) | ~models.Q(currency=""),
                name="grant_amount_has_a_currency",
            ),
        ]

    def __str__(self) -> str:
        return f"grant {self.pk}"

    @property
    def in_words(self) -> str:
        """What may be done where, and for how long."""
        said = [", ".join(self.actions)]
        for name, values in (
            ("at", self.targets),
            ("kinds of target", self.domains),
            ("region", self.regions),
            ("product", self.products),
        ):
            if values:
                said.append(f"{name} {', '.join(values)}")
        if self.maximum_amount is not None:
            said.append(f"up to {self.maximum_amount.normalize():f} {self.currency}")
        if self.valid_from is not None:
            said.append(f"from {self.valid_from:%Y-%m-%d %H:%M} UTC")
        if self.valid_until is not None:
            said.append(f"until {self.valid_until:%Y-%m-%d %H:%M} UTC")
        return "; ".join(said)


class AuthorityDecision(models.Model):
    """One answer of `authorize`: append-only. No foreign keys, so that nothing keeps it back."""

    actor = models.CharField(max_length=150)
    actor_kind = models.CharField(max_length=10)
    user_id = models.BigIntegerField(null=True)
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=300)
    context = models.JSONField(default=dict)
    is_allowed = models.BooleanField()
    why = models.TextField(help_text="Which grant covers it, or what is missing.")
    decided_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["subject", "-id"], name="decision_by_subject"),
            models.Index(
                fields=["-id"], condition=models.Q(is_allowed=False), name="decision_denied"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {'allowed' if self.is_allowed else 'denied'}"


class ApprovalState(enum.StrEnum):
    REQUESTED = "REQUESTED"
    EXECUTED = "EXECUTED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    EXPIRED = "EXPIRED"
    STALE = "STALE"
    """What it is about has changed since it was asked for."""


class Approval(StatefulModel):
    """What one person asks for and another one approves; executed in the moment it is approved.

    It is bound to its payload and to the version of what it is about, and used once.
    """

    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=300)
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, null=True, blank=True, related_name="approvals"
    )
    state = StateField(default=ApprovalState.REQUESTED, choices=[(s, s) for s in ApprovalState])
    needs = models.CharField(max_length=60, help_text="The action that approves it.")
    payload = models.JSONField(help_text="Its parameters, reason and evidence, as they were given.")
    payload_hash = models.CharField(max_length=64)
    version = models.CharField(max_length=64, help_text="Of the subject, when it was asked for.")
    told = models.TextField(help_text="What it will do, as it was previewed.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    requested_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            states_constraint(states=ApprovalState, name="approval_state_is_legal"),
            models.CheckConstraint(
                condition=models.Q(decided_by__isnull=True)
                | ~models.Q(decided_by=models.F("requested_by"))
                | models.Q(state=ApprovalState.WITHDRAWN),
                name="approval_needs_two_people",
            ),
            models.CheckConstraint(
                condition=~models.Q(state=ApprovalState.EXECUTED)
                | models.Q(decided_by__isnull=False, decided_at__isnull=False),
                name="approval_is_executed_by_somebody",
            ),
            models.UniqueConstraint(
                fields=["action", "subject", "payload_hash"],
                condition=models.Q(state=ApprovalState.REQUESTED),
                name="one_open_approval_for_the_same",
            ),
        ]
        indexes = [
            models.Index(fields=["state", "-id"], name="approval_as_listed"),
            models.Index(
                fields=["expires_at"],
                condition=models.Q(state=ApprovalState.REQUESTED),
                name="approval_expiring",
            ),
        ]

    def __str__(self) -> str:
        return f"approval {self.pk}: {self.action} {self.subject}"

    @transition(field=state, source=ApprovalState.REQUESTED, target=ApprovalState.EXECUTED)
    def execute(self) -> None:
        """Another person has approved it, and it was done in the same transaction."""

    @transition(field=state, source=ApprovalState.REQUESTED, target=ApprovalState.REFUSED)
    def refuse(self) -> None:
        """Another person has said no."""

    @transition(field=state, source=ApprovalState.REQUESTED, target=ApprovalState.WITHDRAWN)
    def withdraw(self) -> None:
        """Whoever asked for it does not want it any more."""

    @transition(field=state, source=ApprovalState.REQUESTED, target=ApprovalState.EXPIRED)
    def expire(self) -> None:
        """Nobody has decided in time."""

    @transition(field=state, source=ApprovalState.REQUESTED, target=ApprovalState.STALE)
    def outdate(self) -> None:
        """What it was to change has changed meanwhile: it has to be asked for anew."""
