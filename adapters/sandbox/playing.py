"""How a system reacts to a command, scripted or not, and to a question about one."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

from starlette.responses import JSONResponse, Response

from adapters.callback_secrets import CallbackSecrets, variable
from adapters.sandbox.behaviours import ACCEPTING, Behaviour, Ending, Kind, Script
from adapters.sandbox.bookkeeping import (
    Callback,
    KeyReused,
    Known,
    Received,
    Work,
    log_request,
    look_up,
    perform,
)
from adapters.sandbox.broken import GARBAGE, Cut, Silence, drip, oversized
from adapters.sandbox.callbacks import Dispatcher, is_allowed
from adapters.sandbox.ledger import Ledger
from adapters.sandbox.systems import SYSTEMS

_CALLBACK_SECONDS = 0.2
_SILENCE_SECONDS = 120.0
_DRIP_SECONDS = 1.0
_STATUS_OF = {"succeeded": 200, "accepted": 202, "rejected": 422, "failed": 500}
_UNREADABLE = {
    Kind.HANG: "silence",
    Kind.SUCCEED_THEN_TIMEOUT: "silence",
    Kind.CUT_CONNECTION: "cut",
    Kind.GARBAGE: "garbage",
    Kind.OVERSIZED: "oversized",
}


class Refused(Exception):
    """The request is answered with an error of the protocol, and has no effect."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def error_response(
    *, status: int, code: str, message: str, retry_after_seconds: int | None = None
) -> Response:
    headers = {} if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


