"""Orders: the list, and the page that says how one stands and why it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery, prefetch_related_objects
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    found_or_404,
)
from fulfillment.admin.bulk import Bulkable
from fulfillment.admin.pages import is_live_look
from fulfillment.admin.reading import (
    ReadOnlyAdmin,
    badge,
    link,
    list_link,
    newest,
    pretty,
    show_badge,
)
from fulfillment.definitions.signs import PLAN_SIGNS
from fulfillment.models import OutboxEvent, Plan, Transition
from fulfillment.queries import fulfillments
from oms.admin.order_filters import EndedFilter, NeedsFilter, StuckFilter
from oms.admin.order_page.doing import kept_from, may_be_done
from oms.admin.order_page.history import shown_history
from oms.admin.order_page.signs import ORDER_SIGNS, STUCK
from oms.admin.order_page.standing import drawn, standing
from oms.admin.order_page.versions import shown_versions
from oms.evidence.packing import taken
from oms.models import Notification, Order
from oms.queries.orders import waits_of_tasks

_REGIONS = {
    "order-now": "desk/order/now.html",
    "order-plan": "desk/order/plan.html",
    "order-entries": "desk/order/history.html",
}
"""Parts of an order's page that look at themselves again, and what shows each alone."""


@admin.register(Order)
class OrderAdmin(Bulkable, ReadOnlyAdmin):
    bulk_of = "order"
    bulk_name = "reference"
    list_display = (
        "reference",
        "state_badge",
        "plan_badge",
        "progress",
        "customer",
        "theirs",
        "priority",
        "submitted_at",
        "finished_at",
    )
    list_filter = ("state", "client", StuckFilter, NeedsFilter, EndedFilter)
    also_filtered = ("finished_at",)
    list_select_related = ("client",)
    list_left_out = ("faults",)
    search_fields = (
        "reference",
        "external_id",
        "customer_id",
        "fulfillment__correlation_id",
        "fulfillment__plans__tasks__commands__idempotency_key",
    )
    search_order = ("-submitted_at", "-pk")  # As the index has a customer's.
    search_help_text = "Reference, external id, customer, correlation id, or an idempotency key"
    fields = (
        ("reference", "external_id"),
        ("client", "channel"),
        ("customer_id", "customer_name"),
        ("customer_tier", "customer_email"),
        ("billing_account", "region"),
        ("version", "late_told_version"),
        ("priority", "submitted_at"),
        ("requested_at", "promised_at"),
        ("finished_at", "plans"),
        ("transitions", "events"),
        ("messages", "faults_text"),
    )
    readonly_fields = ("faults_text", "plans", "transitions", "events", "messages")
    change_form_template = "desk/order/change_form.html"
    change_form_outer_before_template = "desk/order/page.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        plans = Plan.objects.filter(fulfillment_id=OuterRef("fulfillment_id")).order_by("-id")[:1]
        rows: QuerySet[Order] = super().get_queryset(request)
        return rows.annotate(
            plan_state=Subquery(plans.values("state")),
            plan_open=Subquery(plans.values("mandatory_open")),
            plan_total=Subquery(plans.values("mandatory_total")),
            plan_stuck_at=Subquery(plans.values("stuck_at")),
        )

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[Order]]]:
        yield from super().searches(term)
        # Part of a name has no index; those who ask for it mean a recent order.
        yield lambda: newest(Order).filter(customer_name__icontains=term)

    def get_ordering(self, request: HttpRequest) -> Sequence[str]:
        # The index has those of one state by their time; by the key alone, those behind many
        # others are found last.
        return self.search_order if "state__exact" in request.GET else ("-id",)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The whole page; a part of it that looks at itself again gets itself alone."""
        region = request.headers.get("HX-Target", "") if is_live_look(request) else ""
        if region not in _REGIONS or object_id is None:
            answer: HttpResponse = super().changeform_view(
                request, object_id, form_url, extra_context
            )
            return answer
        order: Order = found_or_404(self, request, object_id)
        if not self.has_view_permission(request, order):
            raise PermissionDenied
        context = {"original": order, **_shown(request, order, only=region)}
        return TemplateResponse(request, _REGIONS[region], context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        context |= _shown(request, context["original"])
        context["versions"] = shown_versions(context["original"])
        answer: HttpResponse = super().render_change_form(request, context, **options)
        return answer

    def get_urls(self) -> list[Any]:
        take = self.admin_site.admin_view(self.evidence)
        own = path("<path:object_id>/evidence/", take, name="oms_order_evidence")
        return [own, *super().get_urls()]

    def evidence(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Everything about the order in one file."""
        order: Order = found_or_404(self, request, object_id)
        why = "" if request.method == "POST" else kept_from(request, order)
        if why:
            raise PermissionDenied(why)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            file = attempt(
                form,
                lambda: taken(reference=order.reference, actor=actor_of(request), reason=reason),
            )
            if file is not None:
                name = f"evidence-{order.reference}.zip"
                return FileResponse(file, as_attachment=True, filename=name)
        return ask(
            self,
            request,
            form=form,
            title=f"Take the evidence about {order.reference}",
            told="One file with everything about it: versions, plans, tasks, what was sent and "
            "answered, who did what by hand, and the seals over its audit trail. It is about a "
            "customer: look after it.",
            button="Take it",
            back=reverse("admin:oms_order_change", args=[order.pk]),
        )

    @display(description="state")
    def state_badge(self, order: Order) -> str:
        return badge(order.state, ORDER_SIGNS)

    @display(description="plan")
    def plan_badge(self, order: Any) -> str:
        if order.plan_state is None:
            return "—"
        shown = badge(order.plan_state, PLAN_SIGNS)
        return shown + show_badge(STUCK) if order.plan_stuck_at else shown

    @display(description="tasks done")
    def progress(self, order: Any) -> str:
        if order.plan_total is None:
            return "—"
        shown = fulfillments.progress(total=order.plan_total, still_open=order.plan_open)
        return f"{shown.done} of {shown.total}"

    @display(description="customer")
    def customer(self, order: Order) -> str:
        return order.customer_name or order.customer_id

    @display(description="client, external id")
    def theirs(self, order: Order) -> str:
        return format_html(
            '{} <span class="frame-below">{}</span>', order.client, order.external_id
        )

    @display(description="faults")
    def faults_text(self, order: Order) -> str:
        return pretty(order.faults) if order.faults else "none"

    @display(description="audit trail")
    def transitions(self, order: Order) -> str:
        text = "everything that has happened to it"
        return list_link(text, model=Transition, fulfillment__id__exact=order.fulfillment_id)

    @display(description="outbox")
    def events(self, order: Order) -> str:
        text = "what subscribers are told of it"
        return list_link(text, model=OutboxEvent, fulfillment__id__exact=order.fulfillment_id)

    @display(description="messages")
    def messages(self, order: Order) -> str:
        text = "everything that its customer was told"
        return list_link(text, model=Notification, order__id__exact=order.pk)

    @display(description="plans")
    def plans(self, order: Order) -> str:
        plans = order.fulfillment.plans.all()  # Read with the page; this is asked several times.
        return format_html_join(", ", "{}", ((link(plan),) for plan in plans)) or "—"


def _shown(request: HttpRequest, order: Order, *, only: str = "") -> dict[str, Any]:
    """What the page shows above the fields; `only` one of its regions."""
    plans = Prefetch("fulfillment__plans", Plan.objects.defer("context").order_by("pk"))
    prefetch_related_objects([order], "items", "milestones", "client", plans)
    found: dict[str, Any] = {}
    plan = fulfillments.newest_among(order.fulfillment.plans.all())
    waits = waits_of_tasks(order) if plan is not None else []
    if only in ("", "order-now"):
        found["standing"] = standing(order, plan=plan, waits=waits)
        found["may"] = may_be_done(request=request, order=order, standing=found["standing"])
    if only in ("", "order-plan"):
        found["drawn"] = drawn(plan, waits=waits, at_once=only == "order-plan")
    if only in ("", "order-entries"):
        found["history"] = shown_history(request=request, order=order)
    return found


@staff_member_required
def order_page(request: HttpRequest, reference: str) -> HttpResponse:
    """The page of the order with this reference."""
    if "\0" in reference:
        raise Http404
    order = get_object_or_404(Order.objects.only("pk"), reference=reference)
    return redirect("admin:oms_order_change", order.pk)
