"""Random templates that say how they are undone, on top of those of the whole language.

Every command returns the number of its effect, and its undo names that number: so the target
systems can tell what is undone, whatever the engine calls it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.properties.language_documents import Spec, Template
from tests.properties.templates import Dice

UNDO = "undo_"
"""What the actions of undos begin with, and those of no other task."""
RETRY = {"maximum_attempts": 2, "initial_interval": "PT0.1S"}
ON_FAILURE = ("hold", "hold", "compensate", {"then": "compensate", "of": "item"})
SEAL = {
    "title": "The last word",
    "scope": "order",
    "depends_on": [],
    "required": True,
    "manual": {
        "queue": "desk",
        "role": "clerk",
        "instructions": "Wait.",
        "outcomes": {"yes": "proceed"},
        "within": "PT200H",
        "otherwise": "escalate",
    },
}
"""Keeps an order from being completed, so that much can be done to it that is done already."""
CALLBACK = {"callback": "PT2H30M"}


@dataclass(frozen=True)
class UndoTemplate(Template):
    on_failure: str | Spec

    def documents(self, *, start: datetime) -> list[Spec]:
        *parts, thing = super().documents(start=start)
        return [*parts, {**thing, "on_failure": self.on_failure}]

    def doing(self, action: str) -> tuple[Spec, int]:
        """The task that asks for it, and by which of its ways."""
        for spec in self.every_task():
            actions = [spec.get("action"), *(one["action"] for one in spec.get("fallback", ()))]
            if action in actions:
                return spec, actions.index(action)
        raise AssertionError(f"nobody asks for {action}")


def undo_of(spec: Spec, route: int) -> Mapping[str, Any]:
    """How a task is undone that was done by this way; {none: …} when it is not."""
    own = spec["fallback"][route - 1].get("compensation") if route else None
    if own is not None or not route:
        found: Mapping[str, Any] = own or spec["compensation"]
        at = spec["fallback"][route - 1]["target"] if route else spec["target"]
        return found if "none" in found else {"target": at, **found}
    found = spec["compensation"]
    if "none" in found or "target" in found:
        return found
    return {**found, "target": spec["fallback"][route - 1]["target"]}


def is_final(spec: Spec) -> bool:
    """There is no way back once it is done."""
    point = spec.get("point_of_no_return", {})
    return bool(spec.get("irreversible")) or point.get("kind") == "hard"


def with_undo(template: Template, *, seed: str) -> UndoTemplate:
    """The same, and how each of its tasks is undone.

    Nothing of it expires or has to wait for its hours, which has nothing to do with that. What is
    read is waited for in any case: else it would be a matter of luck whether it is there.
    """
    dice = Dice(seed)
    found = copy.deepcopy((template.tasks, template.parts))
    written = UndoTemplate(
        *found, template.meanings, template.shared, on_failure=dice.one_of(*ON_FAILURE)
    )
    for body in (found[0], *(part["tasks"] for part in found[1].values())):
        for name, spec in body.items():
            _without_hours(spec)
            if "target" in spec:
                _as_undone(dice, name, spec)
            elif "manual" in spec and dice.maybe(30):
                spec["manual"]["outcomes"]["no"] = "undo"
            for wait in (spec.get("wait", {}), *spec["depends_on"]):
                if wait.get("otherwise") == "fail" and dice.maybe(30):
                    wait["otherwise"] = "undo"
    if dice.maybe(67):
        found[0]["seal"] = SEAL
    return written


def _without_hours(spec: Spec) -> None:
    spec.pop("window", None)
    for need in spec["depends_on"]:
        need.pop("expired", None)
    conditional = [one["output"] for one in spec["depends_on"] if {"output", "when"} <= one.keys()]
    spec["depends_on"] += [{"success": one.partition(".")[0]} for one in conditional]
    outputs = spec.get("outputs", {})
    if "until" in outputs:
        del outputs["until"]
        outputs["n"] = "integer"


def _as_undone(dice: Dice, name: str, spec: Spec) -> None:
    spec.setdefault("outputs", {})["effect"] = "integer"
    if dice.maybe(75):
        spec["compensation"] = _compensation(dice, name, spec["input"], UNDO + name)
    elif dice.maybe(20) and not spec.get("fallback"):
        spec["irreversible"] = True
    if dice.maybe(12):
        spec["point_of_no_return"] = {"kind": dice.one_of("hard", "soft"), "reason": "It is so."}
        if spec.get("irreversible"):
            spec["point_of_no_return"]["kind"] = "hard"
    for number, other in enumerate(spec.get("fallback", ()), 1):
        other["action"] += f"_{number}"
        if dice.maybe(50):
            action = f"{UNDO}{name}_{number}"
            other["compensation"] = _compensation(dice, name, other["input"], action)
    plain = not {"only_if", "preconditions", "for_each"} & spec.keys()
    if plain and dice.maybe(8):
        spec["affected_by"] = dice.one_of([], ["characteristics"], ["items"])


def _compensation(dice: Dice, name: str, asked: Mapping[str, Any], action: str) -> Spec:
    found = {
        "action": action,
        "input": {**asked, "effect": f"${{tasks.{name}.effect}}"},
        "retry": RETRY,
        "timeouts": CALLBACK,
    }
    if dice.maybe(20):
        found["target"] = dice.one_of("alpha", "beta")
    if dice.maybe(8):
        found["approval"] = {"queue": "desk", "role": "clerk", "within": "PT4H30M"}
    return found
