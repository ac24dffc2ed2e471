"""Connections on which one deadline covers a whole call: resolving, connecting, TLS, sending,
and every byte of the answer.

A socket timeout limits one `recv`; a server that drips a byte per second never trips it. Here
every socket operation of a call gets what is left of that call's time. The sockets also note
whether any byte of the request has left, which is the difference between "nothing happened" and
"not known what happened".
"""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

_IDLE_SECONDS = 4.0
"""Common servers close an idle connection after five seconds or more. One that is closed just
as we send leaves an outcome unknown, so ours are given up before."""


class _Call(threading.local):
    """The call that this thread is making."""

    ends_at: float = math.inf
    sent: bool = False
    admit: Callable[[str], None] | None = None

    def remaining_seconds(self) -> float:
        """Raises TimeoutError when nothing is left; 0 would make a socket non-blocking."""
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("The call's deadline has passed.")
        return left

    def is_over(self) -> bool:
        return time.monotonic() >= self.ends_at


call = _Call()


@contextmanager
def total_deadline(
    *, seconds: float, admit: Callable[[str], None] | None = None
) -> Iterator[_Call]:
    """Everything that this thread sends and receives inside has `seconds` altogether.

    `admit` gets every address that a name has, before the first is connected to, and raises
    where this call must not go. Connections are made to these addresses: nothing is resolved a
    second time, so that the answer can't change in between.
    """
    call.ends_at = time.monotonic() + seconds
    call.sent = False
    call.admit = admit
    try:
        yield call
    finally:
        call.ends_at = math.inf
        call.admit = None


class _DeadlineSocket(socket.socket):
    used_at = math.inf

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._limit()
        received = super().recv_into(*args, **kwargs)
        self.used_at = time.monotonic()
        return received

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._limit()
        call.sent = True
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._limit()
        call.sent = True
        super().sendall(*args, **kwargs)

    def _limit(self) -> None:
        if call.ends_at != math.inf:
            self.settimeout(call.remaining_seconds())


class _DeadlineTlsSocket(_DeadlineSocket, ssl.SSLSocket):
    """The same over TLS: the handshake's bytes don't pass `send`, so they don't count as sent."""


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not _idle_too_long(self.sock)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not _idle_too_long(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def connection_pool(*, scheme: str, host: str, port: int | None, size: int) -> HTTPConnectionPool:
    """A keep-alive pool whose requests obey `total_deadline`. `scheme` is http or https."""
    if scheme == "http":
        return _Pool(host, port, maxsize=size, retries=False)
    context = create_urllib3_context()
    context.load_default_certs()
    context.sslsocket_class = _DeadlineTlsSocket
    return _TlsPool(host, port, maxsize=size, retries=False, ssl_context=context)


def _idle_too_long(sock: object) -> bool:
    return time.monotonic() - getattr(sock, "used_at", math.inf) > _IDLE_SECONDS


def _connected(connection: HTTPConnection) -> socket.socket:
    """A connected socket, or NewConnectionError; every address gets its share of the time."""
    addresses = _resolve(connection)
    if call.admit is not None:
        for *_, address in addresses:
            call.admit(address[0])
    problem: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = _DeadlineSocket(family, kind, protocol)
        try:
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(call.remaining_seconds() / (len(addresses) - number))
            sock.connect(address)
            sock.settimeout(call.remaining_seconds())  # for the TLS handshake
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise NewConnectionError(connection, str(problem)) from problem


def _resolve(connection: HTTPConnection) -> list[tuple[Any, ...]]:
    try:
        return resolve(host=connection.host, port=connection.port)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except OSError as error:
        raise NewConnectionError(connection, str(error)) from error


def resolve(*, host: str, port: int | None) -> list[tuple[Any, ...]]:
    """What `getaddrinfo` says, in what is left of the call's time. Raises OSError."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    else:
        return list(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))

    # The resolver knows no timeout: a thread can be left behind, a sender slot can't.
    answers: SimpleQueue[list[tuple[Any, ...]] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=call.remaining_seconds())
    except Empty:
        raise TimeoutError(f"{host} was not resolved in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
