"""One bad row never fails its neighbours: a batch that fails is halved until it stands alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from fulfillment.engine.store.database import DATABASE_TROUBLE

T = TypeVar("T")
R = TypeVar("R")


def in_halves(
    items: Sequence[T],
    *,
    work: Callable[[Sequence[T]], list[R]],
    culprit: Callable[[T, Exception], None],
) -> list[R]:
    """What `work` returns for all items but those with which it fails alone.

    These are handed to `culprit` with the error. The database's own trouble, being away or
    read-only, is nobody's fault: its errors are raised, as halving would only prolong it.
    """
    try:
        return work(items)
    except DATABASE_TROUBLE:
        raise
    except Exception as error:
        if len(items) == 1:
            culprit(items[0], error)
            return []
    middle = len(items) // 2
    return [
        result
        for half in (items[:middle], items[middle:])
        for result in in_halves(half, work=work, culprit=culprit)
    ]
