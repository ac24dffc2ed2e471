"""The engine's tables in the admin: read, searched and followed; what operators do to the engine
goes through `fulfillment.operations`."""

from fulfillment.admin import (
    audit,
    authority,
    bulk,
    calendars,
    cases,
    holds,
    incidents,
    locks,
    log,
    manual,
    messages,
    plans,
    sending,
    signals,
    subscribers,
    targets,
    workflows,
)

__all__ = [
    "audit",
    "authority",
    "bulk",
    "calendars",
    "cases",
    "holds",
    "incidents",
    "locks",
    "log",
    "manual",
    "messages",
    "plans",
    "sending",
    "signals",
    "subscribers",
    "targets",
    "workflows",
]
