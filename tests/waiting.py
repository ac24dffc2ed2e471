"""Waiting for other processes: until something is true, never for a fixed time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest


def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Return as soon as `condition()` holds; fail the test when it does not in time."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail(f"It did not come true within {seconds:.0f} seconds.")
