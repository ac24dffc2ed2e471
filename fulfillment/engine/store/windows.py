"""Execution windows: when a task may be sent, by the calendars as they are now."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache

from fulfillment.definitions.calendar_specs import window_from_document
from fulfillment.definitions.calendars import Window
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import calendars


def opening(*, node: Node, at: datetime) -> datetime:
    """The first moment from `at` on at which the node's command may be sent.

    Raises NeverOpens, CalendarUnknown and CalendarInvalid.
    """
    if node.window is None:
        return at
    return calendars.next_opening(window=window_of(node=node), at=at)


def is_shut(*, node: Node, at: datetime) -> bool:
    """Whether the node's command must not be sent at that moment. Raises what `opening` does."""
    return node.window is not None and not calendars.is_open(window=window_of(node=node), at=at)


def window_of(*, node: Node) -> Window:
    assert node.window is not None
    return _window(json.dumps(node.window, sort_keys=True))


@lru_cache(maxsize=1024)
def _window(document: str) -> Window:
    return window_from_document(json.loads(document))
