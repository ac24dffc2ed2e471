"""The batch that the demo submits: the shipped sample orders, each many times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from oms.environment import CHECKOUT

FOLDER = CHECKOUT / "examples" / "orders"
UNATTENDED = (
    "payment-pipeline/card.json",
    "user-registration/web.json",
    "customer-data-etl/daily.json",
    "transfer-risk/low.json",
)
"""Branches and fan-outs that come to their end without a person, an appointment or a night."""

# What goes wrong on the way, per target system: busy, slow, and, worst of all, done without
# saying so. Billing deduplicates but can't be asked; payment and logistics can be asked but
# don't deduplicate; inventory and provisioning do both.
BEHAVIOURS: list[dict[str, Any]] = [
    {"match": {"target": target, "attempt": 1}, "probability": share, "behaviour": behaviour}
    for target, share, behaviour in (
        ("payment", 0.15, {"kind": "succeed_then_timeout"}),
        ("logistics", 0.15, {"kind": "succeed_then_timeout"}),
        ("billing", 0.15, {"kind": "succeed_then_timeout"}),
        ("inventory", 0.10, {"kind": "cut_connection"}),
        ("crm", 0.15, {"kind": "status", "status": 503, "retry_after_seconds": 1}),
        ("provisioning", 0.10, {"kind": "duplicate_callback"}),
        ("notification", 0.10, {"kind": "garbage"}),
    )
] + [{"match": {}, "behaviour": {"kind": "latency", "latency_ms": 80}}]


def batch(*, count: int, run: str, more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """`count` order bodies, the samples in turn, with external ids of this run's own.

    `more` names files, or folders, of samples beside those of the cloud and the shop.
    """
    paths = [path for name in (".", *more) for path in _files(FOLDER / name)]
    samples = [json.loads(path.read_text()) for path in paths]
    return [
        {**sample, "external_id": f"{sample['external_id']}-{run}-{number}"}
        for number, sample in enumerate(islice(cycle(samples), count), 1)
    ]


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.json")) if path.is_dir() else [path]
