"""Target systems that are reached through a message broker.

A command is one persistent message on the target's queue or exchange; what became of it comes
back as a message on the target's own reply queue. docs/adapters.md describes both for whoever
writes the other side.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapters import strict_json
from adapters.broker import Broker, BrokerUrlInvalid
from adapters.contract import Capabilities, Command, Outcome, OutcomeKind, Reply
from adapters.progress import line_of
from adapters.publishing import Message, Published, Publisher
from adapters.reply_queue import ReplyQueue
from adapters.settings import AdapterMisconfigured, refuse_unknown_settings

_DEFAULT_PUBLISH_SECONDS = 5.0
_DEFAULT_REDELIVERY_SECONDS = 30.0
_DEFAULT_POOL_SIZE = 4
_SETTINGS = frozenset(
    {
        *("broker_url", "broker_url_variable", "queue", "exchange", "routing_key", "reply_queue"),
        *("publish_timeout", "redelivery_after", "pool_size", "own_broker"),
    }
)
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class MessagingAdapter:
    """One target system behind one broker; keeps connections open, keeps nothing else.

    Settings: where commands go, `queue`, or on AMQP `exchange` and `routing_key`; `reply_queue`;
    the broker by `broker_url` (without a password) or by `broker_url_variable`, the name of the
    environment variable that holds it, else the engine's own; `publish_timeout` (5 s) for
    everything that one publication does; `redelivery_after` (30 s), on Redis; `pool_size`,
    connections (4). `own_broker` is the engine's to fill: the `url` of its broker, and the
    `queues` on it that are its own. Raises AdapterMisconfigured.
    """

    in_process = False

    def __init__(
        self, *, target: str, settings: Mapping[str, Any], capabilities: Capabilities
    ) -> None:
        refuse_unknown_settings(target=target, settings=settings, known=_SETTINGS)
        read = _Settings(target, settings)
        if not capabilities.asynchronous or capabilities.status_query:
            raise read.wrong(
                "is reached by messages, so it reports later and can't be asked: set asynchronous "
                "to true and status_query to false."
            )
        if not capabilities.idempotent:
            # Brokers deliver at least once, whatever we do.
            raise read.wrong(
                "is reached by messages, which a broker may deliver more than once: it has to "
                "deduplicate by message_id. Set idempotent to true when it does."
            )
        self.capabilities = capabilities
        self._target = target
        self._publish_seconds = read.seconds("publish_timeout", _DEFAULT_PUBLISH_SECONDS)
        broker = read.broker(self._publish_seconds)
        exchange, routing_key = read.destination(broker)
        self._reply_queue = read.reply_queue(broker, routing_key if not exchange else "")
        self.reply_address = f"{broker.address} {self._reply_queue}"
        self._replies = ReplyQueue(
            broker=broker,
            name=self._reply_queue,
            redelivery_seconds=read.seconds("redelivery_after", _DEFAULT_REDELIVERY_SECONDS),
        )
        self._publisher = Publisher(
            broker=broker,
            exchange=exchange,
            routing_key=routing_key,
            connections=read.whole_number("pool_size", _DEFAULT_POOL_SIZE),
            name=target,
        )

    def send(self, *, command: Command) -> Outcome:
        try:
            body = strict_json.dumps(command.payload)
        except strict_json.NotStrictJson as error:
            return Outcome(
                kind=OutcomeKind.FAILED,
                code="payload_not_json",
                message=f"The payload can't be written as JSON: {error}. Nothing was sent; "
                "correct the task's input.",
            )
        published = self._publisher.publish(
            message=Message(
                body=body,
                headers=_headers(command),
                message_id=command.idempotency_key,
                correlation_id=command.idempotency_key,
                reply_to=self._reply_queue,
            ),
            seconds=min(command.deadline.total_seconds(), self._publish_seconds),
        )
        return _OUTCOMES[published.how](published)

    def query(self, *, command: Command) -> Outcome:
        return Outcome(
            kind=OutcomeKind.UNKNOWN,
            code="no_status_query",
            message=f"{self._target} is reached by messages and can't be asked.",
        )

    def receive_replies(self, *, record: Callable[[Reply], None], stop: threading.Event) -> None:
        """As `adapters.contract.ReplySource` has it."""
        self._replies.receive(record=record, stop=stop)


def _headers(command: Command) -> dict[str, str]:
    headers = {
        "action": command.action,
        "target": command.target,
        "order_reference": command.order_reference,
        "correlation_id": command.correlation_id,
        "attempt": str(command.attempt),
        "deadline": (datetime.now(UTC) + command.deadline).isoformat(timespec="milliseconds"),
    }
    if command.resume_from is not None:
        headers["resume_from"] = line_of(command.resume_from)
    return headers


def _failed(published: Published) -> Outcome:
    return Outcome(
        kind=OutcomeKind.FAILED, code=published.code, message=published.message, retryable=True
    )


def _unknown(published: Published) -> Outcome:
    return Outcome(kind=OutcomeKind.UNKNOWN, code=published.code, message=published.message)


def _accepted(published: Published) -> Outcome:
    return Outcome(kind=OutcomeKind.ACCEPTED)


_OUTCOMES: Mapping[str, Callable[[Published], Outcome]] = {
    "taken": _accepted,
    "not_taken": _failed,
    "unclear": _unknown,
}


@dataclass(frozen=True, slots=True)
class _Settings:
    """The settings of a row, each read with a word on what is wrong with it."""

    target: str
    given: Mapping[str, Any]

    def wrong(self, what: str) -> AdapterMisconfigured:
        return AdapterMisconfigured(f"Target system {self.target!r} {what}")

    def broker(self, timeout_seconds: float) -> Broker:
        url, variable = self.given.get("broker_url"), self.given.get("broker_url_variable")
        if url is not None and variable is not None:
            raise self.wrong("has both broker_url and broker_url_variable; keep one of them.")
        if variable is not None:
            url = self._from_environment(variable)
        elif url is not None:
            if not isinstance(url, str) or _password_of(url):
                raise self.wrong(
                    "may have a broker_url without a password only; put the URL into an "
                    "environment variable and name that in broker_url_variable."
                )
        else:
            url = dict(self.given.get("own_broker") or {}).get("url")
        if not url:
            raise self.wrong("needs broker_url or broker_url_variable in its settings.")
        try:
            return Broker(url=url, timeout_seconds=timeout_seconds)
        except BrokerUrlInvalid as error:
            raise self.wrong(f"can't be reached: {error}") from None

    def destination(self, broker: Broker) -> tuple[str, str]:
        """Exchange and routing key; the anonymous exchange routes by the queue's name."""
        if "exchange" not in self.given and "routing_key" not in self.given:
            return "", self.name("queue")
        if "queue" in self.given:
            raise self.wrong("has both a queue and an exchange; keep one of them.")
        if not broker.is_amqp:
            # Bindings would live in Redis, and a message without one would be lost in silence.
            raise self.wrong("is reached over Redis, which needs a queue rather than an exchange.")
        return self.name("exchange"), self.name("routing_key")

    def reply_queue(self, broker: Broker, command_queue: str) -> str:
        name = self.name("reply_queue")
        own = dict(self.given.get("own_broker") or {})
        taken = set(own.get("queues", ())) if _same(broker, own) else set()
        for queue in (command_queue, name):
            if queue in taken:
                raise self.wrong(f"may not use the queue {queue!r}, which is the engine's own.")
        if name == command_queue:
            raise self.wrong("needs a reply_queue that is not its queue of commands.")
        return name

    def name(self, setting: str) -> str:
        value = self.given.get(setting)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.wrong(
                f"needs {setting} in its settings: up to 200 letters, digits and . _ : -; it is "
                f"{value!r}."
            )
        return value

    def seconds(self, setting: str, default: float) -> float:
        value = self.given.get(setting, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
            raise self.wrong(f"needs {setting} as seconds up to 3600, not {value!r}.")
        return float(value)

    def whole_number(self, setting: str, default: int) -> int:
        value = self.given.get(setting, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
            raise self.wrong(f"needs {setting} as a whole number from 1 to 1000, not {value!r}.")
        return value

    def _from_environment(self, variable: Any) -> str:
        if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
            raise self.wrong(
                "needs the name of an environment variable in broker_url_variable, such as "
                f"CRM_BROKER_URL, not {variable!r}."
            )
        if url := os.environ.get(variable):
            return url
        path = os.environ.get(f"{variable}_FILE")
        try:
            url = Path(path).read_text().strip() if path else ""
        except OSError as error:
            raise self.wrong(f"can't be reached: {variable}_FILE can't be read: {error}.") from None
        if not url:
            raise self.wrong(
                f"takes its broker's URL from {variable}, which is not set. Set it, or "
                f"{variable}_FILE, for every process of the engine."
            )
        return url


def _password_of(url: str) -> str:
    try:
        return urlsplit(url).password or ("?" if "password" in urlsplit(url).query else "")
    except ValueError:
        return ""


def _same(broker: Broker, own: Mapping[str, Any]) -> bool:
    try:
        theirs = Broker(url=own.get("url", ""), timeout_seconds=1)
    except BrokerUrlInvalid:
        return False
    return theirs.address == broker.address
