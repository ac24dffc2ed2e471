"""What a look makes the database read: rows, by its own count, and the plans of the statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import psycopg
from django.db import connection, transaction

_COUNTED = """
SELECT c.relname, c.relkind = 'r', pg_stat_get_xact_tuples_returned(c.oid),
    pg_stat_get_xact_tuples_fetched(c.oid)
FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE s.nspname = 'public' AND c.relkind IN ('r', 'i')
"""
_SIZES = """
SELECT relname, reltuples::bigint FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE s.nspname = 'public' AND relkind = 'r'
"""
_PLANNED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH)\b", re.IGNORECASE)
_PLACE = re.compile(r"%(?:\((\w+)\))?s|%%")
_GROWN = 10_000
"""Rows that a table has to have: one that is smaller is best gone through now and then."""
_NAMED = 5


@dataclass(slots=True, kw_only=True)
class Statement:
    """One that was sent, its plan, and the looks that sent it."""

    text: str
    plan: str
    looks: list[str]


@dataclass(slots=True)
class Readings:
    """What several looks have read."""

    through: dict[str, dict[str, int]] = field(default_factory=dict)
    """By look and table, the rows that were read by going through the table."""
    most: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By look, the table or index of which it read most, and how many rows or entries."""
    statements: dict[str, Statement] = field(default_factory=dict)
    """By their text."""

    def of(self, looks: Mapping[str, Callable[[], Any]], /) -> None:
        """Take each of these looks once, on this thread's connection; nothing they write stays."""
        for name, look in looks.items():
            with _recorded() as sent:
                through, by_index = _read(look)
            self.through[name] = through
            rows = {**by_index, **through}
            self.most[name] = max(rows.items(), key=lambda found: found[1], default=("", 0))
            for text, (values, bound) in sent.items():
                if text not in self.statements:
                    plan = _plan(text, values, bound=bound)
                    self.statements[text] = Statement(text=text, plan=plan, looks=[])
                self.statements[text].looks.append(name)

    def faults(self, growing: Collection[str], /) -> list[str]:
        """Every look that has gone through a table that grows. Pure."""
        return [
            f"{look}: {rows:,} rows of {table}, one after the other"
            for look, tables in self.through.items()
            for table, rows in sorted(tables.items())
            if table in growing
        ]

    def document(self) -> str:
        """Every statement with its plan, for people. Pure."""
        return "\n".join(
            f"-- {_some(statement.looks)}\n{statement.text.strip()};\n\n{statement.plan}\n"
            for statement in self.statements.values()
        )


def _some(looks: Sequence[str]) -> str:
    more = len(looks) - _NAMED
    return ", ".join(looks[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def sizes() -> dict[str, int]:
    """Rows of each table, as of the last ANALYZE."""
    with connection.cursor() as raw:
        raw.execute(_SIZES)
        return dict(raw.fetchall())


def growing(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    """Tables that became so large with what the system holds, that nobody may go through. Pure."""
    return {name for name, rows in after.items() if rows > max(_GROWN, 2 * before.get(name, 0))}


def numbered(text: str) -> str:
    """The same statement with `$1` for the first placeholder. Pure."""
    names: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        return f"${names.setdefault(found[1] or str(len(names)), len(names) + 1)}"

    return _PLACE.sub(place, text)


def _read(work: Callable[[], Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Rows by table that were gone through, and rows or entries that were found by index."""
    with transaction.atomic():
        before = _counted()
        work()
        after = _counted()
        transaction.set_rollback(True)
    through, found = {}, {}
    for name, (is_table, returned, fetched) in after.items():
        _, returned_before, fetched_before = before.get(name, (is_table, 0, 0))
        if is_table and returned > returned_before:
            through[name] = returned - returned_before
        rows = fetched - fetched_before if is_table else returned - returned_before
        if rows:
            found[name] = rows
    return through, found


def _counted() -> dict[str, tuple[bool, int, int]]:
    with connection.cursor() as raw:
        raw.execute(_COUNTED)
        return {name: (is_table, *rows) for name, is_table, *rows in raw.fetchall()}


@contextmanager
def _recorded() -> Iterator[dict[str, tuple[Any, bool]]]:
    """Statements that are sent meanwhile: first values, and whether the server binds them."""
    sent: dict[str, tuple[Any, bool]] = {}
    execute = psycopg.Cursor.execute

    def recorded(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(query, str) and _PLANNED.match(query) and query != _COUNTED:
            sent.setdefault(query, (params, not isinstance(self, psycopg.ClientCursor)))
        return execute(self, query, params, **options)

    # Every statement goes through here: Django's, and those that are prepared beside it.
    with mock.patch.object(psycopg.Cursor, "execute", recorded):
        yield sent


def _plan(text: str, values: Any, *, bound: bool) -> str:
    """As this connection runs it: what the server binds is planned once, whatever the values."""
    with connection.cursor() as django:
        django.execute("SELECT current_setting('plan_cache_mode')")
        once = bound and django.fetchone() == ("force_generic_plan",)
    with transaction.atomic():
        try:
            with psycopg.ClientCursor(connection.connection) as raw:
                if once:
                    raw.execute(f"EXPLAIN (GENERIC_PLAN) {numbered(text)}")
                else:
                    raw.execute(f"EXPLAIN {text}", values)
                return "\n".join(row[0] for row in raw.fetchall())
        except psycopg.Error as error:
            return f"no plan: {error}"
        finally:
            transaction.set_rollback(True)
