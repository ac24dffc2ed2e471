"""The HTTP adapter against real servers, most of them bad ones."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from adapters import deadline
from adapters.answers import Answer, outcome_of_query, outcome_of_send
from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.http import HttpAdapter
from adapters.registry import AdapterMisconfigured, build_adapter

CERTIFICATE = Path(__file__).parent / "localhost_tls.pem"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SUCCESS = b'{"status":"succeeded","reference":"r-1","outputs":{"tenant_id":"t-1"}}'
_HANG_ON_SECONDS = 5.0


class Peer:
    """A server that treats every connection as its script says."""

    def __init__(
        self, script: Callable[[Peer, socket.socket], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def read(self, connection: socket.socket) -> bytes:
        """One whole request; empty when the client has hung up."""
        data = b""
        while True:
            head, separator, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if separator and len(body) >= (int(length[1]) if length else 0):
                self.requests.append(data)
                return data
            received = connection.recv(65536)
            if not received:
                return b""
            data += received

    def drip(self, connection: socket.socket, data: bytes) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            if self.over.wait(0.02):
                return

    def close(self) -> None:
        self.over.set()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._script(self, connection)
        except OSError:
            pass  # the adapter hung up, as it should
        finally:
            connection.close()


Script = Callable[[Peer, socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(script: Script, tls: ssl.SSLContext | None = None) -> Peer:
        peers.append(Peer(script, tls))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def answer(body: bytes = SUCCESS, status: str = "200 OK", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + length + headers + b"\r\n" + body


def answering(*answers: bytes) -> Script:
    """Gives the answers in turn on one connection, then closes it."""

    def script(peer: Peer, connection: socket.socket) -> None:
        for data in answers:
            if not peer.read(connection):
                return
            connection.sendall(data)

    return script


def always(data: bytes) -> Script:
    def script(peer: Peer, connection: socket.socket) -> None:
        while peer.read(connection):
            connection.sendall(data)

    return script


def adapter(
    port: int, *, scheme: str = "http", host: str = "127.0.0.1", path: str = "", **settings: Any
) -> HttpAdapter:
    return HttpAdapter(
        target="crm",
        settings={"base_url": f"{scheme}://{host}:{port}{path}", **settings},
        capabilities=Capabilities(idempotent=True, status_query=True),
    )


def command(*, seconds: float = 10.0, **changes: Any) -> Command:
    values: dict[str, Any] = {
        "command_id": 1,
        "idempotency_key": "a" * 64,
        "target": "crm",
        "action": "update",
        "payload": {"b": "ü", "a": [1, None]},
        "order_reference": "order-1",
        "correlation_id": "correlation-1",
        "attempt": 2,
        "deadline": timedelta(seconds=seconds),
        "callback_url": "http://127.0.0.1:8000/api/v1/callbacks/crm",
        **changes,
    }
    return Command(**values)


def outcome_and_seconds(call: Callable[[], Outcome]) -> tuple[Outcome, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


# What is sent


def test_a_command_is_one_post_with_its_key_and_origin(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    outcome = adapter(peer.port, path="/base/", headers={"X-Tenant": "one"}).send(command=command())
    assert outcome == Outcome(
        kind=OutcomeKind.SUCCEEDED, outputs={"tenant_id": "t-1"}, reference="r-1"
    )
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /base/crm/update HTTP/1.1"
    assert {
        "Idempotency-Key: " + "a" * 64,
        "X-Correlation-Id: correlation-1",
        "X-Order-Reference: order-1",
        "X-Attempt: 2",
        "X-Callback-Url: http://127.0.0.1:8000/api/v1/callbacks/crm",
        "X-Tenant: one",
        "Content-Type: application/json",
    } <= set(lines)
    assert body == '{"a":[1,null],"b":"ü"}'.encode()


def test_equal_payloads_are_equal_bytes(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    door = adapter(peer.port)
    door.send(command=command(payload={"a": 1, "b": {"d": 1, "c": 2}}))
    door.send(command=command(payload={"b": {"c": 2, "d": 1}, "a": 1}))
    assert peer.requests[0] == peer.requests[1]


def test_names_from_data_stay_one_path_segment_and_one_header_line(
    serve: Callable[..., Peer],
) -> None:
    peer = serve(always(answer()))
    adapter(peer.port).send(
        command=command(action="../x y?z", order_reference="ö\r\nX-Evil: 1", target="..")
    )
    lines = peer.requests[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert lines[0] == "POST /%2E%2E/..%2Fx%20y%3Fz HTTP/1.1"
    assert "X-Order-Reference: %C3%B6%0D%0AX-Evil: 1" in lines


@pytest.mark.parametrize("payload", [{"n": float("nan")}, {"o": object()}, {"s": "\ud800"}])
def test_a_payload_that_is_not_json_is_never_sent(
    serve: Callable[..., Peer], payload: dict[str, Any]
) -> None:
    peer = serve(always(answer()))
    outcome = adapter(peer.port).send(command=command(payload=payload))
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "payload_not_json")
    assert not outcome.retryable
    assert peer.connections == 0


def test_one_connection_carries_many_commands(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    door = adapter(peer.port)
    kinds = {door.send(command=command()).kind for _ in range(20)}
    assert kinds == {OutcomeKind.SUCCEEDED}
    assert peer.connections == 1


def test_threads_share_one_adapter(serve: Callable[..., Peer]) -> None:
    def echo_the_key(peer: Peer, connection: socket.socket) -> None:
        while request := peer.read(connection):
            key = re.search(rb"Idempotency-Key: (\w+)", request)
            assert key is not None
            connection.sendall(answer(b'{"status":"succeeded","reference":"%s"}' % key[1]))

    peer = serve(echo_the_key)
    door = adapter(peer.port, pool_size=8)
    keys = [f"key{number}" for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = threads.map(lambda key: door.send(command=command(idempotency_key=key)), keys)
        assert [outcome.reference for outcome in outcomes] == keys


# Nothing was sent, so nothing happened


def test_a_refused_connection_had_no_effect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = adapter(port).send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "connect_failed")
    assert outcome.retryable


def test_a_name_that_is_not_resolved_had_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    outcome = adapter(80, host="crm.invalid").send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "connect_failed")


def test_a_resolver_that_hangs_is_given_up_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> None:
        over.wait(_HANG_ON_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    door = adapter(80, host="crm.invalid")
    outcome, seconds = outcome_and_seconds(lambda: door.send(command=command(seconds=0.2)))
    over.set()
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "connect_failed")
    assert seconds < 2


def test_an_untrusted_certificate_had_no_effect(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()), server_tls())
    outcome = adapter(peer.port, scheme="https", host="localhost").send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "connect_failed")
    assert "certificate" in outcome.message.lower()
    assert peer.requests == []


def test_a_query_that_finds_nobody_says_nothing_about_the_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = adapter(port).query(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "connect_failed")


# The deadline is total


def drips_headers(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    peer.drip(connection, b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 1000)


def drips_body(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    peer.drip(connection, b" " * 1000)


def drips_chunks(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(connection, b"1\r\n \r\n" * 200)


def drips_continues(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    while not peer.over.wait(0.02):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def is_silent(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    peer.over.wait(_HANG_ON_SECONDS)


def never_reads(peer: Peer, connection: socket.socket) -> None:
    peer.over.wait(_HANG_ON_SECONDS)


BAD_TIMING = [drips_headers, drips_body, drips_chunks, drips_continues, is_silent]


@pytest.mark.parametrize("script", BAD_TIMING)
def test_the_deadline_holds_however_the_bytes_come(
    serve: Callable[..., Peer], script: Script
) -> None:
    door = adapter(serve(script).port)
    outcome, seconds = outcome_and_seconds(lambda: door.send(command=command(seconds=0.3)))
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "timeout")
    assert 0.3 <= seconds < 1.5


@pytest.mark.parametrize("script", BAD_TIMING)
def test_the_deadline_holds_over_tls(
    serve: Callable[..., Peer], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    peer = serve(script, server_tls())
    door = adapter(peer.port, scheme="https", host="localhost")
    outcome, seconds = outcome_and_seconds(lambda: door.send(command=command(seconds=0.4)))
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "timeout")
    assert len(peer.requests) == 1
    assert 0.4 <= seconds < 1.6


def test_a_handshake_that_hangs_had_no_effect(serve: Callable[..., Peer]) -> None:
    door = adapter(serve(never_reads).port, scheme="https")
    outcome, seconds = outcome_and_seconds(lambda: door.send(command=command(seconds=0.3)))
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "connect_failed")
    assert seconds < 1.5


def test_a_target_that_does_not_read_ends_the_sending_too(serve: Callable[..., Peer]) -> None:
    door = adapter(serve(never_reads).port)
    big = command(seconds=0.3, payload={"text": "x" * 20_000_000})
    outcome, seconds = outcome_and_seconds(lambda: door.send(command=big))
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "timeout")
    assert seconds < 2.5


def test_tls_works_when_the_certificate_is_trusted(
    serve: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    peer = serve(always(answer()), server_tls())
    door = adapter(peer.port, scheme="https", host="localhost")
    assert door.send(command=command()).kind is OutcomeKind.SUCCEEDED
    assert door.send(command=command()).kind is OutcomeKind.SUCCEEDED
    assert peer.connections == 1


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


# Connections that break


@pytest.mark.parametrize(
    "before_the_cut",
    [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", answer()[:-1]],
    ids=["at once", "in the status line", "after the headers", "before the last byte"],
)
def test_a_connection_cut_after_the_request_is_unknown_and_not_repeated(
    serve: Callable[..., Peer], before_the_cut: bytes
) -> None:
    peer = serve(answering(before_the_cut))
    outcome = adapter(peer.port).send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "connection_lost")
    assert len(peer.requests) == 1


def test_a_stale_connection_is_noticed_before_anything_is_sent(
    serve: Callable[..., Peer],
) -> None:
    closed = threading.Event()

    def answers_once(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(answer())
        connection.close()
        closed.set()

    peer = serve(answers_once)
    door = adapter(peer.port)
    for _ in range(3):
        assert door.send(command=command()).kind is OutcomeKind.SUCCEEDED
        assert closed.wait(_HANG_ON_SECONDS)
        closed.clear()
    assert (peer.connections, len(peer.requests)) == (3, 3)


def test_a_long_idle_connection_is_not_used_again(
    serve: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = serve(always(answer()))
    door = adapter(peer.port)
    door.send(command=command())
    monkeypatch.setattr(deadline, "_IDLE_SECONDS", 0.0)
    assert door.send(command=command()).kind is OutcomeKind.SUCCEEDED
    assert peer.connections == 2


def test_a_connection_is_usable_again_after_a_timeout(serve: Callable[..., Peer]) -> None:
    def slow_first(peer: Peer, connection: socket.socket) -> None:
        if peer.connections == 1:
            drips_body(peer, connection)
        always(answer())(peer, connection)

    door = adapter(serve(slow_first).port)
    assert door.send(command=command(seconds=0.2)).code == "timeout"
    assert door.send(command=command()).kind is OutcomeKind.SUCCEEDED


# Answers that nobody can read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>All is well</html>",
        b"[]",
        b'"succeeded"',
        b"{}",
        b'{"status":"done"}',
        b'{"status":["succeeded"]}',
        b'{"status":"succeeded"',
        b'{"status":"succeeded","outputs":[1]}',
        b'{"status":"succeeded","reference":7}',
        b'{"status":"succeeded","outputs":{"n":NaN}}',
        b'{"status":"succeeded","outputs":{"n":-Infinity}}',
        b'{"status":"succeeded","outputs":{"n":1e999}}',
        b'{"status":"succeeded","outputs":{"s":"a\\u0000b"}}',
        b'{"status":"succeeded","outputs":{"a\\u0000b":1}}',
        b'{"status":"succeeded","outputs":{"s":"\\ud800"}}',
        b'{"status":"succeeded","status":"accepted"}',
        b'{"status":"succeeded","outputs":{"s":"\xff"}}',
        b'{"status":"succeeded","outputs":{"d":' + b"[" * 100 + b"]" * 100 + b"}}",
        b'{"status":"succeeded","outputs":{"d":' + b"[" * 90000 + b"]" * 90000 + b"}}",
        b'{"status":"succeeded","outputs":{"n":' + b"1" * 5000 + b"}}",
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_good_status_with_a_bad_body_is_unknown(status: int, body: bytes) -> None:
    outcome = outcome_of_send(answer=Answer(status=status, body=body), now=NOW)
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "garbage_body")


def test_escapes_that_are_real_characters_are_fine() -> None:
    body = b'{"status":"succeeded","outputs":{"s":"\\ud83d\\ude00 \\u00fc"}}'
    outcome = outcome_of_send(answer=Answer(status=200, body=body), now=NOW)
    assert outcome.outputs == {"s": "\U0001f600 ü"}


def test_many_brackets_side_by_side_are_not_deep() -> None:
    body = json.dumps({"status": "succeeded", "outputs": {"list": [{"n": 1}] * 500}}).encode()
    outcome = outcome_of_send(answer=Answer(status=200, body=body), now=NOW)
    assert outcome.kind is OutcomeKind.SUCCEEDED


@pytest.mark.parametrize("headers", [b"", b"Connection: close\r\n"])
def test_an_answer_that_is_too_large_is_unknown(serve: Callable[..., Peer], headers: bytes) -> None:
    peer = serve(answering(answer(SUCCESS + b" " * 2000, headers=headers)))
    door = adapter(peer.port, max_response_bytes=1000)
    outcome = door.send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "response_too_large")


def test_an_endless_answer_is_given_up_at_the_limit(serve: Callable[..., Peer]) -> None:
    def endless(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not peer.over.is_set():
            connection.sendall(b"x" * 65536)

    outcome = adapter(serve(endless).port).send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "response_too_large")


def test_an_answer_of_exactly_the_limit_is_read(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    door = adapter(peer.port, max_response_bytes=len(SUCCESS))
    assert door.send(command=command()).kind is OutcomeKind.SUCCEEDED


def test_a_redirect_is_not_followed(serve: Callable[..., Peer]) -> None:
    elsewhere = serve(always(answer()))
    location = b"Location: http://127.0.0.1:%d/crm/update\r\n" % elsewhere.port
    peer = serve(always(answer(b"", "307 Temporary Redirect", location)))
    outcome = adapter(peer.port).send(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "unexpected_status")
    assert elsewhere.connections == 0


# What an answer means


def error(code: str = "", message: str = "") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "retryable"),
    [
        (202, b'{"status":"accepted","reference":"r"}', OutcomeKind.ACCEPTED, "", False),
        (200, b'{"status":"accepted"}', OutcomeKind.ACCEPTED, "", False),
        (409, error("rejected"), OutcomeKind.REJECTED, "rejected", False),
        (422, error("no_credit"), OutcomeKind.REJECTED, "no_credit", False),
        (422, b"", OutcomeKind.REJECTED, "http_422", False),
        (409, error("in_progress"), OutcomeKind.UNKNOWN, "in_progress", False),
        (409, error("conflict"), OutcomeKind.UNKNOWN, "conflict", False),
        (409, error("key_reused"), OutcomeKind.FAILED, "key_reused", False),
        (400, error("bad_field"), OutcomeKind.FAILED, "bad_field", False),
        (401, b"<html>", OutcomeKind.FAILED, "http_401", False),
        (404, error("not_found"), OutcomeKind.FAILED, "not_found", False),
        (408, b"", OutcomeKind.UNKNOWN, "unexpected_status", False),
        (503, b"upstream connect error", OutcomeKind.UNKNOWN, "unexpected_status", False),
        (425, b"", OutcomeKind.FAILED, "http_425", True),
        (429, error("slow_down"), OutcomeKind.FAILED, "slow_down", True),
        (503, error("maintenance"), OutcomeKind.FAILED, "maintenance", True),
        (500, error("oops"), OutcomeKind.UNKNOWN, "unexpected_status", False),
        (502, b"<html>", OutcomeKind.UNKNOWN, "unexpected_status", False),
        (504, b"", OutcomeKind.UNKNOWN, "unexpected_status", False),
        (302, b"", OutcomeKind.UNKNOWN, "unexpected_status", False),
    ],
)
def test_what_the_answer_to_a_command_means(
    status: int, body: bytes, kind: OutcomeKind, code: str, retryable: bool
) -> None:
    outcome = outcome_of_send(answer=Answer(status=status, body=body), now=NOW)
    assert (outcome.kind, outcome.code, outcome.retryable) == (kind, code, retryable)


def test_a_status_declared_unsafe_is_unknown() -> None:
    unsafe = frozenset({422, 503})
    for status in unsafe:
        outcome = outcome_of_send(
            answer=Answer(status=status, body=error("x")), unsafe_statuses=unsafe, now=NOW
        )
        assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "unexpected_status")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", timedelta(seconds=7)),
        ("0", timedelta()),
        ("86400", timedelta(hours=1)),
        ("9" * 400, timedelta(hours=1)),
        ("Sun, 01 Mar 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Sun, 01 Mar 2026 11:00:00 GMT", timedelta()),
        ("Mon, 01 Mar 2027 12:00:00 GMT", timedelta(hours=1)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour(value: str, expected: timedelta | None) -> None:
    refusal = Answer(status=429, headers={"retry-after": value})
    assert outcome_of_send(answer=refusal, now=NOW).retry_after == expected


def test_retry_after_comes_through_a_real_answer(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer(b"", "429 Too Many Requests", b"Retry-After: 12\r\n")))
    outcome = adapter(peer.port).send(command=command())
    assert (outcome.kind, outcome.retryable) == (OutcomeKind.FAILED, True)
    assert outcome.retry_after == timedelta(seconds=12)


def test_a_targets_long_words_are_cut() -> None:
    outcome = outcome_of_send(
        answer=Answer(status=400, body=error("c" * 5000, "m" * 5000)), now=NOW
    )
    assert len(outcome.code) == 100
    assert len(outcome.message) < 1100


# Asking


def test_a_query_asks_for_the_key(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    outcome = adapter(peer.port).query(command=command())
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert peer.requests[0].startswith(b"GET /crm/commands/" + b"a" * 64 + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (200, SUCCESS, OutcomeKind.SUCCEEDED, ""),
        (200, b'{"status":"accepted"}', OutcomeKind.ACCEPTED, ""),
        (200, b'{"status":"rejected","error":{"code":"x"}}', OutcomeKind.REJECTED, "x"),
        (200, b'{"status":"failed","error":{"code":"x"}}', OutcomeKind.FAILED, "x"),
        (200, b'{"status":"in_progress"}', OutcomeKind.ACCEPTED, ""),
        (200, b'{"status":"accepted","progress":[]}', OutcomeKind.UNKNOWN, "garbage_body"),
        (200, b"<html>", OutcomeKind.UNKNOWN, "garbage_body"),
        (404, error("not_found"), OutcomeKind.NOT_FOUND, "not_found"),
        (404, b"<html>Not found</html>", OutcomeKind.UNKNOWN, "unexpected_status"),
        (404, b"", OutcomeKind.UNKNOWN, "unexpected_status"),
        (404, error("no_such_endpoint"), OutcomeKind.UNKNOWN, "unexpected_status"),
        (501, b"", OutcomeKind.UNKNOWN, "no_status_query"),
        (409, error("in_progress"), OutcomeKind.UNKNOWN, "in_progress"),
        (400, error("x"), OutcomeKind.UNKNOWN, "unexpected_status"),
        (422, error("rejected"), OutcomeKind.UNKNOWN, "unexpected_status"),
        (503, b"", OutcomeKind.UNKNOWN, "unexpected_status"),
        (500, b"", OutcomeKind.UNKNOWN, "unexpected_status"),
    ],
)
def test_what_the_answer_to_a_query_means(
    status: int, body: bytes, kind: OutcomeKind, code: str
) -> None:
    outcome = outcome_of_query(answer=Answer(status=status, body=body), now=NOW)
    assert (outcome.kind, outcome.code) == (kind, code)


@pytest.mark.parametrize(
    ("length", "kind"), [(3994, OutcomeKind.ACCEPTED), (3995, OutcomeKind.UNKNOWN)]
)
def test_a_progress_has_to_fit_into_a_header(length: int, kind: OutcomeKind) -> None:
    body = json.dumps({"status": "accepted", "progress": {"a": "x" * (length - 2)}}).encode()
    outcome = outcome_of_query(answer=Answer(status=200, body=body), now=NOW)
    assert outcome.kind is kind


def test_where_to_go_on_is_told_beside_the_payload(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    resumes = {"step": 3, "where": "Zürich", "share": "100 %"}
    door = adapter(peer.port)
    door.send(command=command(resume_from=resumes))
    door.send(command=command())
    first, second = (request.partition(b"\r\n\r\n") for request in peer.requests)
    (header,) = [line for line in first[0].decode().split("\r\n") if line.startswith("X-Resume")]
    assert json.loads(unquote(header.removeprefix("X-Resume-From: "))) == resumes
    assert b"X-Resume-From" not in second[0]
    assert first[2] == second[2]


def test_a_target_without_a_status_query_is_not_asked(serve: Callable[..., Peer]) -> None:
    peer = serve(always(answer()))
    door = HttpAdapter(
        target="billing",
        settings={"base_url": f"http://127.0.0.1:{peer.port}"},
        capabilities=Capabilities(idempotent=True, status_query=False),
    )
    outcome = door.query(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "no_status_query")
    assert peer.connections == 0


# Settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "base_url"),
        ({"base_url": "ftp://crm"}, "base_url"),
        ({"base_url": "crm:80"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://user:word@crm"}, "base_url"),
        ({"base_url": "http://crm?x=1"}, "base_url"),
        ({"base_url": "http://crm:99999"}, "base_url"),
        ({"base_url": "http://crm/\r\nX: 1"}, "base_url"),
        ({"base_url": "http://crm", "baseurl": 1}, "baseurl"),
        ({"base_url": "http://crm", "pool_size": 0}, "pool_size"),
        ({"base_url": "http://crm", "pool_size": True}, "pool_size"),
        ({"base_url": "http://crm", "max_response_bytes": "1"}, "max_response_bytes"),
        ({"base_url": "http://crm", "unsafe_statuses": [99]}, "unsafe_statuses"),
        ({"base_url": "http://crm", "unsafe_statuses": "503"}, "unsafe_statuses"),
        ({"base_url": "http://crm", "headers": {"X": "a\r\nY: b"}}, "headers"),
        ({"base_url": "http://crm", "headers": {"X Y": "a"}}, "headers"),
        ({"base_url": "http://crm", "headers": {"idempotency-key": "a"}}, "idempotency-key"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(AdapterMisconfigured, match=named) as raised:
        build_adapter(
            kind="http",
            target="crm",
            settings=settings,
            capabilities=Capabilities(idempotent=True, status_query=True),
        )
    assert raised.value.code == "adapter.bad_settings"
