"""The target systems of a random run: they deduplicate, and tell the truth when they are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.contract import Outcome
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.models import Purpose
from tests import desk


@dataclass
class World:
    """Target systems that deduplicate, and tell the truth when they are asked."""

    known: dict[str, Outcome] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, Claim] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    events: list[callbacks.Report] = field(default_factory=list)
    effects: Counter[int] = field(default_factory=Counter)
    """Of each task."""

    def answer(self, claim: Claim, fate: str, outputs: Mapping[str, Any]) -> tuple[Outcome, str]:
        """What the caller hears, and what the model calls that."""
        key = claim.command.idempotency_key
        self.targets[key] = claim.command.target
        known = self.known.get(key)
        if claim.purpose is Purpose.QUERY:
            if known is None:
                working = key in self.jobs
                return (desk.accepted(), "accepted") if working else (_NEVER, "never arrived")
            return known, called(known)
        if fate.startswith("lost") and self.lost[key] < 3:
            self.lost[key] += 1
            return desk.unknown(), "lost"
        if known is None and key in self.jobs:
            return desk.accepted(), "accepted"
        if known is not None:
            return known, called(known)
        if fate == "busy":
            return desk.failed(), "busy"
        if fate == "broken":
            return desk.failed("bad_request", retryable=False), "broken"
        if fate == "accepted":
            self.jobs[key] = claim
            return desk.accepted(), "accepted"
        if fate == "done, odd":
            outputs = dict.fromkeys(outputs)
        self.known[key] = desk.rejected() if fate == "refused" else self.done(claim, outputs)
        if fate == "done, unheard":
            return desk.unknown(), "lost"
        return self.known[key], called(self.known[key])

    def done(self, claim: Claim, outputs: Mapping[str, Any]) -> Outcome:
        self.effects[claim.task_id] += 1
        return desk.succeeded(**outputs)

    def report(self, key: str, *, done: bool, outputs: Mapping[str, Any]) -> callbacks.Report:
        claim = self.jobs.pop(key)
        self.known[key] = self.done(claim, outputs) if done else desk.rejected()
        return self.event(key)

    def event(self, key: str) -> callbacks.Report:
        """What is known of it, as an event of its own."""
        self.events.append(
            callbacks.Report(
                source=self.targets[key],
                event_id=f"E-{len(self.events)}",
                idempotency_key=key,
                outcome=self.known[key],
                body={},
            )
        )
        return self.events[-1]


_NEVER = desk.not_found()


def called(outcome: Outcome) -> str:
    return "done" if outcome.kind == desk.succeeded().kind else "refused"
