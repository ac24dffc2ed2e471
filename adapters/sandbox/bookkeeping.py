"""What is written into the ledger and read from it: operations for `Ledger.run`."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from adapters.sandbox.behaviours import Ending, Rule, Scripted
from adapters.sandbox.results import outputs_of, reference_of
from adapters.sandbox.systems import ALL_SYSTEMS

_TABLES = ("executions", "commands", "requests", "callbacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came in. A query has method GET, and no action and payload."""

    method: str
    target: str
    action: str
    key: str
    order: str
    correlation_id: str
    attempt: int
    payload_sha256: str
    callback_url: str
    at: float
    """Unix time in seconds."""
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a command shall do, once its behaviour is decided."""

    ending: Ending = Ending.SUCCEEDED
    error_code: str = ""
    seconds: float | None = None
    """How long it takes asynchronously; None is done at once."""
    callbacks: int = 0
    """How often its end is reported."""
    garbled: bool = False
    """Whether nobody can read that report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    callback_id: int
    target: str
    url: str
    body: str
    due_at: float
    copies_left: int
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a system knows about one key."""

    status: str
    reference: str
    outputs: Mapping[str, Any]
    error_code: str
    callback: Callback | None = None

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"status": self.status, "reference": self.reference}
        if self.status == Ending.SUCCEEDED:
            document["outputs"] = self.outputs
        if self.error_code and self.status != "accepted":
            document["error"] = {"code": self.error_code, "message": "Scripted in the sandbox."}
        return document


class KeyReused(Exception):
    """The key came before with another payload."""


def perform(connection: sqlite3.Connection, *, received: Received, work: Work, now: float) -> Known:
    """Do what a command asks for, or repeat what was answered when its key is known.

    A refusal had no effect, so it stands in nobody's way: the next one with the key is done.
    Raises KeyReused.
    """
    target, key = received.target, received.key
    known = connection.execute(
        "SELECT * FROM commands WHERE idempotency_key = ? AND target = ?", (key, target)
    ).fetchone()
    if known is not None and ALL_SYSTEMS[target].idempotent:
        answered = _known(known, now)
        if answered.status in ("succeeded", "accepted"):
            if known["payload_sha256"] != received.payload_sha256:
                raise KeyReused
            return answered
    reference = ""
    outputs: dict[str, Any] = {}
    if work.ending is Ending.SUCCEEDED:
        (number,) = connection.execute(
            "SELECT count(*) + 1 FROM executions WHERE idempotency_key = ? AND target = ?",
            (key, target),
        ).fetchone()
        reference = reference_of(target=target, key=key, number=number)
        outputs = outputs_of(
            target=target,
            action=received.action,
            key=key,
            number=number,
            at=datetime.fromtimestamp(now, UTC),
            payload=received.payload,
        )
        connection.execute(
            "INSERT INTO executions (target, action, idempotency_key, order_reference, "
            "correlation_id, attempt, executed_at, payload_sha256, reference) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(target, received.action, key, received.order, received.correlation_id),
                *(received.attempt, _iso(now), received.payload_sha256, reference),
            ),
        )
    completes_at = now + (work.seconds or 0.0)
    connection.execute(
        "INSERT OR REPLACE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(target, key, received.action, received.payload_sha256, work.ending.value),
            *(reference, json.dumps(outputs), work.error_code, completes_at),
        ),
    )
    ended = Known(
        status=work.ending.value, reference=reference, outputs=outputs, error_code=work.error_code
    )
    if work.seconds is None:
        return ended
    return Known(
        status="accepted",
        reference=reference,
        outputs=outputs,
        error_code=work.error_code,
        callback=_plan_callback(connection, received, work, ended, completes_at),
    )


def _plan_callback(
    connection: sqlite3.Connection,
    received: Received,
    work: Work,
    ended: Known,
    due_at: float,
) -> Callback | None:
    if work.callbacks == 0:
        return None
    (number,) = connection.execute(
        "SELECT count(*) + 1 FROM callbacks WHERE idempotency_key = ? AND target = ?",
        (received.key, received.target),
    ).fetchone()
    body = json.dumps(
        {
            "event_id": reference_of(
                target=f"{received.target}-event", key=received.key, number=number
            ),
            "idempotency_key": received.key,
            # Where a key is done once, the report is about the key, whichever request it was.
            **({} if ALL_SYSTEMS[received.target].idempotent else {"attempt": received.attempt}),
            **ended.document(),
        }
    )
    if work.garbled:
        body = body[: len(body) // 2]
    inserted = connection.execute(
        "INSERT INTO callbacks (target, idempotency_key, url, body, due_at, copies_left) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (received.target, received.key, received.callback_url, body, due_at, work.callbacks),
    )
    assert inserted.lastrowid is not None
    return Callback(
        callback_id=inserted.lastrowid,
        target=received.target,
        url=received.callback_url,
        body=body,
        due_at=due_at,
        copies_left=work.callbacks,
    )


def report_again(
    connection: sqlite3.Connection, *, received: Received, work: Work, now: float
) -> Callback | None:
    """Plan one more report on a key that is known: who sends it again has missed the first."""
    row = connection.execute(
        "SELECT * FROM commands WHERE idempotency_key = ? AND target = ?",
        (received.key, received.target),
    ).fetchone()
    due_at = max(now, row["completes_at"])
    return _plan_callback(connection, received, work, _known(row, math.inf), due_at)


def look_up(connection: sqlite3.Connection, *, target: str, key: str, now: float) -> Known | None:
    """What a system knows about a key."""
    row = connection.execute(
        "SELECT * FROM commands WHERE idempotency_key = ? AND target = ?", (key, target)
    ).fetchone()
    return None if row is None else _known(row, now)


def _known(row: sqlite3.Row, now: float) -> Known:
    return Known(
        status="accepted" if row["completes_at"] > now else row["status"],
        reference=row["reference"],
        outputs=json.loads(row["outputs"]),
        error_code=row["error_code"],
    )


def log_request(
    connection: sqlite3.Connection,
    *,
    received: Received,
    behaviour: str,
    answer: str,
    rule: int | None = None,
) -> None:
    """Note a request and what it is answered; `rule` is the position of the rule it used up."""
    connection.execute(
        "INSERT INTO requests (received_at, method, target, action, idempotency_key, "
        "order_reference, attempt, behaviour, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(_iso(received.at), received.method, received.target, received.action),
            *(received.key, received.order, received.attempt, behaviour, answer),
        ),
    )
    if rule is not None:
        connection.execute("UPDATE behaviours SET used = used + 1 WHERE position = ?", (rule,))


def open_callbacks(connection: sqlite3.Connection) -> list[Callback]:
    rows = connection.execute("SELECT * FROM callbacks WHERE copies_left > 0 ORDER BY due_at")
    return [
        Callback(
            callback_id=row["id"],
            target=row["target"],
            url=row["url"],
            body=row["body"],
            due_at=row["due_at"],
            copies_left=row["copies_left"],
            attempts=row["attempts"],
        )
        for row in rows
    ]


def note_callback(connection: sqlite3.Connection, *, callback: Callback, answer: str) -> None:
    """Write down what an attempt at a callback came to."""
    connection.execute(
        "UPDATE callbacks SET due_at = ?, copies_left = ?, attempts = ?, last_answer = ? "
        "WHERE id = ?",
        (
            *(callback.due_at, callback.copies_left, callback.attempts, answer),
            callback.callback_id,
        ),
    )


def summary(connection: sqlite3.Connection) -> dict[str, Any]:
    """How many side effects there were, for how many keys, and how many keys had several."""
    rows = connection.execute(
        "SELECT target, sum(n), count(*), sum(n > 1) FROM (SELECT target, count(*) AS n "
        "FROM executions GROUP BY idempotency_key, target) GROUP BY target ORDER BY target"
    ).fetchall()
    by_target = {
        target: {"executions": executions, "keys": keys, "duplicate_keys": duplicates}
        for target, executions, keys, duplicates in rows
    }
    totals = {
        name: sum(counts[name] for counts in by_target.values())
        for name in ("executions", "keys", "duplicate_keys")
    }
    return {**totals, "by_target": by_target}


def rows_of(table: str, *, order: str, key: str, limit: int) -> Callable[..., dict[str, Any]]:
    """An operation that reads executions or requests, oldest first; "" matches everything."""
    assert table in ("executions", "requests")
    filters = {"order_reference": order, "idempotency_key": key}
    given = {column: value for column, value in filters.items() if value}
    where = " AND ".join(f"{column} = ?" for column in given) or "1"

    def read(connection: sqlite3.Connection) -> dict[str, Any]:
        rows = connection.execute(
            f"SELECT * FROM {table} WHERE {where} ORDER BY id LIMIT ?", (*given.values(), limit + 1)
        ).fetchall()
        return {table: [dict(row) for row in rows[:limit]], "more": len(rows) > limit}

    return read


def callback_counts(connection: sqlite3.Connection) -> dict[str, int]:
    waiting, given_up, delivered = connection.execute(
        "SELECT coalesce(sum(copies_left > 0), 0), coalesce(sum(copies_left < 0), 0), "
        "coalesce(sum(copies_left = 0), 0) FROM callbacks"
    ).fetchone()
    return {"waiting": waiting, "given_up": given_up, "delivered": delivered}


def clear(connection: sqlite3.Connection) -> None:
    """Forget everything that happened; the behaviours stay."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table}")


def load_behaviours(connection: sqlite3.Connection) -> list[Scripted]:
    rows = connection.execute("SELECT rule, used FROM behaviours ORDER BY position")
    return [Scripted(Rule.model_validate_json(rule), used) for rule, used in rows]


def replace_behaviours(connection: sqlite3.Connection, *, rules: Sequence[Rule]) -> None:
    connection.execute("DELETE FROM behaviours")
    connection.executemany(
        "INSERT INTO behaviours VALUES (?, ?, 0)",
        [(position, rule.model_dump_json()) for position, rule in enumerate(rules)],
    )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
