"""Handlers that do nothing, in process: what is left is the engine's own cost."""

from __future__ import annotations

from adapters.contract import Command
from adapters.python_function import handler

_OUTPUTS = {
    "tenant_id": "t",
    "license_id": "l",
    "entitlement_id": "e",
    "reservation_id": "r",
    "asset_id": "a",
    "subscription_id": "s",
}


@handler(target="*", action="*")
def nothing(command: Command) -> dict[str, str]:
    return _OUTPUTS