class Player:
    """All systems of the sandbox, on one ledger and under one script."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        dispatcher: Dispatcher,
        secrets: CallbackSecrets,
        callback_origins: Collection[str],
        script: Script,
    ) -> None:
        self.script = script
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._secrets = secrets
        self._callback_origins = callback_origins
        self._in_flight: Counter[tuple[str, str]] = Counter()

    async def command(self, *, received: Received) -> Response:
        """Do what is asked, in the way that the script says. Raises Refused."""
        script = self.script
        chosen = script.choose(
            target=received.target,
            action=received.action,
            order=received.order,
            attempt=received.attempt,
            key=received.key,
        )
        rule, behaviour = chosen if chosen is not None else (None, None)
        with self._working_on(received):
            if behaviour is not None and behaviour.kind in (
                Kind.LATENCY,
                Kind.STATUS,
                Kind.REJECT,
            ):
                await asyncio.sleep(behaviour.latency_seconds(default=0.0))
            # The script may have been replaced meanwhile, and the position mean another rule.
            log = partial(
                log_request,
                received=received,
                behaviour=_name(behaviour, received),
                rule=rule if script is self.script else None,
            )
            known = None
            if behaviour is None or behaviour.has_effect or behaviour.kind is Kind.REJECT:
                known = await self._perform(received, behaviour, log)
            else:
                await self._ledger.run(partial(log, answer=_answer_name(behaviour, None)))
            for callback in () if known is None else known.callbacks:
                await self._report(callback, behaviour)
            return _response(behaviour, known)

    async def query(self, *, received: Received) -> Response:
        """Say what became of a key. Raises Refused."""
        if not SYSTEMS[received.target].status_query:
            raise Refused(501, "no_status_query", f"{received.target} can't be asked about a key.")
        working = self._in_flight[(received.target, received.key)] > 0

        def operation(connection: sqlite3.Connection) -> Known | None:
            known = look_up(connection, target=received.target, key=received.key, now=received.at)
            status = "200" if known is not None else "409" if working else "404"
            log_request(connection, received=received, behaviour="", answer=status)
            return known

        known = await self._ledger.run(operation)
        if known is not None:
            return JSONResponse({"idempotency_key": received.key, **known.document()})
        if working:
            raise Refused(409, "in_progress", "A command with this key is being worked on.")
        raise Refused(404, "not_found", "This key has never had an effect here.")

    async def _perform(
        self, received: Received, behaviour: Behaviour | None, log: partial[None]
    ) -> Known:
        work = self._work(received, behaviour)

        def operation(connection: sqlite3.Connection) -> Known:
            known = perform(connection, received=received, work=work, now=time.time())
            log(connection, answer=_answer_name(behaviour, known))
            return known

        try:
            return await self._ledger.run(operation)
        except KeyReused:
            await self._ledger.run(partial(log, answer="409"))
            raise Refused(
                409,
                "key_reused",
                "This key came before with another payload. A repetition must be equal to the "
                "first request, and something else needs a key of its own.",
            ) from None

    def _work(self, received: Received, behaviour: Behaviour | None) -> Work:
        kind = None if behaviour is None else behaviour.kind
        if behaviour is not None and kind is Kind.REJECT:
            return Work(ending=Ending.REJECTED, error_code=behaviour.code or "rejected")
        by_nature = SYSTEMS[received.target].asynchronous and bool(received.callback_url)
        if not by_nature and kind not in ACCEPTING:
            return Work()
        ending, error_code, seconds = Ending.SUCCEEDED, "", _CALLBACK_SECONDS
        if behaviour is not None and kind in ACCEPTING:
            ending = behaviour.ending
            error_code = behaviour.code or ("" if ending is Ending.SUCCEEDED else ending.value)
            early = kind is Kind.CALLBACK_BEFORE_ANSWER
            seconds = 0.0 if early else behaviour.latency_seconds(default=_CALLBACK_SECONDS)
        callbacks = 2 if kind is Kind.DUPLICATE_CALLBACK else 1
        if not received.callback_url or kind is Kind.NEVER_CALL_BACK:
            callbacks = 0
        if callbacks:
            self._check_callback(received)
        return Work(
            ending=ending,
            error_code=error_code,
            seconds=seconds,
            callbacks=callbacks,
            steps=behaviour.steps if behaviour is not None and kind is Kind.STEPWISE else 0,
            dies_after=None if behaviour is None else behaviour.dies_after,
        )

    def _check_callback(self, received: Received) -> None:
        if not is_allowed(url=received.callback_url, origins=self._callback_origins):
            raise Refused(
                400,
                "callback_origin_not_allowed",
                f"{received.callback_url} is not an address that callbacks may go to. Start the "
                "sandbox with --callback-origin, or correct OMS_PUBLIC_URL.",
            )
        if not self._secrets.of(received.target):
            raise Refused(
                503,
                "callback_secret_missing",
                f"Callbacks of {received.target} can't be signed. Set OMS_CALLBACK_SECRET or "
                f"{variable(received.target)} for the sandbox and start it again.",
            )

    async def _report(self, callback: Callback, behaviour: Behaviour | None) -> None:
        if behaviour is not None and behaviour.kind is Kind.CALLBACK_BEFORE_ANSWER:
            callback = await self._dispatcher.attempt(callback)
        if callback.copies_left > 0:
            self._dispatcher.add(callback)

    @contextmanager
    def _working_on(self, received: Received) -> Iterator[None]:
        key = (received.target, received.key)
        self._in_flight[key] += 1
        try:
            yield
        finally:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]


def _name(behaviour: Behaviour | None, received: Received) -> str:
    """The behaviour as the request log names it."""
    if behaviour is None:
        return ""
    goes_on = behaviour.kind is Kind.STEPWISE and received.first_step > 1
    return f"{behaviour.kind.value} from {received.first_step}" if goes_on else behaviour.kind.value


def _answer_name(behaviour: Behaviour | None, known: Known | None) -> str:
    """The answer as the request log names it."""
    if behaviour is not None and behaviour.kind in _UNREADABLE:
        return _UNREADABLE[behaviour.kind]
    return str(_status(behaviour, known))


def _status(behaviour: Behaviour | None, known: Known | None) -> int:
    if behaviour is not None and behaviour.kind is Kind.STATUS:
        return behaviour.status or 500
    status = "succeeded" if known is None else known.status
    if status == "rejected" and behaviour is not None and behaviour.status is not None:
        return behaviour.status
    return _STATUS_OF[status]


def _response(behaviour: Behaviour | None, known: Known | None) -> Response:
    kind = None if behaviour is None else behaviour.kind
    document = {"status": "succeeded", "reference": ""} if known is None else known.document()
    status = _status(behaviour, known)
    if behaviour is None:
        return JSONResponse(document, status)
    match kind:
        case Kind.HANG | Kind.SUCCEED_THEN_TIMEOUT:
            return Silence(seconds=behaviour.latency_seconds(default=_SILENCE_SECONDS))
        case Kind.CUT_CONNECTION:
            return Cut()
        case Kind.GARBAGE:
            return Response(GARBAGE, media_type="application/json")
        case Kind.OVERSIZED:
            return oversized()
        case Kind.DRIP:
            body = bytes(JSONResponse(document).body)
            return drip(body=body, seconds=behaviour.latency_seconds(default=_DRIP_SECONDS))
        case Kind.STATUS:
            return error_response(
                status=status,
                code=behaviour.code or f"scripted_{status}",
                message="Scripted in the sandbox.",
                retry_after_seconds=behaviour.retry_after_seconds,
            )
        case _:
            return JSONResponse(document, status)
