"""Hints: messages that say "there is something to claim for this target".

A hint carries no state. Losing one, or all of Redis, costs the time until the scanner hints
again; one too many costs a row lookup. Publishing writes nothing to the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import celery
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from fulfillment.engine.store import targets as target_rows
from fulfillment.errors import UnknownQueue
from fulfillment.models import TargetSystem

logger = logging.getLogger(__name__)

RUN_COMMANDS = "fulfillment.tasks.run_commands"
PUBLISH_EVENTS = "fulfillment.tasks.publish_events"
UNDO_AT_REST = "fulfillment.tasks.undo_at_rest"
RUN_BULK_JOBS = "fulfillment.tasks.run_bulk_jobs"
GROUP_CASES = "fulfillment.tasks.group_cases"
OUTSTANDING_PER_QUEUE = 2
"""Messages that wait in a queue; each stands for all the work of its target."""
_PAUSE_AFTER_FAILURE_SECONDS = 3.0
_away_until = 0.0


def publish(*, targets: Mapping[str, int], wake_ups: Mapping[str, timedelta]) -> None:
    """Hint at each target in `targets` now, and at those in `wake_ups` after their delays.

    A broker that is away is no error: the rows are there, and the scanner hints again.
    """
    for target in targets:
        if queue := _queue_of(target):
            nudge(task=RUN_COMMANDS, queue=queue, target=target)
    for target, delay in wake_ups.items():
        if queue := _queue_of(target):
            alarm.set(target=target, queue=queue, delay=delay)


def announce_events() -> None:
    """Subscribers' events have been written: relay them now rather than at the next tick."""
    nudge(task=PUBLISH_EVENTS, queue=settings.CELERY_TASK_DEFAULT_QUEUE)


def announce_rest() -> None:
    """What a plan waits for that is to be given up or changed has ended: look at it now."""
    nudge(task=UNDO_AT_REST, queue=settings.CELERY_TASK_DEFAULT_QUEUE)


def announce_bulk() -> None:
    """A bulk job has something to do: begin now rather than at the next tick."""
    nudge(task=RUN_BULK_JOBS, queue=settings.CELERY_TASK_DEFAULT_QUEUE)


def announce_fallout() -> None:
    """Cases were opened: look now whether many of them have one cause."""
    nudge(task=GROUP_CASES, queue=settings.CELERY_TASK_DEFAULT_QUEUE)


def _queue_of(target: str) -> str:
    try:
        return target_rows.get(target).queue
    except (UnknownQueue, TargetSystem.DoesNotExist):
        # The work is committed and the other targets are well: only this one waits.
        logger.exception("no worker can be told; correct the target", extra={"target": target})
        return ""


def nudge(*, task: str, queue: str, **arguments: str) -> None:
    """Publish one message unless enough of them wait in the queue already.

    After a failure nothing is published for a while: whoever takes an order in or settles an
    answer must not wait for a broker that is away, time and again.
    """
    global _away_until
    if time.monotonic() < _away_until:
        return
    try:
        with celery.current_app.producer_pool.acquire(block=True, timeout=2) as producer:
            if _client_of(producer.channel).llen(queue) >= OUTSTANDING_PER_QUEUE:
                return
            celery.current_app.send_task(
                task,
                kwargs=arguments,
                queue=queue,
                producer=producer,
                retry=False,
                expires=settings.OMS_HINT_EXPIRES_SECONDS,
            )
    except (BrokerError, RedisError, OSError) as error:
        _away_until = time.monotonic() + _PAUSE_AFTER_FAILURE_SECONDS
        logger.warning(
            "hint not published; the scanner will repeat it",
            extra={"queue": queue, "reason": type(error).__name__},
        )


def _client_of(channel: Any) -> Any:
    """Kept, as making one takes a quarter of what a hint does.

    Not `channel.client`: that is the connection on which consumers block.
    """
    client = _clients.get(channel)
    if client is None:
        with channel.conn_or_acquire() as client:
            _clients[channel] = client
    return client


_clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class Alarm:
    """One thread of this process that hints at targets when a time comes.

    Spares a retry the wait for the next scan. Of each target it knows the earliest time: who looks
    then sees to the next. What it knows dies with the process; the scanner finds the same rows.
    It uses no database, so it needs no connection.
    """

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, str]] = {}
        """By target, the moment and the queue."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def set(self, *, target: str, queue: str, delay: timedelta) -> None:
        # A hint that comes a moment too early finds nothing, so it comes a moment late.
        when = time.monotonic() + max(0.0, delay.total_seconds()) + 0.005
        with self._changed:
            known = self._due.get(target)
            if known is not None and known[0] <= when:
                return
            self._due[target] = (when, queue)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            for target, queue in self._ringing():
                nudge(task=RUN_COMMANDS, queue=queue, target=target)

    def _ringing(self) -> list[tuple[str, str]]:
        """The targets whose time has come, and their queues; waits for the first."""
        with self._changed:
            while True:
                now = time.monotonic()
                ringing = [(one, queue) for one, (at, queue) in self._due.items() if at <= now]
                for target, _ in ringing:
                    del self._due[target]
                if ringing:
                    return ringing
                first = min((at for at, _ in self._due.values()), default=None)
                self._changed.wait(None if first is None else first - now)


alarm = Alarm()
