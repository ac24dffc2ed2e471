"""The form of any operation: its parameters as they are declared, why, and on what evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from fulfillment import operations
from fulfillment.admin.asking import ReasonForm, enter_goes_on, focus_first
from fulfillment.authority.authorizing import who_may
from fulfillment.errors import (
    DefinitionInvalid,
    EvidenceMissing,
    FulfillmentError,
    ParametersInvalid,
)
from fulfillment.operations.fields import FieldKind, ParameterField, fields_of, numbers_of

PARAMETER = "parameter-"
"""Before the names of the parameters, which may be called like those of the form."""
YES = (("", "—"), ("true", "yes"), ("false", "no"))
MANY_LINES = 20
_FEW_LINES = 4
MakeField = Callable[[ParameterField], forms.Field]
_own_fields: dict[tuple[str, str], MakeField] = {}


def register_field(*, repair: type[operations.Repair], name: str, make: MakeField) -> None:
    """Called while apps start: this parameter is asked for by a field of its own."""
    _own_fields[repair.kind, name] = make


class JsonText(forms.CharField):
    """A list or an object; nothing when it is left empty."""

    def __init__(self, *, rows: int = _FEW_LINES, **options: Any) -> None:
        attrs = {"rows": rows, "spellcheck": "false", "class": "desk-code"}
        super().__init__(widget=UnfoldAdminTextareaWidget(attrs=attrs), **options)

    def prepare_value(self, value: Any) -> Any:
        """As people read it, where it is no text yet."""
        if isinstance(value, Mapping | list):
            return json.dumps(value, indent=2, ensure_ascii=False)
        return value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from None


class Numbers(forms.CharField):
    """Several whole numbers; nothing when it is left empty."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return numbers_of(text) or None
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class OperationForm(ReasonForm):
    """Its parameters, typed as they are declared, why it is done, and what that rests on.

    What agrees to the preview is no field of it: it is asked for beside the preview, and is no
    part of what was previewed.
    """

    evidence = forms.CharField(
        max_length=4000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="What you have found out, and where it can be seen: a ticket, a screen of the "
        "target system, a name.",
    )

    def __init__(
        self,
        repair: operations.Repair,
        *args: Any,
        suggested: Mapping[str, Any] | None = None,
        given: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """`suggested` are parameters; `given` are fields as an address fills them in."""
        super().__init__(*args, **options)
        self.agreed = repair.agreed
        self.asked = {f"{PARAMETER}{one.name}": one for one in fields_of(repair)}
        for name, field in self.asked.items():
            make = _own_fields.get((repair.kind, field.name), _form_field)
            self.fields[name] = make(field)
        for name, action in repair.people.items():
            self._offer(f"{PARAMETER}{name}", who_may(action=action))
        for name in self.agreed:
            self.fields[f"{PARAMETER}{name}"].widget = forms.HiddenInput()
        self.fields["evidence"].required = repair.needs_evidence
        self.order_fields([*self.asked, "reason", "evidence"])
        for name, value in (suggested or {}).items():
            chosen = YES[1 if value else 2][0] if isinstance(value, bool) else value
            self.initial[f"{PARAMETER}{name}"] = chosen
            if isinstance(value, Mapping):
                self.fields[f"{PARAMETER}{name}"].widget.attrs["rows"] = MANY_LINES
        filled = {name: text for name, text in (given or {}).items() if name in self.fields}
        self.initial.update(filled)
        focus_first(self)
        enter_goes_on(self.fields["evidence"])

    def _offer(self, name: str, names: list[str]) -> None:
        """To be chosen from while one types (`desk/operate/field.html`). Others are not refused
        here: the operation knows who may have what it is about, and says why not."""
        field = self.fields[name]
        field.offered = names  # type: ignore[attr-defined]
        field.widget.attrs |= {"autocomplete": "off", "list": f"id_{name}_offered"}

    def shown(self) -> list[forms.BoundField]:
        """What is asked for before anything is previewed."""
        return self.visible_fields()

    def entered(self) -> dict[str, Any]:
        """Parameters that were given, by their names; what was left empty has its default."""
        found = {}
        for name, field in self.asked.items():
            value = self.cleaned_data.get(name)
            if isinstance(value, datetime):
                value = value.replace(tzinfo=value.tzinfo or UTC).isoformat()
            if value not in (None, ""):
                found[field.name] = value
        return found

    def digest(self) -> str:
        """Of all that was entered: what was previewed and what is done are the same."""
        entered = {name: one for name, one in self.entered().items() if name not in self.agreed}
        told = [entered, self.cleaned_data["reason"], self.cleaned_data["evidence"]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def refuse(self, error: FulfillmentError) -> bool:
        """Say what is wrong beside the field that it is about. False: it is about none."""
        if isinstance(error, EvidenceMissing):
            self.add_error("evidence", str(error))
            return True
        if not isinstance(error, ParametersInvalid | DefinitionInvalid):
            return False
        for fault in error.faults:
            name = f"{PARAMETER}{fault.path.partition('.')[0]}"
            self.add_error(name if name in self.fields else None, fault.message)
        return True


def _form_field(field: ParameterField) -> forms.Field:
    common: dict[str, Any] = {
        "label": field.title,
        "required": field.is_required,
        "help_text": field.help,
    }
    match field.kind:
        case FieldKind.INTEGER:
            return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget(), **common)
        case FieldKind.NUMBER:
            widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
            return forms.FloatField(widget=widget, **common)
        case FieldKind.YES_NO:
            return forms.TypedChoiceField(
                choices=YES,
                coerce=lambda chosen: chosen == "true",
                empty_value=None,
                widget=UnfoldAdminSelectWidget(),
                **common,
            )
        case FieldKind.CHOICE:
            choices = list(_choices(field))
            return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget(), **common)
        case FieldKind.TIME:
            widget = forms.DateTimeInput(
                format="%Y-%m-%dT%H:%M",
                attrs={"type": "datetime-local", "class": " ".join(INPUT_CLASSES)},
            )
            common["help_text"] = f"{common['help_text']} In UTC.".strip()
            return forms.DateTimeField(widget=widget, **common)
        case FieldKind.NUMBERS:
            return Numbers(widget=UnfoldAdminTextInputWidget(), **common)
        case FieldKind.JSON:
            common["help_text"] = f"{common['help_text']} Written as JSON.".strip()
            return JsonText(**common)
    return forms.CharField(max_length=10_000, widget=UnfoldAdminTextInputWidget(), **common)


def _choices(field: ParameterField) -> Iterator[tuple[str, str]]:
    if not field.is_required:
        usual = field.default
        yield "", f"as usual: {str(usual).lower()}" if usual else "—"
    for choice in field.choices:
        yield choice, choice.lower().replace("_", " ")
