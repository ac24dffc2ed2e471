"""What orders of the undo profile look like: editions of workflows that are undone in many ways,
orders of them, and how an order may be revised."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from oms.demo import samples
from oms.environment import CHECKOUT
from tests.chaos.misbehaviour import Rules, usual

_SAMPLES = ("broadband", "payment-pipeline", "user-registration")
_COMPENSATED = frozenset({"cloud-contact-center", "ecommerce-order", "payment-pipeline", "fleet"})
"""Workflows that are undone as a whole when one of their tasks fails for good."""
_MOST_SITES = 6
_LATENCY_MS = 800
"""So slow that many are asked for when something is under way."""


def _undone_by(action: str, task: str) -> dict[str, Any]:
    return {"action": action, "input": {"reference": f"${{tasks.{task}.reference}}"}}


FLEET: dict[str, Any] = {
    "workflow": "fleet",
    "version": 1,
    "title": "Machines at many sites",
    "fulfils": [{"offering": "fleet", "actions": ["add"]}],
    "billing_trigger": "service_activation",
    "tasks": {
        "survey": {
            "title": "Look at the sites",
            "target": "crm",
            "action": "survey",
            "input": {"sites": "${item.characteristics.sites}"},
            "compensation": {"none": "To look changes nothing."},
        },
        "allocate": {
            "title": "Set a machine aside",
            "target": "inventory",
            "action": "allocate",
            "depends_on": [{"success": "survey"}],
            "for_each": {"over": "${item.characteristics.sites}", "at_once": 3},
            "input": {"site": "${element}"},
            "outputs": {"reference": "string"},
            "compensation": _undone_by("deallocate", "allocate"),
        },
        "connect": {
            "title": "Connect the sites",
            "target": "provisioning",
            "action": "connect",
            "depends_on": [{"output": "allocate.reference"}],
            "input": {"machines": "${tasks.allocate.reference}"},
            "outputs": {"reference": "string"},
            "compensation": _undone_by("disconnect", "connect"),
        },
        "deposit": {
            "title": "Take the deposit",
            "target": "payment",
            "action": "take_deposit",
            "depends_on": [{"success": "allocate"}],
            "input": {"account": "${order.billing_account}", "quantity": "${item.quantity}"},
            "outputs": {"reference": "string"},
            "compensation": _undone_by("return_deposit", "deposit"),
        },
        "hand_over": {
            "title": "Hand the fleet over",
            "target": "crm",
            "action": "hand_over",
            "depends_on": [{"success": "connect"}, {"success": "deposit"}],
            "compensation": {"none": "What was handed over comes back by the other tasks' undo."},
        },
    },
}


def files(folder: Path) -> list[Path]:
    """The newest version of each shipped workflow, and those of this profile."""
    newest: dict[str, Path] = {}
    for path in (CHECKOUT / "templates" / "workflows").glob("*/v*.yaml"):
        known = newest.get(path.parent.name)
        if known is None or _version(known) < _version(path):
            newest[path.parent.name] = path
    own = folder / "fleet.yaml"
    own.write_text(yaml.safe_dump(FLEET, sort_keys=False))
    return sorted([*newest.values(), own])


def _version(path: Path) -> int:
    return int(path.stem.removeprefix("v"))


def given_up_on_failure(document: dict[str, Any]) -> None:
    if document["workflow"] in _COMPENSATED:
        document["on_failure"] = "compensate"


def bodies(*, count: int) -> list[dict[str, Any]]:
    """Orders of these shapes in turn, with external ids of this run's own."""
    fleets = [
        {
            "external_id": f"FLT-{size}",
            "customer": {"id": "C-70", "name": "Hafner Bau GmbH"},
            "billing_account": "BA-70",
            "items": [
                {
                    "item_id": "1",
                    "action": "add",
                    "offering": "fleet",
                    "quantity": size,
                    "characteristics": {"sites": [f"S-{n}" for n in range(size)]},
                }
            ],
        }
        for size in (1, 3, _MOST_SITES)
    ]
    known = samples.batch(count=len(_distinct()), run="chaos", more=_SAMPLES)
    every = [*known, *fleets]
    return [{**every[number % len(every)], "external_id": f"U-{number}"} for number in range(count)]


def _distinct() -> list[Path]:
    return [
        *samples.FOLDER.glob("*.json"),
        *(path for name in _SAMPLES for path in (samples.FOLDER / name).glob("*.json")),
    ]


def revised(body: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
    """The same order, and something about it is another."""
    items = [dict(item) for item in body["items"]]
    number = dice.randrange(len(items))
    item = items[number]
    choice = dice.random()
    others = [one for one in items if one is not item]
    if choice < 0.25 and any(one["action"] == "add" for one in others):
        return without(body, [item["item_id"]])
    if choice < 0.4 and item["action"] == "add":
        more = {**item, "item_id": f"more-{dice.randrange(10**6)}", "relations": []}
        return {**body, "items": [*items, more]}
    if item["action"] == "no_change":
        item = items[(number + 1) % len(items)]
    _change(item, dice)
    return {**body, "items": items}


def without(body: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """An order without these items, to which nothing is related any more either."""
    items = [dict(one) for one in body["items"] if one["item_id"] not in names]
    for one in items:
        one["relations"] = [r for r in one.get("relations", ()) if r["item_id"] not in names]
    return {**body, "items": items}


def _change(item: dict[str, Any], dice: random.Random) -> None:
    traits = dict(item.get("characteristics", {}))
    item["characteristics"] = traits
    match item["offering"]:
        case "fleet":
            kept = [site for site in traits["sites"] if dice.random() < 0.7]
            traits["sites"] = [*kept, f"S-{dice.randrange(10**6)}"]
        case "cloud-contact-center-enterprise":
            name = dice.choice(("agents", "phone_numbers", "recording_retention_years"))
            traits[name] = dice.randint(1, 300)
        case "payment":
            item["price"] = {**item["price"], "one_off": f"{dice.randint(1, 20000)}.00"}
        case "broadband-fibre":
            traits["speed"] = dice.choice((100, 250, 1000))
        case "user-account":
            traits["locale"] = f"x-{dice.randrange(10**6)}"
        case _:
            item["quantity"] = item["quantity"] + dice.randint(1, 5)


def behaviours() -> Rules:
    """Everyday trouble, and now and then a refusal that has an order undone, or keeps it from
    being undone."""
    refusals = {
        ("billing", "activate_billing"): 0.06,
        ("payment", "charge"): 0.06,
        ("payment", "take_deposit"): 0.06,
        ("inventory", "allocate"): 0.02,
        ("profiles", "create_profile"): 0.1,
        ("inventory", "release_phone_numbers"): 0.03,
    }
    return [
        *(
            {
                "match": {"target": target, "action": action},
                "probability": share,
                "behaviour": {"kind": "reject"},
            }
            for (target, action), share in refusals.items()
        ),
        *usual()[:-1],
        {"match": {}, "behaviour": {"kind": "latency", "latency_ms": _LATENCY_MS}},
    ]
