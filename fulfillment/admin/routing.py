"""The rules about who gets which cases."""

from __future__ import annotations

from django.contrib import admin

from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import ReadOnlyAdmin
from fulfillment.models import RoutingRule


@admin.register(RoutingRule)
class RoutingRuleAdmin(Operable, ReadOnlyAdmin):
    """Read here; written by the operation `routing.edit`, which keeps a record."""

    subject_kind = "routing"
    when_empty = "Every case goes to the queue that its kind usually goes to."

    list_display = (
        "name",
        "position",
        "category",
        "target",
        "action",
        "reason_code",
        "owner_queue",
        "severity",
        "sla",
        "calendar",
        "escalation_queue",
    )
    ordering = ("position", "name")
    search_fields = ("name",)
    search_help_text = "Name of a rule"
    fields = (
        ("name", "position"),
        ("category", "reason_code"),
        ("target", "action"),
        ("owner_queue", "role"),
        ("severity", "escalation_queue"),
        ("sla", "calendar"),
        "updated_at",
    )
