"""The target systems that are played here: their characters, and what they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    idempotent: bool
    """A known key is answered as before; otherwise it is really done once more."""
    status_query: bool
    asynchronous: bool = False
    """Takes commands with a callback address, and reports later."""


SYSTEMS: Mapping[str, System] = {
    "inventory": System(idempotent=True, status_query=True),
    "provisioning": System(idempotent=True, status_query=True, asynchronous=True),
    "billing": System(idempotent=True, status_query=False),
    "payment": System(idempotent=False, status_query=True),
    "logistics": System(idempotent=False, status_query=True),
    "notification": System(idempotent=True, status_query=True),
    "crm": System(idempotent=True, status_query=True),
    "blackbox": System(idempotent=False, status_query=False),
}

BY_MESSAGE: Mapping[str, System] = {
    "fieldwork": System(idempotent=True, status_query=False, asynchronous=True),
}
"""Reached through a broker alone: each takes its commands from the queue that has its name."""
ALL_SYSTEMS: Mapping[str, System] = {**SYSTEMS, **BY_MESSAGE}

_IDENTIFIERS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("provisioning", "create_tenant"): ("tenant_id", "tenant"),
    ("provisioning", "assign_licenses"): ("license_id", "license"),
    ("provisioning", "activate_entitlement"): ("entitlement_id", "entitlement"),
    ("inventory", "reserve_phone_numbers"): ("reservation_id", "numbers"),
    ("inventory", "reserve_stock"): ("reservation_id", "stock"),
    ("inventory", "update_installed_base"): ("asset_id", "asset"),
    ("billing", "create_subscription"): ("subscription_id", "subscription"),
    ("payment", "charge"): ("payment_id", "payment"),
    ("logistics", "ship"): ("tracking_number", "parcel"),
    ("notification", "send_message"): ("message_id", "message"),
    ("fieldwork", "book_visit"): ("visit_id", "visit"),
}
_WAREHOUSES = ("north", "south", "west")


def reference_of(*, target: str, key: str, number: int) -> str:
    """The system's own name of what it did: another one for each execution of a key."""
    return f"{target}-{_digest(target, key, number)[:16]}"


def outputs_of(*, target: str, action: str, key: str, number: int) -> dict[str, str]:
    """What the `number`-th execution (from 1) of a key returns: the same in every run.

    An action that is not known has one output, `reference`.
    """
    digest = _digest(target, key, number)
    if (target, action) == ("inventory", "check_stock"):
        return {"warehouse": _WAREHOUSES[int(digest, 16) % len(_WAREHOUSES)]}
    known = _IDENTIFIERS.get((target, action))
    if known is None:
        return {"reference": reference_of(target=target, key=key, number=number)}
    name, prefix = known
    return {name: f"{prefix}-{digest[:16]}"}


def _digest(target: str, key: str, number: int) -> str:
    return hashlib.sha256(f"{target}:{key}:{number}".encode()).hexdigest()
