"""What becomes of commands: when they may be sent, with what, and what their answers mean."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.properties.language_state import TERMINAL, Place, State, fits
from tests.properties.language_tree import Document, Need

SENDABLE = {"READY", "FAILED_RETRYABLE"}
ASKABLE = {"alpha"}
"""Target systems that can be asked what became of a command; all deduplicate."""
REPORT_WITHIN = 2.5
RENEWED_AT_MOST = 5
CODES = {"busy": "busy", "broken": "bad_request", "refused": "refused"}
"""What a target system says about a failure."""


@dataclass(kw_only=True)
class Commands(State):
    """Those tasks of an order that target systems do."""

    payloads: dict[Place, Any] = field(default_factory=dict)
    routes: dict[Place, int] = field(default_factory=dict)
    sends: dict[Place, int] = field(default_factory=dict)
    not_before: dict[Place, float] = field(default_factory=dict)
    doubted: set[Place] = field(default_factory=set)
    """Sent again although nobody knows what became of an earlier send."""
    lost: set[Place] = field(default_factory=set)
    """It has not always been known what became of it."""
    renewed: dict[Place, int] = field(default_factory=dict)
    """How often it was done anew because what it had returned had expired."""

    def target(self, place: Place) -> str:
        spec, route = self.nodes[place[0]].spec, self.routes[place]
        return str((spec["fallback"][route - 1] if route else spec)["target"])

    def questions(self, target: str) -> list[Place]:
        return [
            place
            for place, state in self.states.items()
            if state == "OUTCOME_UNKNOWN" and self.target(place) == target
        ]

    def sendable(self, target: str) -> list[Place]:
        return [
            place
            for place, state in self.states.items()
            if state in SENDABLE
            and self.target(place) == target
            and self.not_before[place] <= self.now
        ]

    def is_put_off(self, place: Place) -> bool:
        """Its turn to be sent has come, but its window is shut, or what it uses has expired."""
        opens = self._opening(place)
        if opens > self.now:
            self.not_before[place] = opens
            return True
        return self._set_aside(place)

    def send(self, place: Place) -> None:
        assert self.states[place] in SENDABLE, f"{place} is sent while {self.states[place]}"
        self.sends[place] += 1

    def hear(self, place: Place, told: str, values: Mapping[str, Any] | None = None) -> None:
        """What a target system says about a command, by itself or when asked."""
        if self.states[place] in TERMINAL:
            return
        can_be_asked = self.target(place) in ASKABLE
        left = self.sends[place] < self.nodes[place[0]].spec["retry"]["maximum_attempts"]
        if told == "lost":
            self.lost.add(place)
        match told:
            case "done":
                self._returned(place, values or {})
            case "accepted":
                self.states[place], self.due[place] = "ACCEPTED", self.now + REPORT_WITHIN
            case "lost" if can_be_asked:
                self.states[place] = "OUTCOME_UNKNOWN"
            case "lost" if left:
                self._to_be_sent(place, "READY")
                self.doubted.add(place)
            case "lost":
                self.states[place] = "AWAITING_MANUAL"
            case "never arrived":
                self._to_be_sent(place, "READY")
                self.sends[place] -= 1
            case "busy" if left:
                self._to_be_sent(place, "FAILED_RETRYABLE")
            case "busy" | "broken" if place in self.doubted:
                self.states[place] = "AWAITING_MANUAL"
            case _:
                self._another_way(place, CODES[told])

    def _begin_command(self, place: Place, spec: Document) -> None:
        self.payloads[place] = self.means(spec.get("input", {}), place)
        self.routes[place], self.sends[place] = 0, 0
        self._to_be_sent(place, "READY")

    def _to_be_sent(self, place: Place, state: str) -> None:
        self.states[place], self.not_before[place] = state, self._opening(place)

    def _opening(self, place: Place) -> float:
        window = self.nodes[place[0]].spec.get("window")
        return opening(window, self.now) if window else self.now

    def _returned(self, place: Place, values: Mapping[str, Any]) -> None:
        declared = self._declared(place[0])
        if fits(declared, values):
            self._succeed(place, **{name: values[name] for name in declared if name in values})
        else:
            self.states[place] = "AWAITING_MANUAL"

    def _another_way(self, place: Place, code: str) -> None:
        """It is known that nothing happened, if nothing before is in doubt."""
        ways = self.nodes[place[0]].spec.get("fallback", ())[self.routes[place] :]
        on_its_way = self.states[place] != "AWAITING_MANUAL"
        if place in self.doubted or not on_its_way or not ways or code in ways[0].get("unless", ()):
            self.states[place] = "FAILED_FINAL"
            return
        self.payloads[place] = self.means(ways[0].get("input", {}), place)
        self._to_be_sent(place, "FAILED_RETRYABLE")
        self.routes[place] += 1
        self.sends[place] = 0

    # --- what expires ---------------------------------------------------------------------------

    def _set_aside(self, place: Place) -> bool:
        """What it would use has expired: it waits until that is renewed, or for a person."""
        used = [need for need in self._expiring(place) if self._is_gone(place, need)]
        if not used:
            return False
        expired = [need for need in used if self._source(place, need) in self.done_with]
        renewable = [
            need.expires == "reobtain"
            and self.renewed.get(self._source(place, need), 0) < RENEWED_AT_MOST
            for need in expired
        ]
        if not all(renewable) or place in self.lost:
            self.states[place] = "AWAITING_MANUAL"
            return True
        self.states[place] = "PENDING"
        for source in {self._source(place, need) for need in expired}:
            self.states[source] = "PENDING"
            del self.outputs[source]
            self.renewed[source] = self.renewed.get(source, 0) + 1
            self.doubted.discard(source)
            self.lost.discard(source)
        return True

    def _expiring(self, place: Place) -> list[Need]:
        return [
            need
            for need in self.nodes[place[0]].needs
            if need.expires
            and self._source(place, need) in self.states
            and (not need.when or self.means(need.when, place))
        ]

    def _is_gone(self, place: Place, need: Need) -> bool:
        source = self._source(place, need)
        if source not in self.done_with:
            return True  # It is being renewed.
        returned = self.outputs.get(source, {})
        return returned.get(need.output) is not None and self.instant(returned["until"]) <= self.now

    def _source(self, place: Place, need: Need) -> Place:
        return self.beside(need.source, place[1])


def opening(window: Document, at: float) -> float:
    """The first moment from then on at which a window is open (`language_documents.in_full`)."""
    for day in itertools.count(-2):
        opens = float(window["opens"] + 24 * day)
        shut = any(day == but or (window["weekly"] and day % 7 == but % 7) for but in window["but"])
        if not shut and at < opens + window["hours"]:
            return max(at, opens)
    raise AssertionError
