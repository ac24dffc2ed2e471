"""The books: a SQLite file and the one thread that writes it.

What is waiting when the thread comes round is committed together, so a hundred requests cost
one commit; an answer is given only after its commit. Losing the process loses nothing.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

_VERSION = 1
_BATCH = 200
_SCHEMA = """
CREATE TABLE executions (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL, action TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    order_reference TEXT NOT NULL, correlation_id TEXT NOT NULL, attempt INTEGER NOT NULL,
    executed_at TEXT NOT NULL, payload_sha256 TEXT NOT NULL, reference TEXT NOT NULL
);
CREATE INDEX execution_key ON executions (idempotency_key, target);
CREATE INDEX execution_order ON executions (order_reference);
CREATE TABLE commands (
    target TEXT NOT NULL, idempotency_key TEXT NOT NULL, action TEXT NOT NULL,
    payload_sha256 TEXT NOT NULL, status TEXT NOT NULL, reference TEXT NOT NULL,
    outputs TEXT NOT NULL, error_code TEXT NOT NULL, completes_at REAL NOT NULL,
    PRIMARY KEY (idempotency_key, target)
) WITHOUT ROWID;
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL, method TEXT NOT NULL, target TEXT NOT NULL, action TEXT NOT NULL,
    idempotency_key TEXT NOT NULL, order_reference TEXT NOT NULL, attempt INTEGER NOT NULL,
    behaviour TEXT NOT NULL, answer TEXT NOT NULL
);
CREATE INDEX request_key ON requests (idempotency_key);
CREATE TABLE callbacks (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL, idempotency_key TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL,
    due_at REAL NOT NULL, copies_left INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    last_answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX callback_key ON callbacks (idempotency_key);
CREATE INDEX callback_open ON callbacks (due_at) WHERE copies_left > 0;
CREATE TABLE behaviours (
    position INTEGER PRIMARY KEY, rule TEXT NOT NULL, used INTEGER NOT NULL
);
"""

T = TypeVar("T")
_Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


class LedgerUnusable(Exception):
    """The file can't be used as a ledger; the message says what to do."""

    code = "sandbox.ledger_unusable"


class Ledger:
    """Runs operations one after the other, each all or nothing, several per commit."""

    def __init__(self, *, path: Path) -> None:
        """Opens or makes the file. Raises LedgerUnusable."""
        self._path = path
        self._connection = _open(path)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """What `operation` returns, once it is committed. Raises what it raised, undone."""
        done: Future[T] = Future()
        self._jobs.put((operation, done))
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Finish what is waiting, then close the file."""
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            batch: list[_Job] = []
            while job is not None:
                batch.append(job)
                if len(batch) == _BATCH or self._jobs.empty():
                    break
                job = self._jobs.get()
            if batch:
                self._commit(batch)
            if job is None:
                return

    def _commit(self, batch: list[_Job]) -> None:
        results: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation, done in batch:
                self._connection.execute("SAVEPOINT operation")
                try:
                    results.append((done, operation(self._connection), None))
                except Exception as error:
                    self._connection.execute("ROLLBACK TO operation")
                    results.append((done, None, error))
                self._connection.execute("RELEASE operation")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            results = [(done, None, error) for _, done in batch]
        for done, value, problem in results:
            # A request that was given up has cancelled its future; its effect stays.
            if not done.set_running_or_notify_cancel():
                continue
            if problem is None:
                done.set_result(value)
            else:
                done.set_exception(problem)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnusable(
            f"{path} can't be used as a ledger ({error}). Name a file in a folder that this user "
            "may write to; a file that exists must be a ledger of the sandbox."
        ) from error
    if version not in (0, _VERSION):
        connection.close()
        raise LedgerUnusable(
            f"{path} is a ledger of version {version}, this program writes version {_VERSION}. "
            "Move the file away and start again."
        )
    return connection
