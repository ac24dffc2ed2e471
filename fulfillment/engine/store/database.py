"""Set-based writes on the underlying psycopg connection.

Django binds parameters on the client, so PostgreSQL would plan every statement anew. The hot
statements run server-side bound and prepared instead, on the same connection and therefore in
the same transaction as the ORM.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import inf
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

import psycopg
from django.db import InterfaceError, InternalError, OperationalError, connection
from django.db.models import Model
from psycopg.adapt import Loader

Row = tuple[Any, ...]
DATABASE_TROUBLE = (OperationalError, InterfaceError, InternalError)
"""The database is away, or read-only: nobody's fault, and worth to be tried again."""


_MOMENT = psycopg.adapters.types["timestamptz"].oid
# Django's own is Python and takes five times as long; our connections speak UTC anyway.
_READ_MOMENT = cast(type[Loader], psycopg.adapters.get_loader(_MOMENT, psycopg.pq.Format.TEXT))


@contextmanager
def cursor() -> Iterator[psycopg.Cursor[Row]]:
    """A server-side binding cursor on Django's current connection."""
    connection.ensure_connection()
    # Errors come out as Django's, as they do from the ORM beside it.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as raw:
        raw.adapters.register_loader(_MOMENT, _READ_MOMENT)
        yield raw


def replace_if_broken() -> None:
    """Begin with a connection that works: a worker's thread keeps its own from task to task.

    One that was well a moment ago is not asked again.
    """
    own = connection.connection
    if own is None or connection.in_atomic_block:
        return
    now = time.monotonic()
    if not connection.errors_occurred and now - _well_at.get(own, -inf) < _STAYS_WELL_SECONDS:
        return
    if connection.errors_occurred or not connection.is_usable():
        connection.close()  # Goes back to the pool, which keeps none that is broken.
    else:
        _well_at[own] = now


_STAYS_WELL_SECONDS = 5.0
_well_at: WeakKeyDictionary[psycopg.Connection[Any], float] = WeakKeyDictionary()


# Only how statements are planned: by index, once, whatever their parameters are.
_PLANNER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_PIN = "SELECT " + ", ".join(f"set_config('{name}', '{to}', %s)" for name, to in _PLANNER.items())
_pinned: WeakSet[psycopg.Connection[Any]] = WeakSet()


def pin_plans() -> None:
    """Let Django's current connection plan every prepared statement once, and by index.

    For whoever runs the same few statements all the time and looks up rows by their keys:
    planning them anew costs more than running them, and a plan that was made while a table was
    small would go on to read all of it when it has grown.
    """
    with cursor() as raw:
        if raw.connection not in _pinned:
            raw.execute(_PIN, [False] * len(_PLANNER))
            _pinned.add(raw.connection)


def pin_plans_until_commit(raw: psycopg.Cursor[Row]) -> None:
    """The same for the current transaction of a connection that does other things as well."""
    if raw.connection not in _pinned:
        raw.execute(_PIN, [True] * len(_PLANNER), prepare=True)


class Table:
    """One table's set-based INSERT and compare-and-set UPDATE, from arrays."""

    def __init__(self, name: str, /, **columns: str) -> None:
        """`columns` maps column names to PostgreSQL types, in the order of the rows' values."""
        self.name = name
        self.columns = tuple(columns)
        names = ", ".join(f'"{column}"' for column in columns)
        arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
        self._kinds = tuple(columns.values())
        self._insert = f'INSERT INTO "{name}" ({names}) SELECT * FROM unnest({arrays})'

    def insert(self, raw: psycopg.Cursor[Row], rows: Sequence[Sequence[Any]]) -> None:
        """One statement for all `rows`; values stand in the order of the columns."""
        if rows:
            raw.execute(self._insert, arrays(rows), prepare=True)

    def store(self, raw: psycopg.Cursor[Row], models: Sequence[Model]) -> None:
        """The same for instances: their values as they stand, documents still as values."""
        if models:
            columns = _columns(models, self.columns, self._kinds)
            raw.execute(self._insert, columns, prepare=True)


