"""What the checker looks at: the engine's rows, the target systems' own ledger, the client's log.

Nothing here imports the engine: what it believes about itself must not judge it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = Mapping[str, Any]
_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken promise, and the rows that prove it."""

    rule: str
    text: str
    rows: Sequence[Row] = ()

    def __str__(self) -> str:
        lines = [f"{self.rule}: {self.text}"]
        lines += [f"    {json.dumps(row, default=str)}" for row in self.rows[:_SHOWN_ROWS]]
        if len(self.rows) > _SHOWN_ROWS:
            lines.append(f"    … and {len(self.rows) - _SHOWN_ROWS} rows more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One side effect, from the ledger of the target systems."""

    target: str
    action: str
    key: str
    order: str
    executed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One report that a target system has to make; `heard` once the engine has said 2xx."""

    target: str
    key: str
    event_id: str
    heard: bool
    refused: bool
    last_answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """One order that the engine has told its client it has."""

    external_id: str
    reference: str


@dataclass(slots=True)
class Evidence:
    """One consistent look at everything.

    The ledger is read first: every effect in it had its command committed before.
    """

    engine: psycopg.Connection[dict[str, Any]]
    executions: Sequence[Execution]
    callbacks: Sequence[Callback]
    acknowledged: Sequence[Acknowledged]
    people: Sequence[Row]
    """What people were told is kept: {"decided": 5, "outcome": …} or {"event_id": …, "name": …}."""
    hold_slack_seconds: float
    """Between the time that a hold bears and the moment when placing it had returned."""
    _tables: set[str] = field(default_factory=set)

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        return self.engine.execute(statement, parameters or None).fetchall()

    def has_table(self, name: str) -> bool:
        if not self._tables:
            self._tables = {
                row["name"]
                for row in self.rows(
                    "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
                )
            }
        return name in self._tables


@contextmanager
def collected(
    *,
    database_url: str,
    ledger: Path | None,
    client_log: Path | None,
    people_logs: Sequence[Path] = (),
    hold_slack_seconds: float = 0.25,
) -> Iterator[Evidence]:
    """Everything as it is at this moment; what happens later is not seen."""
    executions, callbacks = ([], []) if ledger is None else _ledger(ledger)
    acknowledged = [] if client_log is None else read_log(client_log)
    people = [entry for path in people_logs for entry in _lines(path)]
    with psycopg.connect(database_url, row_factory=dict_row) as engine:
        engine.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        engine.read_only = True
        yield Evidence(
            engine=engine,
            executions=executions,
            callbacks=callbacks,
            acknowledged=acknowledged,
            people=people,
            hold_slack_seconds=hold_slack_seconds,
        )


def _ledger(path: Path) -> tuple[list[Execution], list[Callback]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        connection.row_factory = sqlite3.Row
        executions = [
            Execution(
                target=row["target"],
                action=row["action"],
                key=row["idempotency_key"],
                order=row["order_reference"],
                executed_at=row["executed_at"],
            )
            for row in connection.execute("SELECT * FROM executions ORDER BY id")
        ]
        callbacks = [
            Callback(
                target=row["target"],
                key=row["idempotency_key"],
                event_id=json.loads(row["body"])["event_id"],
                heard=row["copies_left"] == 0,
                refused=row["copies_left"] < 0,
                last_answer=row["last_answer"],
            )
            for row in connection.execute("SELECT * FROM callbacks ORDER BY id")
        ]
        return executions, callbacks
    finally:
        connection.close()


def read_log(path: Path) -> list[Acknowledged]:
    """The client's log: one JSON line per acknowledged order."""
    return [
        Acknowledged(external_id=line["external_id"], reference=line["reference"])
        for line in _lines(path)
        if "reference" in line
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
