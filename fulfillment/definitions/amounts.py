"""Amounts of money as templates give them: what a refund or a cost comes to."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

DECIMALS = 4
"""As prices of orders have."""
_BELOW = 10**12
_TEXT = re.compile(rf"[0-9]{{1,12}}(\.[0-9]{{1,{DECIMALS}}})?")
_PLACES = Decimal(1).scaleb(-DECIMALS)
_CENT = Decimal("0.01")


def amount_of(value: Any) -> Decimal:
    """What a mapping came to: a text as prices are written, or a number. Raises ValueError.

    A number is rounded, because expressions reckon in floating point; a text says what it means.
    """
    if isinstance(value, str) and _TEXT.fullmatch(value):
        return Decimal(value).quantize(_PLACES)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < _BELOW:
        raise ValueError(
            f"{value!r} is no amount of money; write a number from 0 on with at most {DECIMALS} "
            "decimals, such as 12.50"
        )
    return Decimal(repr(value)).quantize(_PLACES)


def money(*, amount: Decimal, currency: str = "") -> str:
    """Money as people read it: `3,704.00 EUR`; more decimals only where there are any."""
    cents = amount.quantize(_CENT)
    shown = f"{cents:,f}" if cents == amount else f"{amount.normalize():,f}"
    return f"{shown} {currency}".strip()


def _written(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(value) if is_number else value


Amount = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000, strip_whitespace=True),
    BeforeValidator(_written),
    WithJsonSchema({"type": ["string", "number"], "examples": [12.5, "${item.price.one_off?}"]}),
]
"""A number, or a mapping whose value is one: in the currency of what it is about."""
