"""What all pages of the engine share: they are read-only, linked, and cheap on large tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import ORDER_VAR
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import (
    DateField,
    DecimalField,
    FloatField,
    IntegerField,
    Model,
    QuerySet,
)
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import OrderBy
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.views import ChangeList

from fulfillment.definitions.signs import PLAN_SIGNS, TASK_SIGNS, Sign, in_words

_MOST_FOUND = 2000
_PAGES = {
    "plan": "plan",
    "task": "task",
    "target": "targetsystem",
    "action": "targetsystem",
    "case": "falloutcase",
    "hold": "hold",
    "calendar": "businesscalendar",
    "manual": "manualtask",
    "event": "inboundevent",
    "incident": "incident",
    "resource": "resource",
    "signal": "signal",
    "bulk": "bulkjob",
    "approval": "approval",
}
"""Models by the kind of subject that logs and holds name."""
NEWEST = 10_000
"""Rows that lists, and whatever else has no index of its own, look back."""
_WHOLE = frozenset({"exact", "in", "isnull", "isempty"})
_RANGES = frozenset({"gt", "gte", "lt", "lte"})
_ORDERED = (DateField, DecimalField, FloatField, IntegerField)
_signs: dict[str, Mapping[Any, Sign]] = {"plan": PLAN_SIGNS, "task": TASK_SIGNS}


def newest(model: type[Model]) -> QuerySet[Any]:
    """The newest rows of the model, as a range of its key.

    As a list of keys they would be joined, and the database goes through all rows for that.
    """
    rows: QuerySet[Any] = model._default_manager.order_by("-pk")
    oldest = rows.values_list("pk", flat=True)[NEWEST - 1 : NEWEST].first()
    return rows if oldest is None else rows.filter(pk__gte=oldest)


class NewestPaginator(Paginator):
    """Pages through the first rows only: counting a whole table would cost more than the page,
    and what is further back is found by search and filters."""

    most = NEWEST

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:NEWEST].count())


class NewestValues(admin.AllValuesFieldListFilter):
    """Offers the values that the newest rows have: those of all would take a scan of the table."""

    def __init__(
        self,
        field: Any,
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: admin.ModelAdmin,
        field_path: str,
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        values = model._default_manager.order_by("-pk").values_list(field_path)[:NEWEST]
        statement, given = values.query.sql_with_params()
        with connection.cursor() as raw:
            raw.execute(f"SELECT DISTINCT newest.* FROM ({statement}) newest", given)
            self.lookup_choices: Any = sorted(value for (value,) in raw.fetchall())


class OfferedOrder(ChangeList):
    """A list in the order of an index, or of a heading that offers it: an address that asks for
    another would have the whole table sorted."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        if self.model_admin.sortable_by is not None and not self.model_admin.sortable_by:
            self.params.pop(ORDER_VAR, None)
        found: list[Any] = super().get_ordering(request, queryset)
        return found


class LeanList(OfferedOrder):
    """A list without the columns that no list shows; the page of one row shows them all."""

    def get_queryset(self, request: HttpRequest, *options: Any, **named: Any) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request, *options, **named)
        return rows.defer(*self.model_admin.list_left_out)


class DeskAdmin(ModelAdmin):
    """Lists are asked for what they offer, and for no more.

    Parts of a text would be told letter by letter (secrets, too), and what has no index is looked
    for in all rows. A NUL is in no column, and PostgreSQL refuses to be asked for one.
    """

    also_filtered: tuple[str, ...] = ()
    """Columns that addresses of the desk filter by, beside those of filters and indexes."""
    when_empty = ""
    """What it means that there is no row, where people make rows; or they come by themselves."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return OfferedOrder

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        filters = self.get_list_filter(request)
        if lookup in {getattr(one, "parameter_name", "") for one in filters}:
            return True
        columns = [one[0] if isinstance(one, tuple) else one for one in filters]
        offered = [*(one for one in columns if isinstance(one, str)), *self.also_filtered]
        for column in (*offered, lookup.partition(LOOKUP_SEP)[0]):
            if not f"{lookup}{LOOKUP_SEP}".startswith(f"{column}{LOOKUP_SEP}"):
                continue
            with suppress(FieldDoesNotExist):
                field = get_fields_from_path(self.model, column)[-1]
                if column in offered or _leads_an_index(field):
                    how = lookup.removeprefix(column).split(LOOKUP_SEP)[1:]
                    return _is_compared_whole(field, how)
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if _has_nul(request):
            return HttpResponseRedirect(request.path)
        try:
            answer: HttpResponse = super().changelist_view(request, extra_context)
        except DisallowedModelAdminLookup:
            messages.warning(request, "This list is not filtered like that, so it shows all rows.")
            return HttpResponseRedirect(request.path)
        return answer

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if _has_nul(request):
            return HttpResponseRedirect(request.path)
        answer: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        return answer


def _has_nul(request: HttpRequest) -> bool:
    return any("\0" in value for _, values in request.GET.lists() for value in values)


def _leads_an_index(field: Any) -> bool:
    """Whether rows with a value of it are found without looking at all of them."""
    if field.auto_created and not field.concrete:
        return False  # What other tables say of it.
    if field.is_relation or field.primary_key or field.unique or field.db_index:
        return True
    meta = field.model._meta
    indexes = [*meta.indexes, *meta.constraints]
    first = (next(iter(getattr(one, "fields", ())), "") for one in indexes)
    return field.name in {name.removeprefix("-") for name in first}


def _is_compared_whole(field: Any, how: list[str]) -> bool:
    """Whether an address asks for one of its values, or for a range of times or numbers."""
    if field.is_relation and how[:1] == [field.target_field.name]:
        how = how[1:]
    ways = _WHOLE | _RANGES if isinstance(field, _ORDERED) else _WHOLE
    return not how or (len(how) == 1 and how[0] in ways)


class Reading:
    """Nobody adds, changes or deletes here; engine rows are written by the engine alone."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(Reading, DeskAdmin):
    """`list_left_out` are columns that may be large and that no list shows."""

    change_form_template = "desk/frame/read_only.html"
    paginator = NewestPaginator
    show_full_result_count = False
    # Counting every filter's rows, and sorting by what has no index, scan the table.
    show_facets = admin.ShowFacets.NEVER
    sortable_by: tuple[str, ...] = ()
    list_left_out: tuple[str, ...] = ()
    list_per_page = 50
    list_fullwidth = True
    ordering: tuple[str | OrderBy, ...] = ("-id",)
    search_order: tuple[str, ...] = ("-pk",)
    actions: tuple[str, ...] | None = None

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return LeanList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Rows that one of `search_fields` names exactly, each by its own index.

        Django would put them together as one OR over joins, which no index serves.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        found: set[int] = set()
        for rows in self.searches(term):
            # A word is no number, and a NUL is in no column: neither finds anything.
            with suppress(ValueError):
                first = rows().order_by(*self.search_order)
                found.update(first.values_list("pk", flat=True)[:_MOST_FOUND])
        return queryset.filter(pk__in=found), False

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[Any]]]:
        """What is asked for `term`: functions that return rows, or raise ValueError."""
        for lookup in self.search_fields:
            yield partial(self.model._default_manager.filter, **{lookup: term})


