"""Resources, the locks on them, who keeps each of them and who waits in line for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import reach_here
from fulfillment.admin.operating import Operable, operate_address
from fulfillment.admin.reading import ReadOnlyAdmin, link, list_address, list_link, order_link
from fulfillment.definitions.durations import brief_duration
from fulfillment.keeping import MOST, Keeper
from fulfillment.models import Resource, ResourceLock, Task
from fulfillment.queries.lines import LONGEST, Kept, Line, Waiter, kind_of, line


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKeeper:
    """Who has a lock, as a table shows it."""

    order: str
    order_address: str
    task: str
    task_address: str
    """Both empty: the whole order keeps it."""
    units: int
    since: datetime
    how_long: str
    address: str
    """Of the lock's own page."""
    break_address: str
    """Empty: whoever looks may not break it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownWaiter:
    order: str
    order_address: str
    task: str
    task_address: str
    target: str
    how_long: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLine:
    """A lock that others wait for, as a table shows it."""

    name: str
    keepers: Sequence[ShownKeeper]
    are_more: bool
    """Others share it besides those."""
    capacity: int
    waiting: str
    how_long: str
    first: Sequence[ShownWaiter]
    address: str
    """Of the list of all who wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKept:
    name: str
    keeper: ShownKeeper


def breakable(request: HttpRequest, keepers: Iterable[Keeper]) -> frozenset[int]:
    """Of these locks' numbers those that whoever looks may break; a fixed number of queries."""
    reach = reach_here(request)
    found = operations.possible_among(
        about="lock",
        pks=[one.lock_id for one in keepers],
        held=reach.held & {Action.LOCK_BREAK},
        reach=reach,
    )
    return frozenset(pk for pk, repairs in found.items() if repairs)


def shown_line(one: Line, *, may_break: Collection[int]) -> ShownLine:
    """`may_break` are the numbers of locks, as of `breakable`."""
    return ShownLine(
        name=one.name,
        keepers=[_keeper(one.name, keeper, may_break) for keeper in one.keepers],
        are_more=len(one.keepers) >= MOST,
        capacity=one.capacity,
        waiting=f"more than {LONGEST:,}" if one.is_long else f"{one.waiting:,}",
        how_long=_how_long(one.since),
        first=list(map(_waiter, one.first)),
        address=list_address(Task, waits_for_lock__exact=one.name),
    )


def shown_kept(one: Kept, *, may_break: Collection[int]) -> ShownKept:
    return ShownKept(name=one.name, keeper=_keeper(one.name, one.keeper, may_break))


def _keeper(lock: str, one: Keeper, may_break: Collection[int]) -> ShownKeeper:
    breaking = operations.repair_of(Action.LOCK_BREAK)
    subject = f"lock:{lock}@{one.order_reference}"
    return ShownKeeper(
        order=one.order_reference,
        order_address=reverse("order_page", args=[one.order_reference]),
        task=one.task,
        task_address=_page(Task, one.task_id) if one.task_id else "",
        units=one.units,
        since=one.since,
        how_long=_how_long(one.since),
        address=_page(ResourceLock, one.lock_id),
        break_address=operate_address(breaking, subject) if one.lock_id in may_break else "",
    )


def _waiter(one: Waiter) -> ShownWaiter:
    return ShownWaiter(
        order=one.order_reference,
        order_address=reverse("order_page", args=[one.order_reference]),
        task=one.task,
        task_address=_page(Task, one.task_id),
        target=one.target,
        how_long=_how_long(one.since),
    )


def _page(model: type[Task] | type[ResourceLock], pk: int) -> str:
    return reverse(f"admin:fulfillment_{model._meta.model_name}_change", args=[pk])


def _how_long(since: datetime) -> str:
    return brief_duration(max(timezone.now() - since, timedelta(0)))


@admin.register(Resource)
class ResourceAdmin(Operable, ReadOnlyAdmin):
    subject_kind = "resource"
    list_display = ("name", "capacity", "kept_by", "on_the_board")
    ordering = ("name",)
    search_fields = ("name",)
    search_order = ("name",)
    search_help_text = "Name of a resource"
    fields = (("name", "capacity", "kept_by"), "on_the_board")
    readonly_fields = ("on_the_board",)

    @display(description="locks")
    def on_the_board(self, row: Resource) -> str:
        address = f"{reverse('desk_locks')}?{urlencode({'kind': row.pk})}"
        return format_html('<a class="desk-link" href="{}">who keeps one, who waits</a>', address)


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
    change_form_outer_before_template = "desk/boards/lock.html"

    def subject_name(self, row: ResourceLock) -> str:
        return f"{row.name}@{row.fulfillment.order_reference}"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        row = context.get("original")
        if row is not None:
            found = line(name=row.name)
            context["line"] = (
                shown_line(found, may_break=breakable(request, found.keepers)) if found else None
            )
            context["how_long"] = _how_long(row.taken_at)
            context["board"] = f"{reverse('desk_locks')}?{urlencode({'kind': kind_of(row.name)})}"
        return super().render_change_form(request, context, **options)

    @display(description="order")
    def order(self, row: ResourceLock) -> str:
        return order_link(row.fulfillment.order_reference)

    @display(description="task")
    def task_link(self, row: ResourceLock) -> str:
        return link(row.task, row.task.key) if row.task else "the whole order"

    @display(description="who waits for it")
    def waiting(self, row: ResourceLock) -> str:
        return list_link("tasks that wait for it", model=Task, waits_for_lock__exact=row.name)
