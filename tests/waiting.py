"""Waiting for other processes: until something is true, never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest


def until(
    condition: Callable[[], bool], *, seconds: float = 30.0, pause_seconds: float = 0.02
) -> None:
    """Return as soon as `condition()` holds; fail when it does not in time."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"It did not come true within {seconds:.0f} seconds.")
        pause.wait(pause_seconds)
