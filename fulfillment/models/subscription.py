"""Who is told what happens, and what became of telling them."""

from __future__ import annotations

import enum

from django.db import models
from django.db.models.functions import Now

from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.messages import OutboxEvent


class Subscription(models.Model):
    """An address to which events are sent, signed, in sequence for each order."""

    name = models.SlugField(max_length=60, unique=True)
    url = models.CharField(max_length=500, help_text="Such as https://shop.example/events.")
    secret = models.CharField(max_length=200, help_text="whsec_…; deliveries are signed with it.")
    next_secret = models.CharField(
        max_length=200,
        blank=True,
        default="",
        help_text="While secrets change, every delivery carries both signatures.",
    )
    event_types = models.JSONField(
        default=list, blank=True, help_text="Names of events; an empty list means every event."
    )
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class DeliveryState(enum.StrEnum):
    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


class Delivery(models.Model):
    """One event on its way to one subscriber: at least once, then delivered or dead."""

    subscription = models.ForeignKey(
        Subscription, models.PROTECT, related_name="deliveries", db_index=False
    )
    event = models.ForeignKey(OutboxEvent, models.PROTECT, related_name="deliveries")
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    state = models.CharField(
        max_length=12, default=DeliveryState.PENDING, choices=[(s, s) for s in DeliveryState]
    )
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField(help_text="Also a lease: nobody else sends it before.")
    finished_at = models.DateTimeField(null=True, blank=True)
    last_answer = models.TextField(blank=True, default="", help_text="Of the last attempt.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "event"], name="one_delivery_per_subscriber"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=[state.value for state in DeliveryState]),
                name="delivery_state_is_legal",
            ),
        ]
        indexes = [
            # In sequence for each order: its oldest event that is still to be delivered.
            models.Index(
                fields=["subscription", "fulfillment", "event"],
                condition=models.Q(state=DeliveryState.PENDING),
                name="delivery_in_sequence",
            ),
            models.Index(
                fields=["not_before"],
                condition=models.Q(state=DeliveryState.PENDING),
                name="delivery_due",
            ),
            # Dead letters: a handful among all deliveries.
            models.Index(
                fields=["subscription", "event"],
                condition=models.Q(state=DeliveryState.DEAD),
                name="delivery_dead",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.subscription_id}"
