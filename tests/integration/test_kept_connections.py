"""A worker's thread keeps its connection, and gets another when that one is broken."""

from __future__ import annotations

import psycopg
import pytest
from django.db import OperationalError, connection

from fulfillment.engine.store import database
from fulfillment.engine.store.database import cursor, replace_if_broken


def backend() -> int:
    with cursor() as raw:
        raw.execute("SELECT pg_backend_pid()")
        ((pid,),) = raw.fetchall()
    return int(pid)


@pytest.fixture
def killed(committed_db: str) -> int:
    """The server's process behind this thread's connection, which has been ended."""
    replace_if_broken()
    pid = backend()
    with psycopg.connect(committed_db, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    return pid


def test_one_that_works_is_kept(committed_db: str) -> None:
    replace_if_broken()
    pid = backend()
    replace_if_broken()
    assert backend() == pid


def test_after_a_while_it_is_asked_first(killed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_STAYS_WELL_SECONDS", 0.0)
    replace_if_broken()
    assert backend() != killed


def test_after_an_error_it_is_replaced_at_once(killed: int) -> None:
    with pytest.raises(OperationalError):
        backend()
    replace_if_broken()
    assert backend() != killed


def test_within_a_transaction_it_is_left_alone(db: None) -> None:
    pid = backend()
    connection.errors_occurred = True
    replace_if_broken()
    assert backend() == pid
    connection.errors_occurred = False
