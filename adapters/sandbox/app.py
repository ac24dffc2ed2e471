"""The web application: the systems' own endpoints, and those of whoever directs them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.broker import Broker
from adapters.callback_secrets import CallbackSecrets
from adapters.sandbox import bookkeeping
from adapters.sandbox.behaviours import RULES, Rule, Script, Scripted
from adapters.sandbox.bookkeeping import Received
from adapters.sandbox.callbacks import Dispatcher
from adapters.sandbox.ledger import Ledger
from adapters.sandbox.messages import Messages, Replies
from adapters.sandbox.playing import Player, Refused, error_response
from adapters.sandbox.systems import ALL_SYSTEMS, SYSTEMS
from adapters.strict_json import NotStrictJson, loads

MAXIMUM_BODY_BYTES = 1024 * 1024
_MAXIMUM_ROWS = 10_000
_LONGEST_KEY = 255
_LONGEST_ATTEMPT_DIGITS = 9


def create_app(
    *,
    ledger: Ledger,
    secrets: CallbackSecrets,
    callback_origins: Collection[str],
    broker: Broker | None = None,
) -> Starlette:
    """The sandbox on an open ledger; `callback_origins` as `is_allowed` takes them.

    Without a `broker`, the systems that are reached by messages hear nothing.

    Callbacks that a former process left behind are sent from the first moment on. The ledger is
    closed when the application ends.
    """
    stage = _Stage(ledger=ledger, secrets=secrets, callback_origins=callback_origins, broker=broker)
    return Starlette(
        routes=[
            Route("/healthz", stage.health),
            Route("/status", stage.status),
            Route("/behaviours", stage.behaviours, methods=["GET", "PUT", "DELETE"]),
            Route("/ledger", stage.clear_ledger, methods=["DELETE"]),
            Route("/ledger/summary", stage.summary),
            Route("/ledger/{table:str}", stage.rows),
            Route("/{target:str}/commands/{key:str}", stage.query),
            Route("/{target:str}/{action:str}", stage.command, methods=["POST"]),
        ],
        exception_handlers={
            Refused: _refused,
            HTTPException: _no_such_endpoint,
            Exception: _broken,
        },
        lifespan=stage.lifespan,
    )


class _Stage:
    def __init__(
        self,
        *,
        ledger: Ledger,
        secrets: CallbackSecrets,
        callback_origins: Collection[str],
        broker: Broker | None,
    ) -> None:
        self._ledger = ledger
        self._broker = broker
        self._dispatcher = Dispatcher(
            ledger=ledger,
            secrets=secrets,
            by_message=None if broker is None else Replies(broker=broker).send,
        )
        self._player = Player(
            ledger=ledger,
            dispatcher=self._dispatcher,
            secrets=secrets,
            callback_origins=callback_origins,
            script=Script(),
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._player.script = Script(await self._ledger.run(bookkeeping.load_behaviours))
        for callback in await self._ledger.run(bookkeeping.open_callbacks):
            self._dispatcher.add(callback)
        messages = None
        if self._broker is not None:
            messages = Messages(
                broker=self._broker,
                player=self._player,
                ledger=self._ledger,
                dispatcher=self._dispatcher,
            )
            messages.start()
        try:
            yield
        finally:
            if messages is not None:
                await messages.stop()
            await self._dispatcher.close()
            await asyncio.to_thread(self._ledger.close)

    async def command(self, request: Request) -> Response:
        body = await _body(request)
        target = request.path_params["target"]
        if target not in SYSTEMS:
            raise _unknown_target(target)
        try:
            payload = loads(body)
        except NotStrictJson as error:
            raise Refused(400, "body_not_json", f"The body is not usable JSON: {error}.") from None
        if not isinstance(payload, dict):
            raise Refused(400, "body_not_an_object", "The body must be a JSON object.")
        received = _received(
            request,
            action=request.path_params["action"],
            key=_key(request),
            body=body,
            payload=payload,
        )
        return await self._player.command(received=received)

    async def query(self, request: Request) -> Response:
        target = request.path_params["target"]
        if target not in SYSTEMS:
            raise _unknown_target(target)
        received = _received(request, action="", key=request.path_params["key"], body=b"")
        return await self._player.query(received=received)

    async def behaviours(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse([scripted.document() for scripted in self._player.script.scripted])
        rules: Sequence[Rule] = []
        if request.method == "PUT":
            try:
                rules = RULES.validate_json(await _body(request))
            except ValidationError as error:
                faults = "; ".join(
                    f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}"
                    for fault in error.errors()
                )
                raise Refused(422, "invalid_behaviours", faults) from None
        # Swapped and queued in one go: a use of the old script is never counted for the new.
        self._player.script = Script(Scripted(rule) for rule in rules)
        await self._ledger.run(partial(bookkeeping.replace_behaviours, rules=rules))
        return JSONResponse([scripted.document() for scripted in self._player.script.scripted])

    async def summary(self, request: Request) -> Response:
        return JSONResponse(await self._ledger.run(bookkeeping.summary))

    async def rows(self, request: Request) -> Response:
        table = request.path_params["table"]
        if table not in ("executions", "requests"):
            raise HTTPException(404)
        limit = request.query_params.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MAXIMUM_ROWS):
            raise Refused(400, "limit_invalid", f"limit is a number from 1 to {_MAXIMUM_ROWS}.")
        read = bookkeeping.rows_of(
            table,
            order=request.query_params.get("order", ""),
            key=request.query_params.get("key", ""),
            limit=int(limit),
        )
        return JSONResponse(await self._ledger.run(read))

    async def clear_ledger(self, request: Request) -> Response:
        self._dispatcher.forget()
        await self._ledger.run(bookkeeping.clear)
        return Response(status_code=204)

    async def health(self, request: Request) -> Response:
        await self._ledger.run(lambda connection: connection.execute("SELECT 1").fetchone())
        return JSONResponse({"status": "ok"})

    async def status(self, request: Request) -> Response:
        counted = await self._ledger.run(bookkeeping.summary)
        nothing = {"executions": 0, "keys": 0, "duplicate_keys": 0}
        return JSONResponse(
            {
                "systems": {
                    name: {**asdict(system), **counted["by_target"].get(name, nothing)}
                    for name, system in ALL_SYSTEMS.items()
                },
                "callbacks": await self._ledger.run(bookkeeping.callback_counts),
                "behaviours": len(self._player.script.scripted),
            }
        )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BODY_BYTES:
            raise Refused(413, "body_too_large", f"At most {MAXIMUM_BODY_BYTES} bytes are taken.")
    return bytes(body)


def _key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise Refused(
            400,
            "idempotency_key_missing",
            f"Send a header Idempotency-Key of 1 to {_LONGEST_KEY} characters.",
        )
    return key


def _received(
    request: Request,
    *,
    action: str,
    key: str,
    body: bytes,
    payload: Mapping[str, Any] | None = None,
) -> Received:
    attempt = request.headers.get("X-Attempt", "1")
    if not (attempt.isascii() and attempt.isdigit() and len(attempt) <= _LONGEST_ATTEMPT_DIGITS):
        raise Refused(400, "attempt_invalid", "X-Attempt is a whole number.")
    return Received(
        method=request.method,
        target=request.path_params["target"],
        action=action,
        key=key,
        order=unquote(request.headers.get("X-Order-Reference", "")),
        correlation_id=unquote(request.headers.get("X-Correlation-Id", "")),
        attempt=int(attempt),
        payload_sha256=hashlib.sha256(body).hexdigest(),
        callback_url=unquote(request.headers.get("X-Callback-Url", "")),
        at=time.time(),
        payload=payload or {},
        resume_from=_resume_from(request),
    )


def _resume_from(request: Request) -> Mapping[str, Any]:
    text = unquote(request.headers.get("X-Resume-From", "{}"))
    try:
        found = loads(text.encode())
    except NotStrictJson:
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "resume_from_invalid", "X-Resume-From is a JSON object.")
    return found


def _unknown_target(target: str) -> Refused:
    return Refused(
        404, "unknown_target", f"There is no system {target!r} here, only {', '.join(SYSTEMS)}."
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_response(status=error.status, code=error.code, message=error.message)


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(status=error.status_code, code="no_such_endpoint", message=error.detail)


async def _broken(request: Request, error: Exception) -> Response:
    return error_response(
        status=500, code="sandbox_broken", message=f"{type(error).__name__}: {error}"
    )