class Update:
    """`UPDATE … FROM unnest(…)` by id, optionally only where a column still has a value."""

    def __init__(self, table: str, /, *, guard: str = "", **columns: str) -> None:
        settings = ", ".join(f'"{column}" = v."{column}"' for column in columns)
        names = ", ".join(f'"{column}"' for column in columns)
        arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
        guarded = f' AND t."{guard}" = v.expected' if guard else ""
        expected, expected_array = (", expected", ", %s::text[]") if guard else ("", "")
        self._statement = (
            f'UPDATE "{table}" t SET {settings} '
            f"FROM unnest(%s::bigint[], {arrays}{expected_array}) AS v(id, {names}{expected}) "
            f"WHERE t.id = v.id{guarded}"
        )
        self.columns = tuple(columns)
        self._kinds = tuple(columns.values())

    def run(self, raw: psycopg.Cursor[Row], rows: Sequence[Sequence[Any]]) -> int:
        """Each row is (id, columns…, [expected]). Returns how many rows were written."""
        if not rows:
            return 0
        raw.execute(self._statement, arrays(rows), prepare=True)
        return raw.rowcount

    def store(
        self,
        raw: psycopg.Cursor[Row],
        models: Sequence[Model],
        *,
        expected: Sequence[str] | None = None,
    ) -> psycopg.Cursor[Row]:
        """The same for instances, of which there are some, and what their guard expects.

        The cursor is its own: within a pipeline it knows its `rowcount` only after that.
        """
        columns = _columns(models, ("id", *self.columns), ("bigint", *self._kinds))
        if expected is not None:
            columns.append(array(expected))
        own = psycopg.Cursor(raw.connection)
        own.execute(self._statement, columns, prepare=True)
        return own


def arrays(rows: Sequence[Sequence[Any]]) -> list[str]:
    """One PostgreSQL array literal per column.

    Measured at a tenth of the time of psycopg's own list adaptation, which looks at every
    element several times. The statement's casts give the literals their types.
    """
    return [array(values) for values in zip(*rows, strict=True)]


def _columns(models: Sequence[Model], columns: Sequence[str], kinds: Sequence[str]) -> list[str]:
    rows = [model.__dict__ for model in models]
    return [
        array([_document(row[column]) for row in rows])
        if kind in _DOCUMENTS
        else array([row[column] for row in rows])
        for column, kind in zip(columns, kinds, strict=True)
    ]


_DOCUMENTS = frozenset({"json", "jsonb"})


def _document(value: Any) -> str | None:
    if not value:  # Most are.
        return "{}" if value == {} else None if value is None else json.dumps(value)
    return json.dumps(value)


def array(values: Collection[Any]) -> str:
    """The literal of an array with these elements, of one type; a StrEnum is text."""
    kinds = set(map(type, values))
    if kinds <= _PLAIN:
        return "{" + ",".join(map(str, values)) + "}"
    if all(issubclass(kind, str) for kind in kinds):
        joined = '","'.join(values)
        if "\\" not in joined and joined.count('"') == 2 * len(values) - 2:
            return '{"' + joined + '"}'
    known: dict[Any, str] = {}  # A unit writes the same moment and the same word again and again.
    found = []
    for value in values:
        element = known.get(value)
        if element is None:
            element = known[value] = _element(value)
        found.append(element)
    return "{" + ",".join(found) + "}"


_PLAIN = frozenset({int, bool})


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, datetime):
        return f'"{value.isoformat()}"'
    if isinstance(value, timedelta):
        return f'"{value.total_seconds():f} seconds"'
    return str(value)


def allocate(raw: psycopg.Cursor[Row], table: str, count: int) -> Iterator[int]:
    """`count` fresh ids of `table`, ascending, so that rows can refer to each other unsaved."""
    if not count:
        return iter(())
    raw.execute(
        "SELECT nextval(%s::regclass) FROM generate_series(1, %s)",
        [f"{table}_id_seq", count],
        prepare=True,
    )
    return iter(sorted(row[0] for row in raw.fetchall()))


def ids(values: Iterable[int]) -> list[int]:
    """Distinct and ascending: the order in which everyone locks."""
    return sorted(set(values))


def clean(text: str, limit: int) -> str:
    """Text from outside as PostgreSQL can store it: no NUL, no lone surrogates, bounded."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:limit]


def storable(value: Any) -> bool:
    """Whether PostgreSQL takes the value as JSON."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, RecursionError):
        return False
    # A NUL stands there escaped; an escaped backslash before "u0000" is none.
    return "\\u0000" not in text.replace("\\\\", "")
