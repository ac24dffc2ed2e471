"""Waiting for other processes: until something is true, never for a fixed time."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time is in here; the others wait. The lock is the kernel's."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
