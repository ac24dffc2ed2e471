"""Orders, their items, and what customers were told about them."""

from __future__ import annotations

from django.db import models
from django_fsm import transition

from fulfillment.models import Fulfillment
from fulfillment.models.base import StateField, StatefulModel, states_constraint
from oms.models.clients import ApiClient
from oms.states import ORDER_TERMINAL, ItemAction, OrderState


class Order(StatefulModel):
    """What a customer asked for; its state is the one that the customer is told (reference §4).

    SUBMITTED → VALIDATING → READY_FOR_FULFILLMENT → IN_PROGRESS → COMPLETED, or REJECTED with
    every fault that validation found. Before it is over: → ASSESSING_CANCELLATION → CANCELLING →
    CANCELLED, or back. `reference` is the order's name everywhere outside.
    """

    has_moved_when_stored = True

    reference = models.CharField(max_length=40, unique=True)
    client = models.ForeignKey(ApiClient, models.PROTECT, related_name="orders", db_index=False)
    external_id = models.CharField(max_length=100)
    version = models.PositiveIntegerField(default=1)
    state = StateField(default=OrderState.SUBMITTED, choices=[(s, s) for s in OrderState])
    faults = models.JSONField(default=list, blank=True)
    customer_id = models.CharField(max_length=100)
    customer_name = models.CharField(max_length=200, blank=True)
    customer_tier = models.CharField(max_length=40, blank=True)
    customer_email = models.CharField(
        max_length=254, blank=True, db_default="", help_text="Where the customer is told by e-mail."
    )
    billing_account = models.CharField(max_length=100, blank=True)
    region = models.CharField(max_length=40, blank=True)
    channel = models.CharField(max_length=40, blank=True)
    requested_at = models.DateTimeField(null=True, blank=True)
    promised_at = models.DateTimeField(null=True, blank=True)
    priority = models.SmallIntegerField(default=0)
    fulfillment = models.OneToOneField(
        Fulfillment, models.PROTECT, related_name="order", db_constraint=True
    )
    feasibility_due_at = models.DateTimeField(
        null=True, blank=True, help_text="When its target systems are next asked if it can be done."
    )
    feasibility_attempts = models.PositiveSmallIntegerField(default=0)
    waiting_reason = models.TextField(
        blank=True, default="", help_text="Why it is not in fulfilment yet, in plain words."
    )
    late_told_version = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="The order version for which the customer knows that it is late.",
    )
    submitted_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            states_constraint(states=OrderState, name="order_state_is_legal"),
            models.UniqueConstraint(
                fields=["client", "external_id"], name="one_order_per_external_id"
            ),
        ]
        indexes = [
            # Orders whose feasibility is to be asked for.
            models.Index(
                fields=["feasibility_due_at"],
                condition=models.Q(feasibility_due_at__isnull=False),
                name="order_feasibility_due",
            ),
            # Orders whose promised date may have passed without the customer knowing.
            models.Index(
                fields=["promised_at"],
                condition=models.Q(
                    promised_at__isnull=False,
                    finished_at__isnull=True,
                    late_told_version__lt=models.F("version"),
                ),
                name="order_promised",
            ),
            # Lists, newest first: a client's own, and everybody's. The key alone does not do for
            # those that are behind many others.
            models.Index(
                fields=["client", "state", "-submitted_at", "-id"], name="order_by_client"
            ),
            models.Index(fields=["state", "-submitted_at", "-id"], name="order_by_state"),
            models.Index(fields=["customer_id", "-submitted_at", "-id"], name="order_by_customer"),
            # What has ended today.
            models.Index(
                fields=["state", "finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="order_finished",
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def is_final(self) -> bool:
        return self.state in ORDER_TERMINAL

    @transition(field=state, source=OrderState.SUBMITTED, target=OrderState.VALIDATING)
    def validate(self) -> None:
        """Its rules run now, once per order version."""

    @transition(field=state, source=OrderState.VALIDATING, target=OrderState.REJECTED)
    def reject(self) -> None:
        """`faults` say everything that is wrong with it."""

    @transition(field=state, source=OrderState.VALIDATING, target=OrderState.READY_FOR_FULFILLMENT)
    def accept(self) -> None:
        """Every rule passed."""

    @transition(field=state, source=OrderState.READY_FOR_FULFILLMENT, target=OrderState.IN_PROGRESS)
    def start(self) -> None:
        """Its active plan, with a validated graph, has started."""

    @transition(field=state, source=OrderState.IN_PROGRESS, target=OrderState.COMPLETED)
    def complete(self) -> None:
        """Its plan completed: every mandatory task is terminal successful."""

    @transition(field=state, source=OrderState.IN_PROGRESS, target=OrderState.PARTIALLY_COMPLETED)
    def complete_partly(self) -> None:
        """Its plan completed without items that failed for good, as their workflow allows."""

    @transition(field=state, source=OrderState.IN_PROGRESS, target=OrderState.FAILED)
    def fail(self) -> None:
        """Its plan was given up: what had been done is undone."""

    @transition(
        field=state,
        source=[
            OrderState.SUBMITTED,
            OrderState.VALIDATING,
            OrderState.READY_FOR_FULFILLMENT,
            OrderState.IN_PROGRESS,
        ],
        target=OrderState.ASSESSING_CANCELLATION,
    )
    def assess_cancellation(self) -> None:
        """Somebody wants it cancelled; nothing more of it is sent until that is decided."""

    @transition(
        field=state, source=OrderState.ASSESSING_CANCELLATION, target=OrderState.IN_PROGRESS
    )
    def deny_cancellation(self) -> None:
        """It goes on. Only what is in progress can have passed a point of no return."""

    @transition(field=state, source=OrderState.ASSESSING_CANCELLATION, target=OrderState.CANCELLING)
    def begin_cancelling(self) -> None:
        """What was done is being undone."""

    @transition(field=state, source=OrderState.CANCELLING, target=OrderState.CANCELLED)
    def cancel(self) -> None:
        """Everything that had to be undone is."""


class CurrentItems(models.Manager["OrderItem"]):
    """The lines that an order has now, without those that an amendment has left out."""

    def get_queryset(self) -> models.QuerySet[OrderItem]:
        return super().get_queryset().filter(removed_in_version=None)


class OrderItem(models.Model):
    """One line of an order. What an amendment leaves out stays here, and is its part no more."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="items", db_index=False)
    position = models.PositiveIntegerField(help_text="From 1, in the order they were sent.")
    item_id = models.CharField(max_length=100)
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="children"
    )
    action = models.CharField(max_length=20, choices=[(a, a) for a in ItemAction])
    offering = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField(default=1)
    characteristics = models.JSONField(default=dict, blank=True)
    one_off_price = models.DecimalField(max_digits=16, decimal_places=4, null=True, blank=True)
    recurring_price = models.DecimalField(max_digits=16, decimal_places=4, null=True, blank=True)
    currency = models.CharField(max_length=3, blank=True)
    place = models.JSONField(default=dict, blank=True)
    parties = models.JSONField(default=list, blank=True)
    asset = models.CharField(max_length=100, blank=True)
    relations = models.JSONField(default=list, blank=True)
    removed_in_version = models.PositiveIntegerField(
        null=True, blank=True, help_text="The order version from which on it is left out."
    )

    objects = CurrentItems()
    ever = models.Manager()

    class Meta:
        ordering = ["order_id", "position"]
        constraints = [
            models.UniqueConstraint(fields=["order", "position"], name="one_item_per_position"),
            models.CheckConstraint(
                condition=models.Q(action__in=[a.value for a in ItemAction]),
                name="item_action_is_legal",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}: {self.action} {self.offering}"


class Milestone(models.Model):
    """A named point of progress that the customer may rely on; reached once."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="milestones", db_index=False)
    name = models.CharField(max_length=100)
    title = models.CharField(max_length=200)
    reached_at = models.DateTimeField()

    class Meta:
        ordering = ["order_id", "reached_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "name"], name="milestone_is_reached_once")
        ]

    def __str__(self) -> str:
        return self.title or self.name
