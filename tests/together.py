"""Several threads that begin at the same moment, each with a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def closing(work: Callable[[], T]) -> Callable[[], T]:
    """`work` for a thread of its own: its connection is given back at the end."""

    def run() -> T:
        try:
            return work()
        finally:
            connection.close()

    return run


def together(*works: Callable[[], T]) -> list[T]:
    """Run each in a thread of its own; what they returned, or the first error of one of them."""
    gate = threading.Barrier(len(works), timeout=30)

    def run(work: Callable[[], T]) -> T:
        connection.ensure_connection()
        gate.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        begun = [threads.submit(closing(lambda work=work: run(work))) for work in works]
        return [one.result() for one in begun]
