"""Who gets events: subscriptions, which operators edit, and what became of each delivery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from adapters.webhooks import AddressForbidden, check_url
from fulfillment import subscribers
from fulfillment.actions import Action
from fulfillment.admin.asking import Guarded, actor_of, holds_here
from fulfillment.admin.reading import (
    DeskAdmin,
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    order_link,
)
from fulfillment.authority.context import Context
from fulfillment.definitions.signs import Sign
from fulfillment.errors import FulfillmentError
from fulfillment.models import Delivery, DeliveryState, Subscription
from fulfillment.subscribers import Lag, SubscriptionRefused, in_seconds

DELIVERY_SIGNS: Mapping[str, Sign] = {
    DeliveryState.PENDING: ("◔", "waiting"),
    DeliveryState.DELIVERED: ("✓", "done"),
    DeliveryState.DEAD: ("✗", "failed"),
}


class EventTypesField(forms.CharField):
    """Names of events with spaces or commas between them; nothing at all means every event."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        try:
            return subscribers.checked_event_types((value or "").replace(",", " ").split())
        except SubscriptionRefused as error:
            raise forms.ValidationError(str(error), code=error.code) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class SubscriptionForm(forms.ModelForm):
    """Refuses an address that nothing would be sent to, with the reason."""

    event_types = EventTypesField(
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Such as OrderCompleted, FulfillmentTaskFailed; nothing means every event.",
    )

    class Meta:
        model = Subscription
        fields = ("name", "url", "event_types", "active")

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            check_url(url=url, allowed_origins=settings.OMS_WEBHOOK_ALLOWED_ORIGINS)
        except AddressForbidden as error:
            raise forms.ValidationError(str(error), code=error.code) from error
        return url


@admin.register(Subscription)
class SubscriptionAdmin(Guarded, DeskAdmin):
    guarded_by = Action.SUBSCRIPTION_EDIT
    form = SubscriptionForm
    when_empty = "Nobody is told of events by webhook yet."
    list_display = ("name", "url", "events", "active", "pending", "oldest", "dead")
    search_fields = ("name",)
    fields = (
        ("name", "active"),
        "url",
        "event_types",
        ("secret_words", "created_at"),
        ("pending", "oldest", "dead"),
        "answer",
    )
    readonly_fields = ("secret_words", "created_at", "pending", "oldest", "dead", "answer")
    actions = ("begin_rotation", "finish_rotation", "send_again")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        # One that is yet to be made has no past to tell of.
        return self.fields if obj is not None else (*self.fields[:3], "secret_words")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Cases and commands name it.
        return (*self.readonly_fields, "name") if obj is not None else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.secret = subscribers.new_secret()
            self._show(request, obj, obj.secret)
        subscribers.edit(subscription=obj, actor=actor_of(request), changed=form.changed_data)

    def context_of(self, obj: Any) -> Context:
        return Context(subject=f"subscription:{obj.name if obj else 'new'}")

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return holds_here(request, Action.DELIVERY_RESEND)

    @admin.action(description="Change secrets: a second one signs too", permissions=["change"])
    def begin_rotation(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        for row in rows:
            try:
                secret = subscribers.begin_rotation(subscription=row, actor=actor_of(request))
            except FulfillmentError as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.log_change(request, row, "Began to change its secrets.")
                self._show(request, row, secret)

    @admin.action(description="Change secrets: the old one ends", permissions=["change"])
    def finish_rotation(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        for row in rows:
            try:
                subscribers.finish_rotation(subscription=row, actor=actor_of(request))
            except FulfillmentError as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.log_change(request, row, "Only the new secret signs from now on.")
                self.message_user(request, f"Only the new secret of {row} signs from now on.")

    @admin.action(description="Send dead letters again", permissions=["resend"])
    def send_again(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        dead = Delivery.objects.filter(subscription__in=list(rows))
        try:
            count = subscribers.send_again(deliveries=dead, actor=actor_of(request))
        except FulfillmentError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        for row in rows:
            self.log_change(request, row, "Sent its dead letters again.")
        self.message_user(request, f"{count} dead letters are sent again.")

    def _show(self, request: HttpRequest, row: Subscription, secret: str) -> None:
        self.message_user(
            request,
            f"The new secret of {row.name}, shown this once: {secret}",
            messages.WARNING,
        )

    @display(description="events")
    def events(self, row: Subscription) -> str:
        return ", ".join(row.event_types) or "every event"

    @display(description="secret")
    def secret_words(self, row: Subscription) -> str:
        if not row.secret:
            return "made when the subscription is saved, and shown once"
        words = f"…{row.secret[-4:]}"
        return f"{words}, and the new one …{row.next_secret[-4:]}" if row.next_secret else words

    @display(description="pending")
    def pending(self, row: Subscription) -> str:
        return self._link(row, DeliveryState.PENDING, self._lag(row).pending) if row.pk else "—"

    @display(description="dead")
    def dead(self, row: Subscription) -> str:
        return self._link(row, DeliveryState.DEAD, self._lag(row).dead) if row.pk else "—"

    @display(description="oldest pending since")
    def oldest(self, row: Subscription) -> str:
        age = self._lag(row).oldest if row.pk else None
        return "—" if age is None else in_seconds(age)

    @display(description="its last answer")
    def answer(self, row: Subscription) -> str:
        return (self._lag(row).last_answer if row.pk else "") or "—"

    def _lag(self, row: Any) -> Lag:
        # Several columns of one row share it.
        if not hasattr(row, "lag"):
            row.lag = subscribers.lags(of=row.pk)[0]
        lag: Lag = row.lag
        return lag

    def _link(self, row: Subscription, state: str, count: int) -> str:
        if not count:
            return "0"
        return list_link(
            str(count), model=Delivery, subscription__id__exact=row.pk, state__exact=state
        )


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "subscription",
        "order",
        "event_link",
        "state_badge",
        "attempts",
        "not_before",
        "last_answer",
    )
    list_filter = ("state", "subscription")
    list_select_related = ("subscription", "event", "fulfillment")
    list_left_out = ("event__payload",)
    search_fields = ("event__fulfillment__order_reference", "event__id")
    search_help_text = "The order's reference, or the event's number"
    fields = (
        ("subscription", "event_link"),
        ("order", "state_badge"),
        ("attempts", "not_before"),
        "finished_at",
        "last_answer",
    )
    readonly_fields = ("order", "event_link", "state_badge")
    actions = ("send_again",)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return holds_here(request, Action.DELIVERY_RESEND)

    @admin.action(description="Send dead ones again", permissions=["resend"])
    def send_again(self, request: HttpRequest, rows: QuerySet[Delivery]) -> None:
        dead = list(rows.filter(state=DeliveryState.DEAD))
        try:
            count = subscribers.send_again(
                deliveries=Delivery.objects.filter(pk__in=[row.pk for row in dead]),
                actor=actor_of(request),
            )
        except FulfillmentError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        for row in dead:
            self.log_change(request, row, "Sent again.")
        if count:
            self.message_user(request, f"{count} dead letters are sent again.")
        else:
            self.message_user(request, "None of them was dead.", messages.WARNING)

    @display(description="order")
    def order(self, delivery: Delivery) -> str:
        return order_link(delivery.fulfillment.order_reference)

    @display(description="event")
    def event_link(self, delivery: Delivery) -> str:
        return link(delivery.event, f"evt-{delivery.event_id} {delivery.event.event_type}")

    @display(description="state")
    def state_badge(self, delivery: Delivery) -> str:
        return badge(delivery.state, DELIVERY_SIGNS)
