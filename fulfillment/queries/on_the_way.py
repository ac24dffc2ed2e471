"""Tasks on their way through a target system, as its board and Today count them."""

from __future__ import annotations

import enum
from datetime import datetime

from django.db.models import Q

from fulfillment.models import Task
from fulfillment.queries.by_index import each_of
from fulfillment.states import CAUSE_LATER, TASK_SENDABLE, Cause, TaskState
from fulfillment.waits.conditions import MOST, is_called


class Way(enum.StrEnum):
    TO_BE_SENT = "to-be-sent"
    """As `TargetStatus.waiting` and `later` count them."""
    CALLED = "called"
    """As `TargetStatus.called`."""
    ACCEPTED = "accepted"
    """As `TargetStatus.accepted`."""
    RETRIED = "retried"
    """As `workload.retries`: they wait for their next try."""

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Way.TO_BE_SENT: "to be sent",
    Way.CALLED: "with a call under way",
    Way.ACCEPTED: "accepted, not done yet",
    Way.RETRIED: "to be tried again",
}
_FREE = Q(state__in=sorted(TASK_SENDABLE), held_by__isnull=True, waits_for_lock="")
_LATER = Q(waits_for__in=sorted(CAUSE_LATER))


def on_the_way(way: Way, *, target: str, now: datetime) -> Q:
    """Of tasks; those of this target system, or all, if it is empty. Of each kind MOST and one."""
    if way is Way.CALLED:
        return is_called(now=now)
    tasks = Task.objects.filter(target=target) if target else Task.objects.all()
    # Each in the order of its index, which ends where the limit is.
    if way is Way.TO_BE_SENT:
        rows = [
            tasks.filter(_FREE & ~_LATER).order_by("target", "-priority", "rank", "depth", "pk"),
            tasks.filter(_FREE & _LATER).order_by("target", "not_before"),
        ]
    elif way is Way.ACCEPTED:
        rows = [tasks.filter(state=TaskState.ACCEPTED).order_by("target", "not_before")]
    else:
        rows = [tasks.filter(waits_for=Cause.RETRY).order_by("changed_at")]
    return Q(pk__in=each_of(*(found.values("pk")[: MOST + 1] for found in rows)))
