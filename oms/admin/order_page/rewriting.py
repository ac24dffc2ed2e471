"""The field of the form that changes an order: its lines, and the same as JSON for all the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.widgets import BASE_INPUT_CLASSES

from fulfillment.admin.operation_form import MANY_LINES, JsonText
from fulfillment.operations.fields import ParameterField
from fulfillment.queries.versions_in_use import offerings
from oms.repairs.rewriting import PRICES, Line, entries_of, faults_of, lines_of, rewritten
from oms.states import ItemAction

_LABELS = {"one_off": "once", "recurring": "each period"}
_CLASSES = " ".join(BASE_INPUT_CLASSES)
_OFFERED = "order-offerings"
"""The list of what may be ordered, by which a browser helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that is asked for; `told` says to whoever does not see the table what it is of."""

    name: str
    label: str
    told: str
    value: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    is_number: bool = False
    is_long: bool = False
    offered: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLine:
    name: str
    action: str
    offering: str
    depth: int
    quantity: Entry
    prices: list[Entry]
    attributes: list[Entry]
    out: str
    """The name of the box that leaves it out."""


class _Lines(forms.Textarea):
    """What is entered beside the lines comes back as one text: the order that it makes."""

    use_fieldset = True

    def __init__(self, json_text: forms.Widget) -> None:
        super().__init__(json_text.attrs)
        self.json_text = json_text

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        text = self.json_text.value_from_datadict(data, files, name)
        order, shown = _document(text), _document(data.get(f"{name}-shown"))
        if order is None or shown is None:
            return text
        start = f"{name}-line-"
        entered = {key.removeprefix(start): str(data[key]) for key in data if key.startswith(start)}
        return _text(rewritten(order=order, shown=shown, entered=entered))

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        order = _document(value)
        lines = [] if order is None else lines_of(order)
        given = {"rows": MANY_LINES, "aria-label": "Order as JSON", **(attrs or {})}
        shown = {
            "name": name,
            "shown": "" if order is None else _text(order),
            "lines": [_shown(line, at, name) for at, line in enumerate(lines)],
            "new": [] if order is None else _new(lines, name),
            "classes": _CLASSES,
            "offered": _OFFERED,
            "offerings": offerings(),
            "json": self.json_text.render(name, value, given, renderer),
        }
        return SafeString(render_to_string("desk/order/rewriting.html", shown))


class OrderField(JsonText):
    """An order as it is submitted, entered line by line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.widget = _Lines(self.widget)
        self.widget.is_required = self.required

    def clean(self, value: Any) -> Any:
        order = super().clean(value)
        if isinstance(order, Mapping) and (faults := list(faults_of(order))):
            raise forms.ValidationError(faults)
        return order


def order_field(field: ParameterField) -> OrderField:
    """For the parameter `order` of what changes one."""
    return OrderField(
        label="The order, as it shall be",
        required=field.is_required,
    )


def _document(value: Any) -> dict[str, Any] | None:
    """The order, where it is one that has lines."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) and isinstance(value.get("items"), list) else None


def _text(order: Mapping[str, Any]) -> str:
    return json.dumps(order, indent=2, ensure_ascii=False)


def _shown(line: Line, at: int, name: str) -> ShownLine:
    now = entries_of(line)

    def entry(of: str, label: str, **options: Any) -> Entry:
        told = f"{label.capitalize()} of {line.name}"
        return Entry(
            name=f"{name}-line-{at}-{of}", label=label, told=told, value=now[of], **options
        )

    currency = str(line.price.get("currency", ""))
    return ShownLine(
        name=line.name,
        action=str(line.item.get("action", "")).replace("_", " "),
        offering=str(line.item.get("offering", "")),
        depth=line.depth,
        quantity=entry("quantity", "quantity", is_number=True),
        prices=[
            entry(one, f"{_LABELS[one]}, {currency}", is_number=True)
            for one in PRICES
            if one in now
        ],
        attributes=[
            *(entry(f"attribute-{n}", one) for n, one in enumerate(line.attributes)),
            entry("attributes", "add", hint="speed = 100", is_long=True),
        ],
        out=f"{name}-line-{at}-is_out",
    )


def _new(lines: list[Line], name: str) -> list[Entry]:
    """What one more line is made of; nothing is added without an offering."""
    currency = next((str(one.price["currency"]) for one in lines if one.price.get("currency")), "")
    nowhere = ("", "of the order itself")
    actions = tuple((one.value, one.value.replace("_", " ")) for one in ItemAction)
    within = (nowhere, *((one.name, f"part of {one.name}") for one in lines))
    parts: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("offering", "offering", {"offered": _OFFERED}),
        ("action", "what to do", {"choices": actions}),
        ("quantity", "quantity", {"is_number": True, "value": "1"}),
        ("within", "where", {"choices": within}),
        ("one_off", "price, once", {"is_number": True}),
        ("recurring", "price, each period", {"is_number": True}),
        ("currency", "currency", {"value": currency}),
        ("asset", "what the customer has", {"hint": "asset"}),
        ("attributes", "attributes", {"is_long": True, "hint": "speed = 100"}),
    )
    return [
        Entry(name=f"{name}-line-new-{of}", label=label, told=f"New line: {label}", **options)
        for of, label, options in parts
    ]
