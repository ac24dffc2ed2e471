"""Target systems that number their effects, and a ledger of what was done, and undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.contract import Command, Outcome
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.models import Purpose
from tests import desk
from tests.properties.language_world import World
from tests.properties.undo_templates import UNDO


@dataclass
class Effect:
    """Something that a target system has done, and what has undone it."""

    number: int
    order: int
    task: str
    """As operators see it."""
    command: Command
    outputs: Mapping[str, Any]
    done_at: int
    undone_at: int | None = None


@dataclass(frozen=True)
class Sent:
    """The first request of a command."""

    at: int
    order: int
    task: str
    command: Command
    known_since: int
    """When the order has come to have its task."""

    @property
    def undoes(self) -> int | None:
        """The number of an effect."""
        if not self.command.action.startswith(UNDO):
            return None
        return int(self.command.payload["effect"])


@dataclass(kw_only=True)
class Ledger(World):
    """Everything in the order in which it happened: `now` counts."""

    looks_on: Callable[[Sent], None]
    """Told of every command that is sent for the first time, before anything comes of it."""
    now: int = 0
    done_so_far: list[Effect] = field(default_factory=list)
    undone: list[tuple[int, Command]] = field(default_factory=list)
    sent: dict[str, Sent] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)
    """Keys of which the caller can't know whether they had their effect."""
    names: dict[int, str] = field(default_factory=dict)
    """Of tasks."""
    seen: dict[tuple[int, str], int] = field(default_factory=dict)
    """Since when an order has had a task."""

    def tick(self) -> int:
        self.now += 1
        return self.now

    def answer(self, claim: Claim, fate: str, outputs: Mapping[str, Any]) -> tuple[Outcome, str]:
        key = claim.command.idempotency_key
        if claim.purpose is Purpose.SEND:
            order, task = claim.fulfillment_id, self.names[claim.task_id]
            known = self.seen.get((order, task), 0)
            if key not in self.sent:
                self.sent[key] = Sent(self.tick(), order, task, claim.command, known)
                self.looks_on(self.sent[key])
            self.in_doubt.add(key)
        return super().answer(claim, fate, outputs)

    def heard(self, claim: Claim, told: str) -> None:
        """The answer has been told: what does the caller know by now?"""
        key = claim.command.idempotency_key
        failed = told in ("busy", "broken")
        # What is reported later may never be, and then nobody knows.
        if told not in ("lost", "accepted") and not (failed and self.lost_for_good(claim)):
            self.in_doubt.discard(key)

    def lost_for_good(self, claim: Claim) -> bool:
        """That one send had no effect says nothing about those before it."""
        return self.lost[claim.command.idempotency_key] > 0

    def done(self, claim: Claim, outputs: Mapping[str, Any]) -> Outcome:
        command = claim.command
        if command.action.startswith(UNDO):
            self._undo(claim.fulfillment_id, command)
            return desk.succeeded()
        effect = Effect(
            number=len(self.done_so_far) + 1,
            order=claim.fulfillment_id,
            task=self.names[claim.task_id],
            command=command,
            outputs={**outputs, "effect": len(self.done_so_far) + 1},
            done_at=self.tick(),
        )
        self.done_so_far.append(effect)
        return desk.succeeded(**effect.outputs)

    def _undo(self, order: int, command: Command) -> None:
        effect = self.done_so_far[command.payload["effect"] - 1]
        assert effect.order == order, f"{command.action} undoes what another order has done"
        assert effect.undone_at is None, f"effect {effect.number} of {effect.task} is undone twice"
        effect.undone_at = self.tick()
        self.undone.append((effect.number, command))

    def of(self, order: int) -> list[Effect]:
        return [one for one in self.done_so_far if one.order == order]

    def live(self, order: int) -> list[Effect]:
        return [one for one in self.of(order) if one.undone_at is None]

    def settle(self, key: str, claim: Claim) -> None:
        """Somebody looks it up: if it has not happened so far, it never will."""
        self.jobs.pop(key, None)
        self.targets[key] = claim.command.target
        self.known.setdefault(key, desk.rejected())
