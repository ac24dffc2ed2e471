"""What no code of the product may do: the one door for tests that write rows raw.

The database refuses states that no unit of work writes, and changes of what is append-only
(`fulfillment.engine.store.guards`, `docs/audit.md`). A test that wants such a row, to see that it
is found or to have many at once, says so by coming in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

GUARDS = (
    *("append_only", "lawful_state", "lawful_first_state", "head_moves_forward"),
    *("four_eyes", "kept"),
)


@contextmanager
def unguarded() -> Iterator[None]:
    """Meanwhile the application itself may write what it likes; for many rows at once."""
    with _owner() as owner, guards_off(owner):
        owner.commit()
        yield


def as_owner(*statements: str, values: tuple[Any, ...] = ()) -> int:
    """As somebody with every right: the tables' owner, with the guards out of the way.

    Commits; returns how many rows the last statement has written. `values` go into each.
    """
    with _owner() as owner, guards_off(owner):
        return [owner.execute(one.encode(), values or None).rowcount for one in statements][-1]


def like_a_unit() -> None:
    """To the end of this transaction: states may be written, by the ways that there are."""
    with connection.cursor() as raw:
        raw.execute("SELECT set_config('fulfillment.unit', 'on', true)")


@contextmanager
def guards_off(owner: psycopg.Connection[Any]) -> Iterator[None]:
    """The same on a connection of the owner."""
    guards = owner.execute(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgname = ANY(%s)",
        [list(GUARDS)],
    ).fetchall()
    for table, name in guards:
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}".encode())
    yield
    owner.execute("SET CONSTRAINTS ALL IMMEDIATE")  # Nothing may be pending on these tables.
    for table, name in guards:
        owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER {name}".encode())


def _owner() -> psycopg.Connection[Any]:
    return psycopg.connect(
        settings.ENVIRONMENT.database_owner_url, dbname=connection.settings_dict["NAME"]
    )
