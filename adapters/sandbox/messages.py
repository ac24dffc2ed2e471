"""The systems that are reached through a broker: commands from a queue, reports to another.

What a command does is in the ledger, its report with it, before the message is acknowledged; so
a process that is killed loses neither, and a message that comes twice has one effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import sqlite3
import threading
import time
from functools import partial
from typing import Any

from kombu import Consumer, Exchange, Queue

from adapters.broker import Broker, open_channel
from adapters.publishing import Message, Publisher
from adapters.sandbox.behaviours import ACCEPTING, Behaviour, Ending, Kind
from adapters.sandbox.bookkeeping import (
    Callback,
    KeyReused,
    Received,
    Work,
    log_request,
    perform,
    report_again,
)
from adapters.sandbox.callbacks import QUEUE, Dispatcher
from adapters.sandbox.ledger import Ledger
from adapters.sandbox.playing import Player
from adapters.sandbox.systems import BY_MESSAGE

logger = logging.getLogger("sandbox")

_REPORT_SECONDS = 0.2
_REDELIVERY_SECONDS = 10.0
_PAUSE_SECONDS = 0.5
_PUBLISH_SECONDS = 5.0
_SILENT = frozenset(
    {Kind.NEVER_CALL_BACK, Kind.SUCCEED_THEN_TIMEOUT, Kind.CUT_CONNECTION, Kind.DRIP, Kind.HANG}
)
"""Kinds of which nothing is heard: there is no connection on which to answer badly."""


class Replies:
    """Puts reports on reply queues."""

    def __init__(self, *, broker: Broker) -> None:
        self._broker = broker
        self._publishers: dict[str, Publisher] = {}
        self._lock = threading.Lock()

    def send(self, callback: Callback) -> tuple[str, int]:
        """What the broker said, and a status as HTTP would have it (0 when it said nothing)."""
        published = self._publisher(callback.url.removeprefix(QUEUE)).publish(
            message=_report(callback), seconds=_PUBLISH_SECONDS
        )
        return published.code or published.how, 202 if published.how == "taken" else 0

    def _publisher(self, queue: str) -> Publisher:
        with self._lock:
            if queue not in self._publishers:
                self._publishers[queue] = Publisher(
                    broker=self._broker, exchange="", routing_key=queue, connections=4, name=queue
                )
            return self._publishers[queue]


def _report(callback: Callback) -> Message:
    try:
        document = json.loads(callback.body)
    except ValueError:
        document = {"event_id": "", "idempotency_key": ""}
    return Message(
        body=callback.body.encode(),
        message_id=document["event_id"],
        correlation_id=document["idempotency_key"],
    )


class Messages:
    """A thread that takes commands from the systems' queues, one at a time."""

    def __init__(
        self, *, broker: Broker, player: Player, ledger: Ledger, dispatcher: Dispatcher
    ) -> None:
        self._broker = broker
        self._player = player
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="messages", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """To be called in the event loop that the player works in."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = self._broker.to_consume(
                queue="sandbox", redelivery_seconds=_REDELIVERY_SECONDS
            )
            try:
                queues = [Queue(name, Exchange(""), routing_key=name) for name in BY_MESSAGE]
                with Consumer(
                    open_channel(connection), queues=queues, on_message=self._take, prefetch_count=1
                ):
                    while not self._stop.is_set():
                        with contextlib.suppress(TimeoutError):
                            connection.drain_events(timeout=0.5)
                        if self._broker.is_amqp:
                            connection.heartbeat_check()
            except Exception as error:
                logger.warning("No commands from the broker: %s", error)
                self._stop.wait(_PAUSE_SECONDS)
            finally:
                with contextlib.suppress(Exception):
                    connection.release()

    def _take(self, message: Any) -> None:
        try:
            received = _received(message)
        except (ValueError, TypeError) as error:
            logger.warning("A message that is no command is dropped: %s", error)
            message.ack()
            return
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.command(received=received), self._loop).result()
        message.ack()

    async def command(self, *, received: Received) -> None:
        """Do what is asked, in the way that the script says, and report it."""
        script = self._player.script
        chosen = script.choose(
            target=received.target,
            action=received.action,
            order=received.order,
            attempt=received.attempt,
            key=received.key,
        )
        rule, behaviour = chosen if chosen is not None else (None, None)
        log = partial(
            log_request,
            received=received,
            behaviour="" if behaviour is None else behaviour.kind.value,
            rule=rule if script is self._player.script else None,
        )
        work = _work(behaviour)
        if behaviour is not None and behaviour.kind in _SILENT and not behaviour.has_effect:
            await self._ledger.run(partial(log, answer="silence"))
            return

        def operation(connection: sqlite3.Connection) -> tuple[Callback, ...]:
            now = time.time()
            known = perform(connection, received=received, work=work, now=now)
            log(connection, answer=known.status)
            if known.callbacks or not work.callbacks:
                return known.callbacks
            return report_again(connection, received=received, work=work, now=now)

        try:
            callbacks = await self._ledger.run(operation)
        except KeyReused:
            # A refusal would be taken for the end of the command that came first.
            logger.warning("Key %s came before with another payload.", received.key)
            await self._ledger.run(partial(log, answer="key_reused"))
            return
        for callback in callbacks:
            self._dispatcher.add(callback)


def _work(behaviour: Behaviour | None) -> Work:
    if behaviour is None:
        return Work(seconds=_REPORT_SECONDS, callbacks=1)
    kind = behaviour.kind
    ending = behaviour.ending if kind in ACCEPTING else Ending.SUCCEEDED
    if kind is Kind.REJECT:
        ending = Ending.REJECTED
    elif not behaviour.has_effect:
        ending = Ending.FAILED
    at_once = kind is Kind.CALLBACK_BEFORE_ANSWER
    callbacks = 0 if kind in _SILENT else 2 if kind is Kind.DUPLICATE_CALLBACK else 1
    return Work(
        ending=ending,
        error_code=behaviour.code or ("" if ending is Ending.SUCCEEDED else ending.value),
        seconds=0.0 if at_once else behaviour.latency_seconds(default=_REPORT_SECONDS),
        callbacks=callbacks,
        garbled=kind is Kind.GARBAGE,
        steps=behaviour.steps if kind is Kind.STEPWISE else 0,
        dies_after=behaviour.dies_after,
    )


def _received(message: Any) -> Received:
    """Raises ValueError or TypeError for what is no command of the protocol (docs/adapters.md)."""
    headers, properties = message.headers or {}, message.properties
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    target = str(headers.get("target"))
    payload = json.loads(body)
    if target not in BY_MESSAGE or not isinstance(payload, dict):
        raise ValueError(f"it is for {target!r}")
    if not properties.get("message_id") or not properties.get("reply_to"):
        raise ValueError("it has no message_id or no reply_to")
    return Received(
        method="MESSAGE",
        target=target,
        action=str(headers.get("action", "")),
        key=properties["message_id"],
        order=str(headers.get("order_reference", "")),
        correlation_id=str(headers.get("correlation_id", "")),
        attempt=int(headers.get("attempt", 1)),
        payload_sha256=hashlib.sha256(body).hexdigest(),
        callback_url=QUEUE + properties["reply_to"],
        at=time.time(),
        payload=payload,
        resume_from=json.loads(headers.get("resume_from", "{}")),
    )
