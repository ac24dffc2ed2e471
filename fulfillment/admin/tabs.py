"""Views of a list as tabs above it, each with how many rows it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest

from fulfillment.admin.figures import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A link that narrows the list, or widens it again; `templates/html/desk/frame/tabs.html`."""

    words: str
    number: str
    address: str
    is_here: bool


def by_whom(
    request: HttpRequest,
    *,
    within: Mapping[str, str],
    views: Iterable[tuple[str, int, str]],
    at_most: int,
) -> list[Tab]:
    """Of an inbox: `views` are words, how many there are, and whose (empty: all of them).

    `within` is what the list is filtered by in all of them; no more than `at_most` were counted.
    """
    is_within = within.items() <= request.GET.dict().items()
    here = request.GET.get("whose", "") if is_within else None
    return [
        Tab(
            words=words,
            number=counted(number, at_most=at_most),
            address=f"?{urlencode({**within, 'whose': whose} if whose else within)}",
            is_here=here == whose,
        )
        for words, number, whose in views
    ]
