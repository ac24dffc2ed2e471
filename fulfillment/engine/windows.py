"""Execution windows: when a task may be sent, by the calendars as they are now."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache

from fulfillment.definitions.calendar_specs import window_from_document
from fulfillment.definitions.calendars import Window, next_opening
from fulfillment.definitions.graph import Node
from fulfillment.engine import calendars


def opening(*, node: Node, at: datetime) -> datetime:
    """The first moment from `at` on at which the node's command may be sent.

    Raises NeverOpens, and what `calendars.get` raises for a calendar that is gone.
    """
    if node.window is None:
        return at
    window = _window(json.dumps(node.window, sort_keys=True))
    calendar = None if window.calendar is None else calendars.get(window.calendar)
    return next_opening(window=window, calendar=calendar, at=at)


@lru_cache(maxsize=1024)
def _window(document: str) -> Window:
    return window_from_document(json.loads(document))
