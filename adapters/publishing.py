"""Publishing one message within a given time, whatever the broker does or fails to do.

No transport bounds the whole of a publication: a name is resolved, a connection opened, a login
made, each with a limit of its own at best. So threads that own the connections do it, and whoever
wants something published waits no longer than it may. A publication that nobody waits for any
more is not begun: only what had begun when the time was up is of unknown outcome.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from amqp.exceptions import ChannelError, MessageNacked
from kombu import Connection, Producer
from redis.exceptions import ResponseError

from adapters.broker import Broker, open_channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One persistent message; `body` is JSON."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    message_id: str = ""
    correlation_id: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    how: Literal["taken", "not_taken", "unclear"]
    """Whether the broker has it now; `not_taken` is certain."""
    code: str = ""
    message: str = ""


_TAKEN = Published(how="taken")
_GIVEN_UP = Published(how="not_taken", code="given_up")


class Publisher:
    """Publishes to one exchange and routing key; shared by any number of threads."""

    def __init__(
        self, *, broker: Broker, exchange: str, routing_key: str, connections: int, name: str
    ) -> None:
        self._broker = broker
        self._exchange = exchange
        self._routing_key = routing_key
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix=f"publish-{name}")
        self._mine = threading.local()

    def publish(self, *, message: Message, seconds: float) -> Published:
        """Publish once, within `seconds`."""
        ticket = _Ticket()
        doing = self._threads.submit(self._publish, message, ticket, seconds)
        try:
            return doing.result(timeout=seconds)
        except TimeoutError:
            if ticket.give_up():
                return Published(
                    how="not_taken",
                    code="broker_unreachable",
                    message=f"No connection to {self._broker.address} within {seconds:g} s. "
                    "Nothing was sent.",
                )
            if doing.done():
                return doing.result()
            return Published(
                how="unclear",
                code="timeout",
                message=f"{self._broker.address} did not confirm the message within {seconds:g} s.",
            )

    def _publish(self, message: Message, ticket: _Ticket, seconds: float) -> Published:
        if ticket.given_up:
            return _GIVEN_UP
        try:
            producer = self._producer()
        except Exception as error:
            self._drop()
            refused = isinstance(error, ChannelError | ResponseError)
            return Published(
                how="not_taken",
                code="broker_refused" if refused else "broker_unreachable",
                message=f"{self._broker.address} can't be used: {_reason(error)}. "
                "Nothing was sent.",
            )
        if not ticket.begin():
            return _GIVEN_UP
        try:
            self._send(producer, message, seconds)
            return _TAKEN
        except Exception as error:
            self._drop()
            if self._is_refusal(error):
                return Published(
                    how="not_taken",
                    code="broker_refused",
                    message=f"{self._broker.address} did not take the message: {_reason(error)}.",
                )
            return Published(
                how="unclear",
                code="connection_lost",
                message=f"The connection to {self._broker.address} broke while the message was "
                f"sent: {_reason(error)}.",
            )

    def _send(self, producer: Producer, message: Message, seconds: float) -> None:
        producer.publish(
            message.body,
            exchange=self._exchange,
            routing_key=self._routing_key,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode="persistent",
            headers=dict(message.headers),
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            # Without a queue to go to, AMQP would drop it and confirm it all the same.
            mandatory=self._broker.is_amqp,
            retry=False,
            timeout=seconds,
            confirm_timeout=seconds,
        )

    def _is_refusal(self, error: Exception) -> bool:
        """Whether the broker itself has said that it does not have the message."""
        if isinstance(error, MessageNacked):
            # An exchange may have passed it to one queue and failed at another.
            return not self._exchange
        return isinstance(error, ChannelError | ResponseError)

    def _producer(self) -> Producer:
        """This thread's producer, on a connection that has answered just now."""
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self._broker.to_publish()
            self._mine.producer = Producer(open_channel(connection), auto_declare=False)
        producer: Producer = self._mine.producer
        self._ask(producer.channel)
        return producer

    def _ask(self, channel: Any) -> None:
        """One round trip, so that a connection that has died shows before anything is sent."""
        if not self._broker.is_amqp:
            channel.queue_declare(queue=self._routing_key)
        elif self._exchange:
            channel.exchange_declare(self._exchange, type="", passive=True)
        else:
            channel.queue_declare(queue=self._routing_key, passive=True)

    def _drop(self) -> None:
        connection: Connection | None = getattr(self._mine, "connection", None)
        self._mine.connection = self._mine.producer = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect()


class _Ticket:
    """Decides between the thread that publishes and the one that waits: who comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self.given_up = False

    def begin(self) -> bool:
        """False when nobody waits any more; then nothing may be sent."""
        with self._lock:
            self._begun = not self.given_up
            return self._begun

    def give_up(self) -> bool:
        """True when nothing was sent, and nothing will be."""
        with self._lock:
            self.given_up = not self._begun
            return self.given_up


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")[:300]
