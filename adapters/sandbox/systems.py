"""The target systems that are played here: their characters."""

from __future__ import annotations

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
    "payment-backup": System(idempotent=True, status_query=True),
    "finance": System(idempotent=True, status_query=True),
    "risk": System(idempotent=True, status_query=True),
    "identity": System(idempotent=True, status_query=True),
    "profiles": System(idempotent=True, status_query=True),
    "analytics": System(idempotent=True, status_query=False),
    "data-platform": System(idempotent=True, status_query=True),
    "blackbox": System(idempotent=False, status_query=False),
}

BY_MESSAGE: Mapping[str, System] = {
    "fieldwork": System(idempotent=True, status_query=False, asynchronous=True),
}
"""Reached through a broker alone: each takes its commands from the queue that has its name."""
ALL_SYSTEMS: Mapping[str, System] = {**SYSTEMS, **BY_MESSAGE}
