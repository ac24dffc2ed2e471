"""Fetching a target system's replies from its reply queue, for as long as it takes."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from kombu import Connection, Consumer, Exchange, Producer, Queue

from adapters.broker import Broker, open_channel
from adapters.contract import NotNow, Reply, Unrecordable

logger = logging.getLogger(__name__)

MAXIMUM_REPLY_BYTES = 1024 * 1024
DEAD_SUFFIX = ".dead"
_PREFETCH = 20
_LOOK_UP_SECONDS = 1.0
"""How long a wait for messages lasts before `stop` is looked at."""
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class ReplyQueue:
    """One durable queue; what can't be used is put aside on `<name>.dead` with a reason."""

    def __init__(self, *, broker: Broker, name: str, redelivery_seconds: float) -> None:
        self._broker = broker
        self._name = name
        self._redelivery_seconds = redelivery_seconds

    def receive(self, *, record: Callable[[Reply], None], stop: threading.Event) -> None:
        """As `adapters.contract.ReplySource` has it; a broker that is away is waited for."""
        pause = _FIRST_PAUSE_SECONDS
        while not stop.is_set():
            connection = self._broker.to_consume(
                queue=self._name, redelivery_seconds=self._redelivery_seconds
            )
            try:
                with self._consumer(connection, record):
                    pause = _FIRST_PAUSE_SECONDS
                    self._drain(connection, stop)
            except Exception as error:
                # Whatever it was, what is on the queue stays there and is fetched again.
                logger.warning(
                    "replies can't be fetched at present",
                    extra={"queue": self._name, "reason": f"{type(error).__name__}: {error}"[:300]},
                )
                stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            finally:
                with contextlib.suppress(Exception):
                    connection.release()

    def _consumer(self, connection: Connection, record: Callable[[Reply], None]) -> Consumer:
        return Consumer(
            open_channel(connection),
            queues=[_queue(self._name)],
            on_message=lambda message: self._take(message, record),
            prefetch_count=_PREFETCH,
        )

    def _drain(self, connection: Connection, stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=_LOOK_UP_SECONDS)
            if self._broker.is_amqp:
                connection.heartbeat_check()

    def _take(self, message: Any, record: Callable[[Reply], None]) -> None:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        try:
            if len(body) > MAXIMUM_REPLY_BYTES:
                raise Unrecordable(f"It is longer than {MAXIMUM_REPLY_BYTES} bytes.")
            record(
                Reply(
                    body=body,
                    message_id=_text(message.properties.get("message_id")),
                    correlation_id=_text(message.properties.get("correlation_id")),
                )
            )
        except NotNow:
            message.requeue()
            return
        except Unrecordable as error:
            self._put_aside(message, body, str(error))
        message.ack()

    def _put_aside(self, message: Any, body: bytes, reason: str) -> None:
        logger.error("reply put aside", extra={"queue": self._name, "reason": reason})
        dead = _queue(self._name + DEAD_SUFFIX)
        # On a connection of its own: waiting for a confirmation on the one that delivers would
        # deliver the next message in the middle of this one.
        with self._broker.to_publish() as connection:
            channel = open_channel(connection)
            dead(channel).declare()
            Producer(channel, auto_declare=False).publish(
                body,
                routing_key=dead.name,
                content_type=str(message.content_type or "application/octet-stream"),
                content_encoding="binary",
                delivery_mode="persistent",
                headers={"reason": reason[:1000]},
                message_id=_text(message.properties.get("message_id")),
                correlation_id=_text(message.properties.get("correlation_id")),
                retry=False,
                timeout=self._broker.timeout_seconds,
                confirm_timeout=self._broker.timeout_seconds,
            )


def _queue(name: str) -> Queue:
    # The anonymous exchange delivers by queue name alone: no binding that could be forgotten.
    return Queue(name, Exchange(""), routing_key=name, durable=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
