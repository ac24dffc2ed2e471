"""What the systems return: the same for the same command, in every run, but for instants.

Most actions return an identifier. Those that judge, split or count look at their payload, by
rules that docs/sandbox.md states, so that an order decides which way its workflow takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

_IDENTIFIERS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("provisioning", "create_tenant"): ("tenant_id", "tenant"),
    ("provisioning", "assign_licenses"): ("license_id", "license"),
    ("provisioning", "activate_entitlement"): ("entitlement_id", "entitlement"),
    ("provisioning", "activate_line"): ("service_id", "line"),
    ("inventory", "reserve_phone_numbers"): ("reservation_id", "numbers"),
    ("inventory", "reserve_stock"): ("reservation_id", "stock"),
    ("inventory", "reserve_port"): ("port_id", "port"),
    ("inventory", "update_installed_base"): ("asset_id", "asset"),
    ("billing", "create_subscription"): ("subscription_id", "subscription"),
    ("payment", "charge"): ("payment_id", "payment"),
    ("payment", "refund"): ("refund_id", "refund"),
    ("payment", "capture"): ("capture_id", "capture"),
    ("payment-backup", "capture"): ("capture_id", "capture"),
    ("finance", "record_transaction"): ("entry_id", "entry"),
    ("logistics", "ship"): ("tracking_number", "parcel"),
    ("notification", "send_message"): ("message_id", "message"),
    ("notification", "set_preferences"): ("preferences_id", "preferences"),
    ("identity", "create_account"): ("account_id", "account"),
    ("profiles", "create_profile"): ("profile_id", "profile"),
    ("fieldwork", "book_visit"): ("visit_id", "visit"),
    ("data-platform", "create_report"): ("report_id", "report"),
    ("data-platform", "back_up"): ("backup_id", "backup"),
}
_RESERVED: Mapping[tuple[str, str], timedelta] = {
    ("inventory", "reserve_port"): timedelta(days=45),
}
"""How long what these actions return may be used."""
_WAREHOUSES = ("north", "south", "west")
_SUSPICIOUS_FROM = 10_000
_MOST = 10_000_000
_MOST_PARTITIONS = 1000
_ROWS = 1000
"""Of one partition."""
_SOURCES: Mapping[str, int] = {"legacy": 150, "mixed": 60}
"""Rows of a partition that nobody can read; of every other source 10."""

Payload = Mapping[str, Any]


def reference_of(*, target: str, key: str, number: int) -> str:
    """The system's own name of what it did: another one for each execution of a key."""
    return f"{target}-{_digest(target, key, number)[:16]}"


def outputs_of(
    *,
    target: str,
    action: str,
    key: str,
    number: int,
    at: datetime,
    payload: Payload | None = None,
) -> dict[str, Any]:
    """What the `number`-th execution (from 1) of a key returns, when it happens `at` this time.

    An action that is not known has one output, `reference`.
    """
    digest = _digest(target, key, number)
    answers = _ANSWERS.get((target, action))
    if answers is not None:
        return answers(payload or {}, digest[:16])
    known = _IDENTIFIERS.get((target, action))
    if known is None:
        return {"reference": reference_of(target=target, key=key, number=number)}
    name, prefix = known
    outputs = {name: f"{prefix}-{digest[:16]}"}
    if (target, action) in _RESERVED:
        begins = max(at, _instant((payload or {}).get("from")) or at)
        outputs["reserved_until"] = (begins + _RESERVED[target, action]).isoformat()
    return outputs


def _digest(target: str, key: str, number: int) -> str:
    return hashlib.sha256(f"{target}:{key}:{number}".encode()).hexdigest()


def _instant(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _amount(payload: Payload) -> float:
    amount = payload.get("amount")
    return float(amount) if isinstance(amount, int | float) else 0.0


def _count(payload: Payload, name: str, *, default: int) -> int:
    value = payload.get(name)
    return value if isinstance(value, int) and 0 <= value <= _MOST else default


def _check_stock(_: Payload, digest: str) -> dict[str, Any]:
    return {"warehouse": _WAREHOUSES[int(digest, 16) % len(_WAREHOUSES)]}


def _check_fraud(payload: Payload, _: str) -> dict[str, Any]:
    amount = _amount(payload)
    return {"score": min(99, int(amount // 200)), "suspicious": amount >= _SUSPICIOUS_FROM}


def _assess(payload: Payload, _: str) -> dict[str, Any]:
    """The level, and the way that the asker has named for it in `ways`."""
    amount = _amount(payload)
    level = "low" if amount < 1000 else "medium" if amount < _SUSPICIOUS_FROM else "high"
    ways = payload.get("ways")
    return {"level": level, "steps": list(ways.get(level, [])) if isinstance(ways, dict) else []}


def _authorise_at(gateway: str) -> Callable[[Payload, str], dict[str, Any]]:
    return lambda _, digest: {"authorisation_id": f"auth-{digest}", "gateway": gateway}


def _extract_profiles(payload: Payload, _: str) -> dict[str, Any]:
    source = str(payload.get("source", ""))
    unreadable = _SOURCES.get(source, 10)
    partitions = [
        {"name": f"{source}-{number:03}", "rows": _ROWS, "unreadable": unreadable}
        for number in range(1, min(_MOST_PARTITIONS, _count(payload, "partitions", default=4)) + 1)
    ]
    return {"partitions": partitions, "rows": _ROWS * len(partitions)}


def _enrich_partition(payload: Payload, digest: str) -> dict[str, Any]:
    """Leaves out the rows that nobody can read."""
    partition = payload.get("partition")
    given = partition if isinstance(partition, dict) else {}
    rows = _count(given, "rows", default=_ROWS)
    skipped = _count(given, "unreadable", default=0)
    return {"file": f"enriched-{digest}", "processed": rows - skipped, "skipped": skipped}


def _join_transactions(payload: Payload, digest: str) -> dict[str, Any]:
    totals = {name: sum(_numbers(payload, name)) for name in ("processed", "skipped")}
    return {"dataset": f"dataset-{digest}", **totals}


def _numbers(payload: Payload, name: str) -> list[int]:
    values = payload.get(name)
    return [one for one in values if isinstance(one, int)] if isinstance(values, list) else []


def _load(payload: Payload, _: str) -> dict[str, Any]:
    return {"rows": _count(payload, "rows", default=0)}


def _dataset(payload: Payload, digest: str) -> dict[str, Any]:
    return {"dataset": f"dataset-{digest}"}


def _find_expired(payload: Payload, _: str) -> dict[str, Any]:
    found = min(_MOST_PARTITIONS, _count(payload, "batches", default=3))
    batches = [f"batch-{number:03}" for number in range(1, found + 1)]
    return {"batches": batches, "count": len(batches)}


_ANSWERS: Mapping[tuple[str, str], Callable[[Payload, str], dict[str, Any]]] = {
    ("inventory", "check_stock"): _check_stock,
    ("risk", "check_fraud"): _check_fraud,
    ("risk", "assess"): _assess,
    ("payment", "authorise"): _authorise_at("payment"),
    ("payment-backup", "authorise"): _authorise_at("payment-backup"),
    ("data-platform", "extract_profiles"): _extract_profiles,
    ("data-platform", "extract_transactions"): _dataset,
    ("data-platform", "enrich_partition"): _enrich_partition,
    ("data-platform", "join_transactions"): _join_transactions,
    ("data-platform", "load"): _load,
    ("data-platform", "refresh"): _dataset,
    ("data-platform", "find_expired"): _find_expired,
}
