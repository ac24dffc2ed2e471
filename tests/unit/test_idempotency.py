"""The idempotency key: the same for the same effect, another one for any other."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from fulfillment.engine.store.idempotency import idempotency_key

EFFECT: dict[str, Any] = {
    "order_reference": "O-1",
    "order_version": 1,
    "plan_id": 2,
    "task_id": 3,
    "action": "create_tenant",
    "revision": 1,
    "target": "provisioning",
}


def test_the_key_is_the_documented_hash() -> None:
    values = ["O-1", 1, 2, 3, "create_tenant", "provisioning"]
    expected = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    assert idempotency_key(**EFFECT) == expected
    assert re.fullmatch(r"[0-9a-f]{64}", expected)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("order_reference", "O-2"),
        ("order_version", 2),
        ("plan_id", 3),
        ("task_id", 4),
        ("action", "delete_tenant"),
        ("revision", 2),
        ("target", "billing"),
    ],
)
def test_every_part_makes_another_key(part: str, other: Any) -> None:
    assert idempotency_key(**{**EFFECT, part: other}) != idempotency_key(**EFFECT)


def test_neighbouring_parts_do_not_run_into_each_other() -> None:
    first = idempotency_key(**{**EFFECT, "plan_id": 1, "task_id": 23})
    second = idempotency_key(**{**EFFECT, "plan_id": 12, "task_id": 3})
    assert first != second
