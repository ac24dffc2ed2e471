"""Durations as counts by bucket, so that those of several days can be put together. Pure.

The bounds of the buckets grow by a tenth from a tenth of a second to two years, so a median or
another quantile that is told from them is at most 5 % beside the true one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

_FIRST_SECONDS = 0.1
_LAST_SECONDS = 2 * 366 * 86_400.0
_GROWTH = 1.1


def _bounds() -> tuple[float, ...]:
    found = [_FIRST_SECONDS]
    while found[-1] < _LAST_SECONDS:
        found.append(float(f"{found[-1] * _GROWTH:.6g}"))
    return tuple(found)


BOUNDS_SECONDS = _bounds()
"""Where buckets begin, from the second on. Stored figures are told by them: never change them."""
NONE = 0
"""The bucket of what has no duration."""


def bucket_of(seconds: float) -> int:
    """The number of its bucket, from 1; as `width_bucket` of PostgreSQL, and one more."""
    return 1 + bisect_right(BOUNDS_SECONDS, seconds)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The seconds within which this share of them was done; None when there are none."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, seen = max(1, -(-total * share // 1)), 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return _middle(bucket)
    raise AssertionError("a share is at most 1")


def _middle(bucket: int) -> float:
    """Of a bucket in seconds: so that the error is the same share of what is below and above."""
    index = bucket - 1
    if index <= 0:
        return _FIRST_SECONDS / 2
    if index >= len(BOUNDS_SECONDS):
        return BOUNDS_SECONDS[-1]
    low, high = BOUNDS_SECONDS[index - 1], BOUNDS_SECONDS[index]
    return float((low * high) ** 0.5)
