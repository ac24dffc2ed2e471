"""The time that a case may take: counted in working time, where it has a calendar."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from fulfillment.definitions.calendars import Calendar, business_deadline, working_time
from fulfillment.engine.store import calendars
from fulfillment.errors import CalendarInvalid, CalendarUnknown, NeverOpens

logger = logging.getLogger(__name__)


def deadline(*, calendar: str, start: datetime, within: timedelta) -> datetime:
    """When so much time has passed since `start`.

    A calendar that can't be used is no reason to open no case: it counts day and night then.
    """
    known = _known(calendar)
    if known is not None:
        try:
            return business_deadline(calendar=known, start=start, duration=within)
        except NeverOpens as error:
            logger.warning("a case counts day and night", extra={"reason": str(error)})
    return start + within


def left(*, calendar: str, now: datetime, until: datetime) -> timedelta:
    """How much of the time is left; none when it has passed."""
    if until <= now:
        return timedelta()
    known = _known(calendar)
    if known is None:
        return until - now
    found = timedelta()
    for begins, ends in working_time(calendar=known, since=now):
        if begins >= until:
            break
        found += min(ends, until) - begins
    return found


def _known(name: str) -> Calendar | None:
    if not name:
        return None
    try:
        return calendars.get(name)
    except (CalendarUnknown, CalendarInvalid) as error:
        logger.warning("a case counts day and night", extra={"reason": str(error)})
        return None
