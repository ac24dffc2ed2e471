"""A broken wire between the engine and PostgreSQL, broken on purpose and to the point.

It understands of the frontend protocol what it takes to see a COMMIT: it can let the commit
through, swallow its reply and cut the connection, which is the one moment that no failpoint
inside a process can show.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

T = TypeVar("T")
_SOCKET = ".s.PGSQL.5432"
_NEGOTIATIONS = frozenset({80877103, 80877104})
"""SSLRequest and GSSENCRequest: answered with one byte, and a startup message follows."""
_CHUNK = 65536


class Proxy:
    """Listens in a folder as PostgreSQL would; connects to the one in another folder.

    Runs in a thread of its own. Every method may be called from any other thread.
    """

    def __init__(self, *, folder: Path, upstream: Path) -> None:
        self._folder = folder
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.AbstractServer | None = None
        self._wires: set[_Wire] = set()
        self._quiet = asyncio.Event()
        """No connection is there."""
        self._flowing = asyncio.Event()
        self._delay_seconds = 0.0
        self._refusing = False
        self._skip = 0
        self._cuts_left = 0
        self._delivered = True
        self.commits = 0
        """COMMITs that came by."""
        self.cuts = 0
        """Connections cut at a COMMIT."""

    def url(self, database_url: str) -> str:
        """The same database, reached through this proxy."""
        parts = urlsplit(database_url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        query["host"] = str(self._folder)
        return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._do(self._listen)

    def stop(self) -> None:
        async def end() -> None:
            if self._server is not None:
                self._server.close()
            self._flowing.set()
            await self._cut_all()
            if self._wires:
                await self._quiet.wait()

        self._do(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- what can go wrong -------------------------------------------------------------------

    def cut_all(self) -> int:
        """Cut every connection now. Returns how many there were."""
        return self._do(self._cut_all)

    def cut_at_commit(self, *, times: int = 1, skip: int = 0, delivered: bool = True) -> None:
        """Let `skip` COMMITs pass, then cut the connection at each of the next; 0 ends it.

        `delivered`: PostgreSQL commits and its reply is lost. Otherwise it never hears of it.
        """

        async def arm() -> None:
            self._skip, self._cuts_left, self._delivered = skip, times, delivered

        self._do(arm)

    def delay(self, seconds: float) -> None:
        """Hold back everything that passes, in both directions, for so long; 0 ends it."""
        self._delay_seconds = seconds

    def blackhole(self, on: bool) -> None:
        """Keep the connections and let nothing pass, until it is switched off."""

        async def switch() -> None:
            (self._flowing.clear if on else self._flowing.set)()

        self._do(switch)

    def refuse(self, on: bool) -> None:
        """Close new connections at once."""
        self._refusing = on

    @property
    def connections(self) -> int:
        return len(self._wires)

    # --- inside ------------------------------------------------------------------------------

    def _do(self, work: Callable[[], object]) -> T:  # type: ignore[type-var]
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)  # type: ignore[arg-type, return-value]

    async def _listen(self) -> None:
        self._flowing.set()
        path = self._folder / _SOCKET
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=path)
        path.chmod(0o777)

    async def _cut_all(self) -> int:
        wires = list(self._wires)
        for wire in wires:
            wire.cut()
        return len(wires)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            up = await asyncio.open_unix_connection(self._upstream / _SOCKET)
        except OSError:
            writer.transport.abort()
            return
        wire = _Wire(client=writer, server=up[1])
        self._wires.add(wire)
        self._quiet.clear()
        try:
            await asyncio.gather(
                self._requests(wire, reader, up[1]), self._replies(wire, up[0], writer)
            )
        finally:
            wire.cut()
            self._wires.discard(wire)
            if not self._wires:
                self._quiet.set()

    async def _requests(
        self, wire: _Wire, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                if any(wire.frontend.commits(data)):
                    self.commits += 1
                    if self._skip > 0:
                        self._skip -= 1
                    elif self._cuts_left > 0:
                        self._cuts_left -= 1
                        self.cuts += 1
                        if not self._delivered:
                            break
                        wire.swallowing = True
                await self._pass(data, sink)
        wire.cut(when_swallowed=True)

    async def _replies(
        self, wire: _Wire, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        swallowed = b""
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                if wire.swallowing:
                    swallowed += data
                    if b"COMMIT\0" in swallowed or b"ROLLBACK\0" in swallowed:
                        break
                    continue
                await self._pass(data, sink)
        wire.cut()

    async def _pass(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        await self._flowing.wait()
        sink.write(data)
        await sink.drain()


@dataclass(eq=False, slots=True)
class _Wire:
    """One connection of a client, and the one that stands behind it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    frontend: Frontend = field(default_factory=lambda: Frontend())
    swallowing: bool = False

    def cut(self, *, when_swallowed: bool = False) -> None:
        if when_swallowed and self.swallowing:
            return  # The reply is still to come; it ends the wire.
        for writer in (self.client, self.server):
            writer.transport.abort()


class Frontend:
    """Finds COMMIT in what a client sends, simple or prepared; keeps no more than it must."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        self._statements: dict[bytes, bool] = {}
        self._portals: dict[bytes, bool] = {}

    def commits(self, data: bytes) -> Iterator[bool]:
        """One True for each COMMIT that is complete with `data`."""
        self._rest += data
        while (message := self._next()) is not None:
            if self._is_commit(*message):
                yield True

    def _next(self) -> tuple[bytes, bytes] | None:
        head = 5 if self._started else 4
        if len(self._rest) < head:
            return None
        size = int.from_bytes(self._rest[head - 4 : head]) + head - 4
        if len(self._rest) < size:
            return None
        message, self._rest = self._rest[:size], self._rest[size:]
        if not self._started:
            self._started = int.from_bytes(message[4:8]) not in _NEGOTIATIONS
            return b"", b""
        return message[:1], message[5:]

    def _is_commit(self, kind: bytes, body: bytes) -> bool:
        if kind == b"Q":
            return _says_commit(body)
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            self._statements[name] = _says_commit(rest)
        elif kind == b"B":
            portal, _, rest = body.partition(b"\0")
            self._portals[portal] = self._statements.get(rest.partition(b"\0")[0], False)
        elif kind == b"E":
            return self._portals.get(body.partition(b"\0")[0], False)
        return False


def _says_commit(statement: bytes) -> bool:
    words = statement.partition(b"\0")[0].split(None, 1)
    return bool(words) and words[0].rstrip(b";").upper() in (b"COMMIT", b"END")
