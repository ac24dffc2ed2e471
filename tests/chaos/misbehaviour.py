"""How the target systems misbehave during a run, for the sandbox (docs/sandbox.md)."""

from __future__ import annotations

from typing import Any

Rules = list[dict[str, Any]]


def _first(target: str, share: float, **behaviour: Any) -> dict[str, Any]:
    return {
        "match": {"target": target, "attempt": 1},
        "probability": share,
        "behaviour": behaviour,
    }


def usual() -> Rules:
    """Everyday trouble: a share of the commands meets it at their first attempt."""
    return [
        _first("payment", 0.06, kind="succeed_then_timeout"),
        _first("payment", 0.10, kind="cut_connection"),
        _first("logistics", 0.10, kind="garbage"),
        _first("logistics", 0.10, kind="drip", latency_ms=5),
        _first("billing", 0.10, kind="cut_connection"),
        _first("billing", 0.10, kind="status", status=429, retry_after_seconds=2),
        _first("inventory", 0.10, kind="status", status=503),
        _first("inventory", 0.10, kind="cut_connection", effect=False),
        _first("inventory", 0.01, kind="oversized"),
        _first("crm", 0.10, kind="status", status=503, retry_after_seconds=1),
        _first("crm", 0.05, kind="hang"),
        _first("provisioning", 0.10, kind="duplicate_callback"),
        _first("provisioning", 0.10, kind="callback_before_answer"),
        _first("provisioning", 0.06, kind="never_call_back"),
        _first("provisioning", 0.10, kind="asynchronous", latency_ms=3000),
        _first("notification", 0.10, kind="garbage", effect=False),
        {"match": {"target": "notification"}, "probability": 0.03, "behaviour": {"kind": "reject"}},
        # Another gateway, and elements of a list that fail.
        {
            "match": {"target": "payment", "action": "authorise"},
            "probability": 0.15,
            "behaviour": {"kind": "reject", "code": "closed"},
        },
        {
            "match": {"target": "data-platform", "action": "enrich_partition"},
            "probability": 0.02,
            "behaviour": {"kind": "reject", "code": "corrupt_file"},
        },
        _first("data-platform", 0.04, kind="succeed_then_timeout"),
        _first("data-platform", 0.05, kind="cut_connection"),
        _first("risk", 0.10, kind="status", status=503),
        {"match": {}, "behaviour": {"kind": "latency", "latency_ms": 40}},
    ]


def storm(*, target: str, kind: str) -> Rules:
    """One system is down in one way, the others as usual."""
    behaviours: dict[str, dict[str, Any]] = {
        "busy": {"kind": "status", "status": 503, "retry_after_seconds": 1},
        "limited": {"kind": "status", "status": 429, "retry_after_seconds": 3},
        "silent": {"kind": "hang"},
        "slow": {"kind": "latency", "latency_ms": 2500},
        "cut": {"kind": "cut_connection"},
    }
    return [{"match": {"target": target}, "behaviour": behaviours[kind]}, *usual()]


STORMS = ("busy", "limited", "silent", "slow", "cut")
