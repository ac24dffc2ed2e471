"""Orders: the list, and the page that says how one stands and why it waits."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.html import format_html_join
from unfold.decorators import display

from fulfillment.admin.reading import ReadOnlyAdmin, ReadOnlyInline, badge, link, pretty
from fulfillment.definitions.signs import PLAN_SIGNS
from fulfillment.models import Plan
from oms.admin.standing import ORDER_SIGNS, standing
from oms.models import Milestone, Order, OrderItem


class ItemInline(ReadOnlyInline):
    model = OrderItem
    fields = ("position", "item_id", "action", "offering", "quantity", "asset", "details")
    readonly_fields = fields
    show_change_link = False

    @display(description="characteristics, prices, place")
    def details(self, item: OrderItem) -> str:
        prices = {
            name: f"{amount} {item.currency}"
            for name, amount in (
                ("one-off price", item.one_off_price),
                ("recurring price", item.recurring_price),
            )
            if amount is not None
        }
        told = {"characteristics": item.characteristics, **prices, "place": item.place}
        return pretty({name: value for name, value in told.items() if value})


class MilestoneInline(ReadOnlyInline):
    model = Milestone
    fields = ("title", "name", "reached_at")
    readonly_fields = fields
    show_change_link = False


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = (
        "reference",
        "external_id",
        "state_badge",
        "plan_badge",
        "progress",
        "customer",
        "priority",
        "client",
        "submitted_at",
        "finished_at",
    )
    list_filter = ("state", "client", ("fulfillment__plans__stuck_at", admin.EmptyFieldListFilter))
    list_select_related = ("client",)
    search_fields = (
        "reference",
        "external_id",
        "customer_id",
        "fulfillment__plans__tasks__commands__idempotency_key",
    )
    search_help_text = "Reference, external id, customer id, or an idempotency key"
    fields = (
        ("reference", "external_id", "client"),
        ("customer_id", "customer_name", "customer_tier"),
        ("billing_account", "region", "channel"),
        ("priority", "version"),
        ("requested_at", "promised_at"),
        ("submitted_at", "finished_at"),
        "faults_text",
        "plans",
    )
    readonly_fields = ("faults_text", "plans")
    inlines = (ItemInline, MilestoneInline)
    change_form_outer_before_template = "desk/order.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        newest = Plan.objects.filter(fulfillment_id=OuterRef("fulfillment_id")).order_by("-id")[:1]
        rows: QuerySet[Order] = super().get_queryset(request)
        return rows.annotate(
            plan_state=Subquery(newest.values("state")),
            plan_open=Subquery(newest.values("mandatory_open")),
            plan_total=Subquery(newest.values("mandatory_total")),
            plan_stuck_at=Subquery(newest.values("stuck_at")),
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        order = self.get_object(request, object_id)
        if order is not None:
            extra_context = {**(extra_context or {}), "standing": standing(order)}
        return super().change_view(request, object_id, form_url, extra_context)  # type: ignore[no-any-return]

    @display(description="state", ordering="state")
    def state_badge(self, order: Order) -> str:
        return badge(order.state, ORDER_SIGNS)

    @display(description="plan")
    def plan_badge(self, order: Any) -> str:
        if order.plan_state is None:
            return "—"
        shown = badge(order.plan_state, PLAN_SIGNS)
        return shown + badge("STUCK", {"STUCK": ("⚠", "trouble")}) if order.plan_stuck_at else shown

    @display(description="tasks done")
    def progress(self, order: Any) -> str:
        if order.plan_total is None:
            return "—"
        return f"{order.plan_total - order.plan_open} of {order.plan_total}"

    @display(description="customer")
    def customer(self, order: Order) -> str:
        return order.customer_name or order.customer_id

    @display(description="faults")
    def faults_text(self, order: Order) -> str:
        return pretty(order.faults) if order.faults else "none"

    @display(description="plans")
    def plans(self, order: Order) -> str:
        rows = Plan.objects.filter(fulfillment_id=order.fulfillment_id).defer("context")
        return format_html_join(", ", "{}", ((link(plan),) for plan in rows.order_by("id"))) or "—"


def order_page(request: HttpRequest, reference: str) -> HttpResponse:
    """The page of the order with this reference; the admin asks who is looking."""
    order = get_object_or_404(Order, reference=reference)
    return redirect("admin:oms_order_change", order.pk)
