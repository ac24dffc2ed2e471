"""Answers that no well-behaved server gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_OVERSIZED_BYTES = 20 * 1024 * 1024
_PART_BYTES = 64 * 1024
GARBAGE = b'{"status": "succeeded", "reference": "'


class SandboxProtocol(H11Protocol):
    """Hands the connection's transport to the application, as `scope["state"]["transport"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Cut(Response):
    """Closes the connection without a byte."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _close(scope, receive)


class Silence(Response):
    """Says nothing until the client hangs up, or the time is over."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(_hung_up(receive), self._seconds)
        await _close(scope, receive)


def drip(*, body: bytes, seconds: float) -> Response:
    """The right answer, a byte at a time with `seconds` between them."""

    async def content() -> AsyncIterator[bytes]:
        for position in range(len(body)):
            await asyncio.sleep(seconds)
            yield body[position : position + 1]

    return StreamingResponse(
        content(), media_type="application/json", headers={"Content-Length": str(len(body))}
    )


def oversized() -> Response:
    """Far more than anybody has asked for."""

    async def content() -> AsyncIterator[bytes]:
        yield b'{"status": "succeeded", "filling": "'
        for _ in range(_OVERSIZED_BYTES // _PART_BYTES):
            yield b"x" * _PART_BYTES
        yield b'"}'

    return StreamingResponse(content(), media_type="application/json")


async def _close(scope: Scope, receive: Receive) -> None:
    transport: Any = scope["state"]["transport"]
    transport.close()
    # Returned before the connection is known to be lost, the server would still answer 500.
    await _hung_up(receive)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
