"""Rows that are looked up one by one, by index.

Of a condition that few rows of a large table meet, the database may think that they lie everywhere
alike, and look for the newest of them from the newest row on, through all there are. And those of
a subquery it may join, and go through the table for that.
"""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Func, QuerySet


class _EachOf(Func):
    """The elements of arrays."""

    function = "unnest"
    template = "(SELECT %(function)s(%(expressions)s))"
    arg_joiner = " || "


def each_of(*rows: QuerySet[Any]) -> Func:
    """What `__in` is asked for: the one value of each of these rows; the key, unless they name
    another. Give them the order of their index, and no more of them than may be looked up."""
    return _EachOf(*map(ArraySubquery, rows))
