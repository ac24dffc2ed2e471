"""The form of a target system: what it can do, and how it is protected, in plain words."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from adapters.registry import AdapterMisconfigured, known_kinds
from fulfillment.definitions.target_rows import MOST_PER_SECOND, whole_number_bounds
from fulfillment.engine.store import targets
from fulfillment.errors import FulfillmentError, RetryPoliciesInvalid
from fulfillment.models import TargetSystem

FIELDSETS = (
    (None, {"fields": (("name", "title"), ("queue", "adapter"), "settings")}),
    (
        "What it can do",
        {
            "fields": (
                "idempotent",
                "status_query",
                "asynchronous",
                ("reconcile_after", "maximum_queries"),
            ),
            "description": "What the engine may rely on when an outcome is not known.",
        },
    ),
    (
        "How much it is sent",
        {
            "fields": (
                ("concurrency_limit", "sender_slots"),
                ("query_slots", "accepted_holds_slot"),
                ("rate_per_second", "rate_burst"),
                "ramp",
            ),
            "description": "Limits count over all workers, and work within a second of saving.",
        },
    ),
    (
        "When it does not answer",
        {
            "fields": (("breaker_failures", "breaker_pause"), "breaker_probes"),
            "description": "The circuit breaker: after so many calls in a row without a usable "
            "answer it is left alone for a while, then tried with a few calls.",
        },
    ),
    (
        "How often it is tried",
        {
            "fields": ("retry_policies", "lost_leases_limit"),
            "description": "How often and how far apart a command is sent that had no effect.",
        },
    ),
    (None, {"fields": ("why",)}),
)
_BOUNDS = whole_number_bounds()
_POLICIES = '{"*": {"maximum_attempts": 8, "initial_interval": "PT2S"}}'


class _Indented(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2})


class ObjectField(forms.JSONField):
    """A JSON object, shown over several lines; nothing at all is an empty one."""

    def __init__(self, *, example: str, **options: Any) -> None:
        self._example = example
        widget = UnfoldAdminTextareaWidget()
        super().__init__(
            **{
                "required": False,
                "encoder": _Indented,
                "widget": widget,
                "initial": dict,
                **options,
            }
        )

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise forms.ValidationError(
                f"Give one JSON object, such as {self._example}.", code="not_an_object"
            )
        return found


class TargetSystemForm(forms.ModelForm):
    """Refuses a row that could not send anything, in the words of whoever would refuse it later."""

    settings = ObjectField(
        example='{"base_url": "https://billing.example"}',
        help_text=TargetSystem._meta.get_field("settings").help_text,
    )
    retry_policies = ObjectField(
        example=_POLICIES,
        help_text="By action, “*” for every other; a workflow's own policy goes before. Such as "
        f"{_POLICIES}; also backoff_coefficient, maximum_interval, retryable and non_retryable "
        "(lists of codes), reconcile_first, escalate_after.",
    )
    why = forms.CharField(
        label="Why you change it",
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="For the log of operations, which keeps what was changed as well.",
    )

    class Meta:
        model = TargetSystem
        exclude = ("updated_at",)
        error_messages: ClassVar[dict[str, dict[str, str]]] = {
            "name": {"invalid": "Letters, digits, - and _ only, without spaces: such as billing-2."}
        }
        labels = {
            "idempotent": "Deduplicates by key",
            "status_query": "Can be asked",
            "asynchronous": "Reports later",
            "reconcile_after": "Asked after",
            "maximum_queries": "Questions at the most",
            "concurrency_limit": "Calls at the same time",
            "sender_slots": "Of one worker process",
            "query_slots": "Of these, questions",
            "accepted_holds_slot": "Accepted work counts",
            "rate_per_second": "Calls per second",
            "rate_burst": "Burst",
            "ramp": "Ramp",
            "breaker_failures": "Failures in a row",
            "breaker_pause": "Left alone for",
            "breaker_probes": "Probes",
            "lost_leases_limit": "Lost workers",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (least, most) in _BOUNDS.items():
            if name in self.fields:
                field = self.fields[name]
                field.validators += [MinValueValidator(least), MaxValueValidator(most)]
                field.widget.attrs.update({"min": least, "max": most})
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

    def clean_rate_per_second(self) -> float | None:
        rate: float | None = self.cleaned_data["rate_per_second"]
        if rate is not None and not 0 < rate <= MOST_PER_SECOND:
            raise forms.ValidationError(
                f"Give calls per second above 0 and up to {MOST_PER_SECOND:,}, or leave it empty: "
                "no limit. To send nothing at all, pause the target system."
            )
        return rate

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name in ("reconcile_after", "breaker_pause", "ramp"):
            time = cleaned.get(name)
            if time is not None and time < timedelta(0):
                self.add_error(name, "Give a time that is not negative, such as 00:00:02.")
        if not self.errors:
            self._check({name: value for name, value in cleaned.items() if name != "why"})
        return cleaned

    def _check(self, values: dict[str, Any]) -> None:
        try:
            targets.check(TargetSystem(**{"name": self.instance.pk, **values}))
        except RetryPoliciesInvalid as error:
            self.add_error("retry_policies", forms.ValidationError(str(error), code=error.code))
        except (AdapterMisconfigured, FulfillmentError) as error:
            self.add_error(None, forms.ValidationError(str(error), code=error.code))
