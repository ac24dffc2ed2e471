"""Expressions (shim until the real one is merged)."""

from __future__ import annotations

from typing import Any

from fulfillment.errors import FulfillmentError


class ExpressionFailed(FulfillmentError):
    code = "expression.failed"


def holds(text: str, scope: Any) -> bool:
    raise ExpressionFailed(text)
