"""What no code of the product may do: the one door for tests that write rows raw.

The database refuses states that no unit of work writes, and changes of what is append-only
(`fulfillment.engine.store.guards`, `docs/audit.md`). A test that wants such a row, to see that it
is found or to have many at once, says so by coming in here.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

GUARDS = ("append_only", "lawful_state", "lawful_first_state", "head_moves_forward")


def like_a_unit() -> None:
    """Until the end of the transaction, what is written counts as a unit's: any lawful state."""
    with connection.cursor() as raw:
        raw.execute("SELECT set_config('fulfillment.unit', 'on', true)")


def as_owner(*statements: str, values: tuple[Any, ...] = ()) -> int:
    """As somebody with every right: the tables' owner, with the guards out of the way.

    Commits; returns how many rows the last statement has written. `values` go into each.
    """
    with psycopg.connect(
        settings.ENVIRONMENT.database_owner_url, dbname=connection.settings_dict["NAME"]
    ) as owner:
        guards = owner.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgname = ANY(%s)",
            [list(GUARDS)],
        ).fetchall()
        for table, name in guards:
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}".encode())
        written = [owner.execute(one.encode(), values or None).rowcount for one in statements]
        owner.execute("SET CONSTRAINTS ALL IMMEDIATE")  # Nothing may be pending on these tables.
        for table, name in guards:
            owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER {name}".encode())
    return written[-1]
