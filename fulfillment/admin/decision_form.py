"""The form of a decision: what the manual task asks for, typed as it is declared, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from fulfillment.admin.asking import ReasonForm, enter_goes_on, focus_first
from fulfillment.admin.operation_form import YES, JsonText
from fulfillment.definitions.signs import in_words
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import ManualTask

_HARMLESS = frozenset({"proceed", "refuse", "undo", "ask_customer", "requote", "cancel"})
"""Effects that nobody has to bring evidence for."""
_VALUE = "value-"
"""Before the names of the declared fields, which may be called like those of the form."""
_MEANING: Mapping[str, str] = {
    "happened": "Whether the target system has done it, as far as you have found out.",
    "reference": "Under which the target system knows it.",
}
"""Of the fields that the engine itself asks for."""


class DecisionForm(ReasonForm):
    """Whether a value may be missing depends on the outcome, so the operation says it."""

    question = forms.CharField(
        max_length=1000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="To the customer, word for word as they get it; or what has to be quoted anew.",
    )
    evidence = forms.CharField(
        max_length=4000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="What you have found out, and where it can be seen.",
    )

    def __init__(self, manual: ManualTask, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.values = {f"{_VALUE}{name}": name for name in manual.fields}
        for name, spec in manual.fields.items():
            self.fields[f"{_VALUE}{name}"] = _field(name, spec)
        if not {"ask_customer", "requote"} & set(manual.outcomes.values()):
            del self.fields["question"]
        if _HARMLESS.issuperset(manual.outcomes.values()):
            del self.fields["evidence"]
        self.order_fields([*self.values, "question", "reason", "evidence"])
        # With several outcomes, Enter would choose one that nobody has chosen.
        self.fields["reason"].widget.attrs.pop("data-enter-goes-on", None)
        if len(manual.outcomes) == 1:
            enter_goes_on(self.fields["reason"])
        focus_first(self)

    def entered(self) -> dict[str, Any]:
        """Values that were given, by their declared names."""
        found = {name: self.cleaned_data.get(field) for field, name in self.values.items()}
        return {name: value for name, value in found.items() if value not in (None, "")}

    def digest(self, outcome: str) -> str:
        """Of all that was entered, with the outcome: what was previewed and what is done are the
        same."""
        told = [outcome, self.entered(), *(self.text(name) for name in _TEXTS)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def text(self, name: str) -> str:
        return str(self.cleaned_data.get(name, ""))

    def refuse(self, error: DefinitionInvalid) -> None:
        """Say of each value what is wrong with it, beside it."""
        for fault in error.faults:
            field = f"{_VALUE}{fault.path.removeprefix('values.')}"
            known = field if field in self.fields else fault.path
            self.add_error(known if known in self.fields else None, fault.message)


_TEXTS = ("question", "reason", "evidence")


def _field(name: str, spec: Mapping[str, Any]) -> forms.Field:
    told = [_MEANING.get(name, ""), "May be left empty." if spec["optional"] else ""]
    common: dict[str, Any] = {
        "label": in_words(name).capitalize(),
        "required": False,
        "help_text": " ".join(filter(None, told)),
    }
    match spec["type"]:
        case "integer":
            return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget(), **common)
        case "number":
            widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
            return forms.FloatField(widget=widget, **common)
        case "boolean":
            return forms.TypedChoiceField(
                choices=YES,
                coerce=lambda chosen: chosen == "true",
                empty_value=None,
                widget=UnfoldAdminSelectWidget(),
                **common,
            )
        case "list" | "object":
            written = "a list" if spec["type"] == "list" else "an object"
            common["help_text"] = f"{common['help_text']} Written as JSON: {written}.".strip()
            return JsonText(**common)
    return forms.CharField(max_length=10_000, widget=UnfoldAdminTextInputWidget(), **common)
