"""The log of operations: what people, and the breakers, did to the engine itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.contrib import admin
from django.db.models import QuerySet
from unfold.decorators import display

from fulfillment.admin.operating import Operating
from fulfillment.admin.reading import NewestValues, ReadOnlyAdmin, pretty, subject_link
from fulfillment.definitions.signs import in_words
from fulfillment.models import Operation


@admin.register(Operation)
class OperationAdmin(Operating, ReadOnlyAdmin):
    list_display = ("happened_at", "kind_words", "what", "reason", "actor")
    list_filter = (
        ("kind", NewestValues),
        ("subject", NewestValues),
        ("order_reference", admin.EmptyFieldListFilter),
    )
    search_fields = ("subject", "actor")
    search_help_text = "A subject, such as target:billing or order:O-17, or who did it"
    fields = (
        ("kind_words", "what"),
        ("actor", "happened_at"),
        "reason",
        "before_text",
        "after_text",
        ("authority", "approval"),
        "evidence",
        ("customer_impact", "financial_impact"),
    )
    readonly_fields = ("kind_words", "what", "before_text", "after_text")

    def searches(self, term: str) -> Iterable[Callable[[], QuerySet[Operation]]]:
        yield from super().searches(term)
        kinds = ("order", "item", "plan", "task", "target", "customer", "case")
        yield lambda: Operation.objects.filter(subject__in=[f"{kind}:{term}" for kind in kinds])

    @display(description="what was done")
    def kind_words(self, operation: Operation) -> str:
        return in_words(operation.kind)

    @display(description="to what")
    def what(self, operation: Operation) -> str:
        return subject_link(operation.subject)

    @display(description="before")
    def before_text(self, operation: Operation) -> str:
        return pretty(operation.before or None)

    @display(description="after")
    def after_text(self, operation: Operation) -> str:
        return pretty(operation.after or None)
