"""What orders lock: how much there is of each resource, and who has it."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from fulfillment.admin.operating import Operable
from fulfillment.admin.reading import ReadOnlyAdmin, link, list_link, order_link
from fulfillment.models import Resource, ResourceLock, Task


@admin.register(Resource)
class ResourceAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "resource"
    list_display = ("name", "capacity", "kept_by")
    ordering = ("name",)
    search_fields = ("name",)
    search_order = ("name",)
    search_help_text = "Name of a resource"
    fields = (("name", "capacity", "kept_by"),)


@admin.register(ResourceLock)
class ResourceLockAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "lock"
    list_display = ("name", "units", "order", "task_link", "taken_at")
    list_select_related = ("fulfillment", "task")
    list_left_out = ("task__outputs",)
    search_fields = ("name", "fulfillment__order_reference")
    search_help_text = "The whole name, such as customer:C-17, or the order's reference"
    fields = (("name", "units"), ("order", "task_link"), "taken_at", "waiting")
    readonly_fields = ("order", "task_link", "waiting")

    def subject_name(self, row: ResourceLock) -> str:
        return f"{row.name}@{row.fulfillment.order_reference}"

    @display(description="order")
    def order(self, row: ResourceLock) -> str:
        return order_link(row.fulfillment.order_reference)

    @display(description="task")
    def task_link(self, row: ResourceLock) -> str:
        return link(row.task, row.task.key) if row.task else "the whole order"

    @display(description="who waits for it")
    def waiting(self, row: ResourceLock) -> str:
        return list_link("tasks that wait for it", model=Task, waits_for_lock__exact=row.name)
