"""Target systems, which operators edit live, and the published workflows."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from adapters.registry import AdapterMisconfigured, known_kinds
from fulfillment.admin.reading import (
    DeskAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    preformatted,
    pretty,
)
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine import targets
from fulfillment.errors import FulfillmentError
from fulfillment.models import TargetSystem, WorkflowSelector, WorkflowVersion


class _Indented(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2})


class SettingsField(forms.JSONField):
    """A JSON object, shown over several lines; nothing at all is an empty one."""

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise forms.ValidationError(
                'Give one JSON object, such as {"base_url": "https://billing.example"}.',
                code="not_an_object",
            )
        return found


class TargetSystemForm(forms.ModelForm):
    """Refuses a row that could not send anything, in the words of whoever would refuse it later."""

    settings = SettingsField(
        required=False,
        encoder=_Indented,
        widget=UnfoldAdminTextareaWidget(),
        initial=dict,
        help_text=TargetSystem._meta.get_field("settings").help_text,
    )
    sender_slots = forms.IntegerField(
        min_value=1,
        max_value=1000,
        initial=16,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=TargetSystem._meta.get_field("sender_slots").help_text,
    )

    class Meta:
        model = TargetSystem
        exclude = ("updated_at",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, choices in (("queue", settings.OMS_TARGET_QUEUES), ("adapter", known_kinds())):
            if name in self.fields:
                shown = [(choice, choice) for choice in choices]
                if getattr(self.instance, name) not in choices:
                    # Otherwise the browser would choose the first, and nobody would notice.
                    shown.insert(0, ("", "choose one"))
                self.fields[name] = forms.ChoiceField(
                    choices=shown,
                    widget=UnfoldAdminSelectWidget(),
                    help_text=self.fields[name].help_text,
                )

    def clean_reconcile_after(self) -> timedelta:
        pause: timedelta = self.cleaned_data["reconcile_after"]
        if pause < timedelta(0):
            raise forms.ValidationError("Give a time that is not negative, such as 00:00:02.")
        return pause

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                targets.check(TargetSystem(**{"name": self.instance.pk, **cleaned}))
            except (AdapterMisconfigured, FulfillmentError) as error:
                raise forms.ValidationError(str(error), code=error.code) from error
        return cleaned


@admin.register(TargetSystem)
class TargetSystemAdmin(DeskAdmin):
    form = TargetSystemForm
    list_display = (
        "name",
        "title",
        "queue",
        "adapter",
        "idempotent",
        "status_query",
        "asynchronous",
        "sender_slots",
    )
    list_filter = ("queue", "adapter")
    search_fields = ("name", "title")
    fields = (
        ("name", "title"),
        ("queue", "adapter"),
        "settings",
        "idempotent",
        "status_query",
        "asynchronous",
        ("sender_slots", "maximum_queries"),
        "reconcile_after",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Plans name their targets; a target by another name is another target.
        return ("name",) if obj is not None else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.updated_at = timezone.now()
        super().save_model(request, obj, form, change)


class SelectorInline(ReadOnlyInline):
    model = WorkflowSelector
    fields = ("offering", "action")
    readonly_fields = fields


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "title", "offerings", "published_at", "published_by")
    list_left_out = ("document",)
    search_fields = ("name", "selectors__offering")
    search_help_text = "Name of the workflow, or an offering"
    fields = (
        ("name", "version"),
        "title",
        ("published_at", "published_by"),
        "content_hash",
        "document_text",
        "flowchart",
    )
    readonly_fields = ("document_text", "flowchart")
    inlines = (SelectorInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        rows: QuerySet[WorkflowVersion] = super().get_queryset(request)
        return rows.annotate(offering_count=Count("selectors"))

    @display(description="fulfils")
    def offerings(self, workflow: Any) -> str:
        return f"{workflow.offering_count} offerings and actions"

    @display(description="as published")
    def document_text(self, workflow: WorkflowVersion) -> str:
        return pretty(workflow.document)

    @display(description="flowchart (Mermaid)")
    def flowchart(self, workflow: WorkflowVersion) -> str:
        return preformatted(mermaid(WorkflowDefinition.from_document(workflow.document)))
