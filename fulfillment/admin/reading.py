"""What all pages of the engine share: they are read-only, linked, and cheap on large tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline

from fulfillment.definitions.signs import Sign, in_words

_MOST_FOUND = 2000
_MOST_PAGED = 10_000


class NewestPaginator(Paginator):
    """Pages through the newest rows only: counting a whole table would cost more than the page,
    and what is further back is found by search and filters."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:_MOST_PAGED].count())


class Reading:
    """Nobody adds, changes or deletes here; engine rows are written by the engine alone."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(Reading, ModelAdmin):
    paginator = NewestPaginator
    show_full_result_count = False
    list_per_page = 50
    list_fullwidth = True
    ordering = ("-id",)
    actions = None

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
        for lookup in self.search_fields:
            # A word is no number, and a NUL is in no column: neither finds anything.
            with suppress(ValueError):
                rows = self.model._default_manager.filter(**{lookup: term})
                found.update(rows.order_by("-pk").values_list("pk", flat=True)[:_MOST_FOUND])
        return queryset.filter(pk__in=found), False


class ReadOnlyInline(Reading, TabularInline):
    extra = 0
    show_change_link = True
    tab = True


def link(row: Model | None, text: str = "") -> str:
    """A link to the row's page."""
    if row is None:
        return "—"
    meta = row._meta
    address = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    return format_html('<a class="desk-link" href="{}">{}</a>', address, text or str(row))


def order_link(reference: str) -> str:
    """A link to the order's page, by its reference: the engine knows no more of orders."""
    return format_html(
        '<a class="desk-link" href="{}">{}</a>', reverse("order_page", args=[reference]), reference
    )


def badge(state: str, signs: Mapping[Any, Sign]) -> SafeString:
    """Sign, word and colour of a state."""
    sign, tone = signs.get(state, ("•", "waiting"))
    return format_html(
        '<span class="desk-badge desk-{}"><span aria-hidden="true">{}</span> {}</span>',
        tone,
        sign,
        in_words(state),
    )


def pretty(value: Any) -> str:
    """A JSON value to be read by people."""
    if value is None:
        return "—"
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="desk-json">{}</pre>', text)