class ReadOnlyInline(Reading, TabularInline):
    """Its column `row` links to the row's page; `follow` are the relations that columns name."""

    extra = 0
    hide_title = True
    tab = True
    per_page = 100
    ordering: tuple[str, ...] = ("pk",)
    follow: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        if self.follow:
            rows = rows.select_related(*self.follow)
        return rows.defer(*self.left_out)

    @display(description="what")
    def row(self, row: Model) -> str:
        return link(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A state as it is shown; `tone` only repeats what sign and words say."""

    sign: str
    tone: str
    words: str


def badge_of(state: str, signs: Mapping[Any, Sign]) -> Badge:
    sign, tone = signs.get(state, ("•", "waiting"))
    return Badge(sign=sign, tone=tone, words=in_words(str(state)))


def badge(state: str, signs: Mapping[Any, Sign]) -> SafeString:
    """Sign, word and colour of a state."""
    return show_badge(badge_of(state, signs))


def show_badge(shown: Badge) -> SafeString:
    return format_html(
        '<span class="desk-badge desk-{}"><span aria-hidden="true">{}</span> {}</span>',
        shown.tone,
        shown.sign,
        shown.words,
    )


def register_signs(*, entity: str, signs: Mapping[Any, Sign]) -> None:
    """How the audit trail shows the states of an entity that the engine knows by name only."""
    _signs[entity] = signs


def signs_of(entity: str) -> Mapping[Any, Sign]:
    return _signs.get(entity, {})


def link(row: Model | None, text: str = "") -> str:
    """A link to the row's page."""
    if row is None:
        return "—"
    meta = row._meta
    address = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    return format_html('<a class="desk-link" href="{}">{}</a>', address, text or str(row))


def list_link(text: str, *, model: type[Model], **lookups: Any) -> str:
    """A link to the list of the model's rows that have these values."""
    return format_html(
        '<a class="desk-link" href="{}">{}</a>', list_address(model, **lookups), text
    )


def list_address(model: type[Model], **lookups: Any) -> str:
    """The list of the model's rows that have these values."""
    meta = model._meta
    address = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    return f"{address}?{urlencode(lookups)}" if lookups else address


def order_link(reference: str) -> str:
    """A link to the order's page, by its reference: the engine knows no more of orders."""
    return format_html(
        '<a class="desk-link" href="{}">{}</a>', reverse("order_page", args=[reference]), reference
    )


def address_of(subject: str) -> str:
    """The page of what a subject such as `order:O-17` or `task:9` names; empty: it has none."""
    kind, _, name = subject.partition(":")
    page = "order_page" if kind in ("order", "item") else ""
    if kind in _PAGES:
        page = f"admin:fulfillment_{_PAGES[kind]}_change"
    if kind == "lock" and name:  # Its page has a number, which its name does not tell.
        asked = urlencode({"name__exact": name.rpartition("@")[0] or name})
        return f"{reverse('admin:fulfillment_resourcelock_changelist')}?{asked}"
    if kind in ("order", "item", "action"):
        name = name.partition("/")[0]
    with suppress(NoReverseMatch):  # No page is called like that: empty, or of several lines.
        return reverse(page, args=[name]) if page and name else ""
    return ""


def subject_link(subject: str) -> str:
    """A link to what a subject such as `order:O-17` or `task:9` names."""
    address = address_of(subject)
    if not address:
        return subject
    return format_html('<a class="desk-link" href="{}">{}</a>', address, subject)


def pretty(value: Any) -> str:
    """A JSON value to be read by people."""
    if value is None:
        return "—"
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def preformatted(text: str) -> str:
    return format_html('<pre class="desk-json" tabindex="0">{}</pre>', text)
