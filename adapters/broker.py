"""Connections to a message broker (RabbitMQ by AMQP, or Redis), on which no wait is endless."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from kombu import Connection
from kombu.transport import redis as redis_transport

_AMQP = ("amqp", "amqps", "pyamqp")
_REDIS = ("redis", "rediss", "redis+socket")
_HEARTBEAT_SECONDS = 30


class BrokerUrlInvalid(ValueError):
    """The URL is none that can be used; the message does not repeat it, it may hold a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where messages go; `timeout_seconds` bounds each single wait for it."""

    url: str = field(repr=False)
    timeout_seconds: float

    def __post_init__(self) -> None:
        """Raises BrokerUrlInvalid."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            raise BrokerUrlInvalid("The broker's URL can't be read.") from None
        if parts.scheme not in (*_AMQP, *_REDIS):
            raise BrokerUrlInvalid(
                "The broker's URL must be amqp://…, amqps://…, redis://…, rediss://… or "
                "redis+socket://…"
            )
        if ";" in self.url:
            raise BrokerUrlInvalid("The broker's URL must name one broker.")

    @property
    def is_amqp(self) -> bool:
        return urlsplit(self.url).scheme in _AMQP

    @property
    def address(self) -> str:
        """Which broker it is, without user and password."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        database = parse_qs(parts.query).get("virtual_host", [""])[-1]
        return f"{parts.scheme}://{host}{parts.path}" + (f"/{database}" if database else "")

    def to_publish(self) -> Connection:
        """A connection (not yet open) for messages that are confirmed where brokers do so."""
        options = self._amqp({"confirm_publish": True}) if self.is_amqp else self._redis({})
        return Connection(self.url, connect_timeout=self.timeout_seconds, transport_options=options)

    def to_consume(self, *, queue: str, redelivery_seconds: float) -> Connection:
        """A connection (not yet open) for one queue.

        On Redis, what was popped and not acknowledged for `redelivery_seconds` is delivered
        again; the list of it is the queue's own, so that no other consumer's clock applies.
        """
        if self.is_amqp:
            return Connection(
                self.url,
                connect_timeout=self.timeout_seconds,
                heartbeat=_HEARTBEAT_SECONDS,
                transport_options=self._amqp({"confirm_publish": True}),
            )
        connection = Connection(
            self.url,
            connect_timeout=self.timeout_seconds,
            transport_options=self._redis(
                {
                    "visibility_timeout": redelivery_seconds,
                    "unacked_key": f"{queue}.unacked",
                    "unacked_index_key": f"{queue}.unacked_index",
                    "unacked_mutex_key": f"{queue}.unacked_mutex",
                    "unacked_mutex_expire": max(1, round(redelivery_seconds)),
                    "unacked_restore_throttle": 1,
                }
            ),
        )
        # Not an argument: for a socket's URL that would be overruled.
        connection.transport_cls = _PlainMessagesToo
        return connection

    def _amqp(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "read_timeout": self.timeout_seconds,
            "write_timeout": self.timeout_seconds,
            **options,
        }

    def _redis(self, options: Mapping[str, Any]) -> dict[str, Any]:
        # Without them every wait lasts for as long as Redis is silent.
        return {
            "socket_timeout": self.timeout_seconds,
            "socket_connect_timeout": self.timeout_seconds,
            "socket_keepalive": True,
            **options,
        }


def open_channel(connection: Connection) -> Any:
    """Connect and open a channel, at once or not at all; kombu itself would pause and retry."""
    connection.ensure_connection(
        max_retries=1, interval_start=0, interval_step=0, reraise_as_library_errors=False
    )
    return connection.channel()


class _Client(redis.Redis):
    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)
        if command_name == "BRPOP" and answer:
            queue, item = answer
            return queue, _deliverable(item, queue.decode())
        return answer


class _Channel(redis_transport.Channel):
    def _get_client(self) -> Any:
        return _Client


class _PlainMessagesToo(redis_transport.Transport):
    """Takes what was pushed on the list as it is, beside kombu's envelopes.

    It has been popped by the time that it is looked at: what could not be unwrapped would be
    lost, and an exception would end the consumer.
    """

    Channel = _Channel


def _deliverable(item: bytes, queue: str) -> bytes:
    """kombu's envelope, as it came or put around what came; redelivered to where it was."""
    message = _envelope(item) or {
        "body": base64.b64encode(item).decode(),
        "content-type": "application/octet-stream",
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_mode": 2,
        },
    }
    message["properties"]["delivery_info"] = {"exchange": "", "routing_key": queue}
    return json.dumps(message).encode()


def _envelope(item: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(item)
        properties = message["properties"]
        if properties.get("body_encoding") == "base64":
            base64.b64decode(message["body"])
        usable = (
            isinstance(message["body"], str)
            and isinstance(message.get("headers"), dict)
            and isinstance(properties["delivery_tag"], str)
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return message if usable else None
