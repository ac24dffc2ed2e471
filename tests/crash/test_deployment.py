"""Deploying new code and new templates while orders run: what is in flight ends as it began."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash.test_stack import Shop, shop
from tests.waiting import until

__all__ = ["shop"]

BASE = """
workflow: lamp
version: {version}
title: Desk lamp
fulfils: [{{offering: lamp, actions: [add]}}]
billing_trigger: shipment
tasks:
  check:
    title: Check
    target: crm
    action: check_lamp
    compensation: {{none: Looking changes nothing.}}
"""
TASK = """
  {name}:
    title: {name}
    target: {target}
    action: {name}
    depends_on: [{{success: {after}}}]
    compensation: {{none: Nothing to undo in a test.}}
"""


def template(folder: Path, version: int, *tasks: tuple[str, str]) -> str:
    text, after = BASE.format(version=version), "check"
    for name, target in tasks:
        text += TASK.format(name=name, target=target, after=after)
        after = name
    file = folder / f"v{version}.yaml"
    file.write_text(text)
    return str(file)


def submit(shop: Shop, run: str, count: int) -> list[str]:
    bodies: list[dict[str, Any]] = [
        {
            "external_id": f"{run}-{number}",
            "customer": {"id": "C-1"},
            "items": [{"item_id": "1", "action": "add", "offering": "lamp", "quantity": 1}],
        }
        for number in range(count)
    ]
    results = shop.client.submit(orders=bodies, idempotency_key=run)
    return [result["order"]["id"] for result in results]


def actions(shop: Shop, reference: str) -> Counter[str]:
    """What the target systems really did for an order."""
    return Counter(row["action"] for row in shop.client.executions(order=reference))


def test_orders_in_flight_end_on_the_version_that_they_began_with(
    shop: Shop, tmp_path: Path
) -> None:
    stack = shop.stack
    shop.manage(
        "workflows",
        "publish",
        template(tmp_path, 1, ("bill_v1", "billing"), ("tell_v1", "notification")),
    )
    shop.manage("targets", "pause", "billing", "--reason", "the deployment begins")
    old = submit(shop, "old", 12)
    until(lambda: all(order["progress"]["done"] == 1 for order in shop.orders()), seconds=60)
    shop.manage(
        "workflows",
        "publish",
        template(
            tmp_path,
            2,
            ("pack_v2", "logistics"),
            ("bill_v1", "billing"),
            ("tell_v2", "notification"),
        ),
    )
    assert "is there" in shop.manage("targets", "check")
    late = submit(shop, "late", 6)  # The processes of the release before take them in.
    names = [name for name in stack.names if name != "sandbox"]
    for name in names[: len(names) // 2]:
        stack.restart(name)
    shop.manage("targets", "resume", "billing", "--reason", "half of the processes are new")
    midway = submit(shop, "midway", 3)
    for name in names[len(names) // 2 :]:
        stack.restart(name)
    new = submit(shop, "new", 6)

    def completed() -> bool:
        stack.watch()
        return Counter(order["state"] for order in shop.orders()) == {"COMPLETED": 27}

    until(completed, seconds=150)
    for reference in old:
        assert actions(shop, reference) == Counter(["check_lamp", "bill_v1", "tell_v1"])
    for reference in (*late, *midway, *new):
        assert actions(shop, reference) == Counter(["check_lamp", "pack_v2", "bill_v1", "tell_v2"])


def test_chosen_orders_are_moved_while_the_processes_run(shop: Shop, tmp_path: Path) -> None:
    shop.manage(
        "workflows",
        "publish",
        template(tmp_path, 1, ("bill_v1", "billing"), ("tell_v1", "notification")),
    )
    shop.manage("targets", "pause", "billing", "--reason", "to have them in flight")
    old = submit(shop, "old", 6)
    until(lambda: all(order["progress"]["done"] == 1 for order in shop.orders()), seconds=60)
    shop.manage(
        "workflows",
        "publish",
        template(
            tmp_path,
            2,
            ("pack_v2", "logistics"),
            ("bill_v1", "billing"),
            ("tell_v2", "notification"),
        ),
    )
    chosen, rest = old[:3], old[3:]
    planned = shop.manage(
        "workflows", "migrate", "lamp", "--order", *chosen, "--reason=new packing", "--dry-run"
    )
    assert planned.endswith("3 safe")
    shop.manage("targets", "resume", "billing", "--reason", "to let both race")
    told = shop.manage(
        "workflows", "migrate", "lamp", "--order", *chosen, "--reason=new packing", check=False
    )

    def completed() -> bool:
        shop.stack.watch()
        return Counter(order["state"] for order in shop.orders()) == {"COMPLETED": 6}

    until(completed, seconds=120)
    for reference in rest:
        assert actions(shop, reference) == Counter(["check_lamp", "bill_v1", "tell_v1"])
    for reference in chosen:
        # Whose invoice was quicker than the command has stayed as it was.
        was_moved = f"{reference} moved" in told
        assert was_moved != (f"{reference} un" in told)
        expected = (
            ["check_lamp", "pack_v2", "bill_v1", "tell_v2"]
            if was_moved
            else ["check_lamp", "bill_v1", "tell_v1"]
        )
        assert actions(shop, reference) == Counter(expected)
