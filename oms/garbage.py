"""How long-lived processes collect garbage."""

from __future__ import annotations

import gc

_ALLOCATIONS = 50_000
_YOUNGER = 20
"""Collections of a generation before the next older one has its turn."""


def collect_rarely() -> None:
    """For processes that have loaded what they need, and work in large batches from now on.

    Python looks through its youngest objects every 700 allocations, which is several times for
    each batch of rows, and through all there are again and again: measured at a quarter of the
    engine's processor time. What is loaded now stays, and is not looked through any more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, _YOUNGER, _YOUNGER)
