"""Which days are holidays: by the rule of a country, with days of one's own added or taken out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache

import holidays as library

_LANGUAGE = "en_US"
"""Of the names, where the library has them; otherwise they are in the country's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holidays:
    """For every year that the library's rule for the country covers (most: up to 2100)."""

    country: str | None = None
    """ISO 3166-1; None: only the days in `extra`."""
    subdivision: str | None = None
    extra: frozenset[date] = frozenset()
    removed: frozenset[date] = frozenset()
    """Days of the country's rule that are worked."""

    def __contains__(self, day: date) -> bool:
        if day in self.extra:
            return True
        return day not in self.removed and day in self._by_rule(day.year)

    def in_year(self, year: int) -> dict[date, str]:
        """The names of a year's holidays, in their sequence."""
        found = {day: name for day, name in self._by_rule(year).items() if day not in self.removed}
        found |= {day: found.get(day, "extra") for day in self.extra if day.year == year}
        return dict(sorted(found.items()))

    def _by_rule(self, year: int) -> Mapping[date, str]:
        return {} if self.country is None else _of_year(self.country, self.subdivision, year)


@lru_cache(maxsize=1024)
def _of_year(country: str, subdivision: str | None, year: int) -> Mapping[date, str]:
    # The library's own way, to fill in years when they are asked for, is not safe in threads.
    return dict(
        library.country_holidays(
            country, subdiv=subdivision, years=year, expand=False, language=_LANGUAGE
        )
    )


def country_fault(country: str) -> str | None:
    """What is wrong with a country's code; None when the library has its holidays."""
    known = _countries()
    if country in known:
        return None
    close = (
        [country.upper()]
        if country.upper() in known
        else difflib.get_close_matches(country, known, n=1)
    )
    return (
        f"there are no holidays of a country {country!r}; write its ISO 3166-1 code, such as "
        f"AT{_hint(close)}"
    )


def subdivision_fault(*, country: str, subdivision: str) -> str | None:
    """The same of a part of a known country."""
    known = _countries()[country]
    if subdivision in known:
        return None
    some = ", ".join(known) or "none"
    return f"{country} has no part {subdivision!r} with holidays of its own; there are: {some}"


def _hint(close: list[str]) -> str:
    return f". Did you mean {close[0]!r}?" if close else ""


@cache
def _countries() -> Mapping[str, list[str]]:
    return library.list_supported_countries(include_aliases=True)
