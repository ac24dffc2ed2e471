"""What is measured side by side: each starts its workers and carries out orders of eight tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from tests.load.parts import BenchFailed, Tell
from tests.waiting import until

TASKS_PER_ORDER = 8
PATIENCE_SECONDS = 600.0


class Side(Protocol):
    """One of those that are compared."""

    name: str
    """Its key in the results."""
    settings: Mapping[str, Any]
    """How it runs; for the results."""

    def workers(self) -> AbstractContextManager[None]:
        """Its processes, ready before the clock starts and gone after it."""

    def run(self, count: int, /, *, tell: Tell) -> float:
        """Seconds from the first submission to the last completed order."""

    def verify(self) -> Mapping[str, int]:
        """Count what the runs since the start of its workers have left; raises BenchFailed."""


def wait_until_none(left: Callable[[], int], *, count: int, tell: Tell) -> None:
    """Every side is looked at from outside, equally often; a single order more closely."""
    pause, moment = threading.Event(), 0.001 if count == 1 else 0.02
    deadline = time.monotonic() + PATIENCE_SECONDS
    while remaining := left():
        tell(count - remaining)
        if time.monotonic() > deadline:
            raise BenchFailed(f"{remaining} of {count} orders are not done after ten minutes.")
        pause.wait(moment)
    tell(count)


def wait_for(
    condition: Callable[[], bool],
    *,
    seconds: float,
    pause_seconds: float,
    otherwise: Callable[[], str],
) -> None:
    """Until it holds; raises BenchFailed with what `otherwise` says when it does not in time."""
    try:
        until(condition, seconds=seconds, pause_seconds=pause_seconds)
    except pytest.fail.Exception:
        raise BenchFailed(otherwise()) from None
