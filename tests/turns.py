"""Turns of the drain for handlers in this process, which the engine has only for calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fulfillment.engine.dispatch import turning
from fulfillment.models import TargetSystem


@contextmanager
def also_turning(on: bool = True) -> Iterator[list[Exception]]:
    """With `on`, answers are settled together with the next claim wherever that is safe.

    What keeps a turn from being done is in the list, and is raised in the end unless it has been
    taken out: the drain goes on without, and nobody would see it.
    """
    failures: list[Exception] = []
    real = turning.turn

    def can_turn(*, target: TargetSystem, **_: Any) -> bool:
        return on and turning.is_safe(target=target)

    def turn(**arguments: Any) -> None:
        try:
            real(**arguments)
        except Exception as error:
            failures.append(error)
            raise

    with patch.object(turning, "can_turn", can_turn), patch.object(turning, "turn", turn):
        yield failures
    for failure in failures:
        raise failure
