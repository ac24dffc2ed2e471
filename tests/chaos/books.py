"""Target systems of a test that keep books as the sandbox does, and the checker's word on them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.contract import Capabilities, Command, Outcome
from adapters.registry import register_adapter
from adapters.sandbox import bookkeeping
from adapters.sandbox.bookkeeping import Received, Work
from adapters.sandbox.ledger import Ledger
from fulfillment.engine.outbound import outbox
from oms.intake.requests import ItemRequest
from oms.models import Order
from tests import by_force, desk
from tests.chaos import checker
from tests.chaos.evidence import Violation, collected

TARGETS = ("crm", "inventory", "payment")
books: list[sqlite3.Connection] = []


class KeepingBooks:
    """Does what it is told, and writes each effect into a ledger as the sandbox does."""

    in_process = True

    def __init__(self, target: str) -> None:
        self._target = target

    def send(self, *, command: Command) -> Outcome:
        answer = desk.systems.answer(desk.systems.sends, desk.systems.sent, command)
        if answer.code != "not_done":
            received = Received(
                method="POST",
                target=self._target,
                action=command.action,
                key=command.idempotency_key,
                order=command.order_reference,
                correlation_id="",
                attempt=command.attempt,
                payload_sha256="",
                callback_url="",
                at=0.0,
            )
            bookkeeping.perform(books[-1], received=received, work=Work(), now=0.0)
        return answer

    def query(self, *, command: Command) -> Outcome:
        return desk.systems.answer(desk.systems.queries, desk.systems.queried, command)


def _keepingbooks(
    *, target: str, settings: Mapping[str, Any], capabilities: Capabilities
) -> KeepingBooks:
    return KeepingBooks(target)


register_adapter(kind="keepingbooks", factory=_keepingbooks)


class Run:
    """Some orders through the engine, and the checker's word on them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.ledger = folder / "ledger.sqlite3"
        self.log = folder / "client.jsonl"
        self.people = folder / "people.jsonl"
        Ledger(path=self.ledger).close()
        books.append(sqlite3.connect(self.ledger, isolation_level=None))
        books[-1].row_factory = sqlite3.Row
        for name in TARGETS:
            desk.target(name, adapter="keepingbooks", idempotent=name != "payment")

    def close(self) -> None:
        books.pop().close()

    def order(self, *items: ItemRequest) -> Order:
        """Submitted, and acknowledged in the client's log."""
        made = desk.order(*items)
        entry = {"external_id": made.external_id, "reference": made.reference}
        with self.log.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        return made

    def finish(self) -> None:
        desk.drain()
        outbox.publish_events()

    def told(self, **entry: Any) -> None:
        """What a person was told is kept."""
        with self.people.open("a") as log:
            log.write(json.dumps(entry) + "\n")

    def violations(self, *, at_the_end: bool = True) -> list[Violation]:
        with collected(
            database_url=self.url,
            ledger=self.ledger,
            client_log=self.log,
            people_logs=[self.people],
        ) as evidence:
            return checker.check(evidence, at_the_end=at_the_end)

    def broken(self, *, at_the_end: bool = True) -> set[str]:
        """Names of the rules that are broken."""
        return {violation.rule for violation in self.violations(at_the_end=at_the_end)}

    def as_owner(self, *statements: str) -> None:
        """What no code of the engine may do: rows changed by hand, history included."""
        by_force.as_owner(*statements)
