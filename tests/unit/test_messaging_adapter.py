"""The messaging adapter against brokers that misbehave: little servers that speak Redis."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from adapters.contract import Capabilities, Command, Outcome, OutcomeKind, ReplySource
from adapters.messaging import MessagingAdapter
from adapters.registry import AdapterMisconfigured, build_adapter, known_kinds
from adapters.reports import NotAReport, outcome_of, report_of_message

CAN = Capabilities(idempotent=True, status_query=False, asynchronous=True)
QUEUES = {"queue": "work", "reply_queue": "work.replies"}
Answer = Callable[[list[bytes]], bytes | None]


class Broker:
    """As much of Redis as a publisher needs; `script` may answer a command in its own way.

    A script returns bytes to answer with, b"" to cut the connection, or None for the usual.
    """

    def __init__(self, script: Answer = lambda command: None) -> None:
        self.pushed: list[dict[str, Any]] = []
        self.connections = 0
        self.over = threading.Event()
        self._script = script
        self._open: list[socket.socket] = []
        self.start()

    def start(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                while line := lines.readline():
                    command = [
                        lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))
                    ]
                    answer = self._script(command)
                    if answer is None:
                        answer = self._usual(command)
                    if not answer:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(answer)
            except (OSError, ValueError):
                return

    def _usual(self, command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name == b"LPUSH":
            self.pushed.append({"queue": command[1].decode(), **json.loads(command[2])})
            return b":1\r\n"
        if name == b"EXEC":
            return b"*4\r\n:0\r\n:0\r\n:0\r\n:0\r\n"
        if name == b"LLEN":
            return b"+QUEUED\r\n"
        if name == b"HELLO":
            return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        return b"+PONG\r\n" if name == b"PING" else b"+OK\r\n"

    def hold(self, seconds: float = 10.0) -> bytes:
        """Keep whoever asked waiting until the test is over."""
        self.over.wait(seconds)
        return b""


@pytest.fixture
def broker() -> Iterator[Broker]:
    server = Broker()
    yield server
    server.over.set()
    server.stop()


def adapter(url: str, **settings: Any) -> MessagingAdapter:
    built = build_adapter(
        kind="messaging",
        target="work",
        settings={"broker_url": url, **QUEUES, **settings},
        capabilities=CAN,
    )
    assert isinstance(built, MessagingAdapter)
    return built


def command(*, seconds: float = 5.0, **changes: Any) -> Command:
    return Command(
        **{
            "command_id": 1,
            "idempotency_key": "ab" * 32,
            "target": "work",
            "action": "dig",
            "payload": {"depth": 2, "where": "Zürich"},
            "order_reference": "O-1",
            "correlation_id": "C-1",
            "attempt": 3,
            "deadline": timedelta(seconds=seconds),
            **changes,
        }
    )


def naming(name: bytes, answer: Callable[[], bytes | None]) -> Answer:
    return lambda given: answer() if given[0].upper() == name else None


# --- a message -----------------------------------------------------------------------------------


def test_a_command_is_one_persistent_message_with_all_that_its_reader_needs(
    broker: Broker,
) -> None:
    outcome = adapter(broker.url).send(command=command())
    assert outcome == Outcome(kind=OutcomeKind.ACCEPTED)
    (message,) = broker.pushed
    properties, headers = message["properties"], message["headers"]
    assert message["queue"] == "work"
    assert json.loads(base64.b64decode(message["body"])) == {"depth": 2, "where": "Zürich"}
    assert (message["content-type"], message["content-encoding"]) == ("application/json", "utf-8")
    assert properties["delivery_mode"] == 2
    assert properties["message_id"] == properties["correlation_id"] == "ab" * 32
    assert properties["reply_to"] == "work.replies"
    assert headers.pop("deadline")
    assert headers == {
        "action": "dig",
        "target": "work",
        "order_reference": "O-1",
        "correlation_id": "C-1",
        "attempt": "3",
    }


def test_where_to_go_on_is_told_beside_the_body(broker: Broker) -> None:
    adapter(broker.url).send(command=command(resume_from={"step": 3, "where": "Zürich"}))
    (message,) = broker.pushed
    assert json.loads(message["headers"]["resume_from"]) == {"step": 3, "where": "Zürich"}
    assert "step" not in json.loads(base64.b64decode(message["body"]))


def test_threads_share_the_connections(broker: Broker) -> None:
    shared = adapter(broker.url, pool_size=2)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: shared.send(command=command()), range(40)))
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}
    assert len(broker.pushed) == 40
    assert broker.connections <= 2 * 2, "one for kombu's own use and one for messages, each"


def test_what_is_no_json_is_not_sent(broker: Broker) -> None:
    outcome = adapter(broker.url).send(command=command(payload={"x": float("nan")}))
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "payload_not_json")
    assert not outcome.retryable
    assert broker.connections == 0


def test_nobody_can_be_asked(broker: Broker) -> None:
    outcome = adapter(broker.url).query(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "no_status_query")


# --- trouble -------------------------------------------------------------------------------------


def sends(broker: Broker, *, seconds: float = 5.0, **settings: Any) -> Outcome:
    """What becomes of a command; never later than its deadline."""
    begun = time.monotonic()
    outcome = adapter(broker.url, **settings).send(command=command(seconds=seconds))
    assert time.monotonic() - begun < seconds + 1.5
    return outcome


def test_a_broker_that_is_not_there_has_taken_nothing(broker: Broker) -> None:
    broker.stop()
    outcome = sends(broker)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "broker_unreachable")
    assert outcome.retryable


@pytest.mark.parametrize("silent", [b"PING", b"LLEN", b"CLIENT"])
def test_a_broker_that_is_silent_before_the_message_has_taken_nothing(
    broker: Broker, silent: bytes
) -> None:
    broker._script = naming(silent, broker.hold)
    outcome = sends(broker, seconds=0.5)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "broker_unreachable")
    broker.over.set()
    assert broker.pushed == []


def test_what_was_given_up_is_not_published_afterwards(broker: Broker) -> None:
    slow = threading.Event()

    def wait() -> None:
        slow.wait(5)

    broker._script = naming(b"PING", wait)
    shared = adapter(broker.url, pool_size=1)
    assert shared.send(command=command(seconds=0.3)).kind is OutcomeKind.FAILED
    slow.set()
    # The thread that was late takes up the next one, so it is done with the first.
    assert shared.send(command=command(order_reference="O-2")).kind is OutcomeKind.ACCEPTED
    assert [message["headers"]["order_reference"] for message in broker.pushed] == ["O-2"]


def test_silence_after_the_message_leaves_its_outcome_unknown(broker: Broker) -> None:
    broker._script = naming(b"LPUSH", broker.hold)
    outcome = sends(broker, seconds=0.5)
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert outcome.code in ("timeout", "connection_lost")


def test_a_connection_cut_after_the_message_leaves_its_outcome_unknown(broker: Broker) -> None:
    broker._script = naming(b"LPUSH", lambda: b"")
    outcome = sends(broker)
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "connection_lost")


def test_garbage_instead_of_a_confirmation_leaves_the_outcome_unknown(broker: Broker) -> None:
    broker._script = naming(b"LPUSH", lambda: b"hello\r\n")
    assert sends(broker).kind is OutcomeKind.UNKNOWN


@pytest.mark.parametrize(
    "refusal", [b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", b"-ERR no\r\n"]
)
def test_a_broker_that_refuses_the_message_has_not_taken_it(broker: Broker, refusal: bytes) -> None:
    broker._script = naming(b"LPUSH", lambda: refusal)
    outcome = sends(broker)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "broker_refused")
    assert outcome.retryable


def test_the_publish_timeout_is_shorter_than_a_patient_commands(broker: Broker) -> None:
    broker._script = naming(b"LPUSH", broker.hold)
    begun = time.monotonic()
    outcome = adapter(broker.url, publish_timeout=0.3).send(command=command(seconds=60))
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert time.monotonic() - begun < 30


def test_a_broker_that_was_restarted_is_found_again_without_a_doubt(broker: Broker) -> None:
    shared = adapter(broker.url, pool_size=1)
    assert shared.send(command=command()).kind is OutcomeKind.ACCEPTED
    port = broker.port
    broker.stop()
    away = shared.send(command=command())
    assert (away.kind, away.code) == (OutcomeKind.FAILED, "broker_unreachable")
    broker.start(port)
    assert shared.send(command=command()).kind is OutcomeKind.ACCEPTED
    assert len(broker.pushed) == 2


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"brokerurl": "x"}, "brokerurl"),
        ({"broker_url": None}, "needs broker_url"),
        ({"broker_url": "http://broker"}, "amqp://"),
        ({"broker_url": "redis://a:99999/0"}, "can't be read"),
        ({"broker_url": "amqp://a;amqp://b"}, "one broker"),
        ({"broker_url": "redis://:secret@broker/0"}, "without a password"),
        ({"broker_url": "redis+socket:///s?password=secret"}, "without a password"),
        ({"broker_url_variable": "X_URL"}, "keep one"),
        ({"queue": ""}, "needs queue"),
        ({"queue": "a queue"}, "needs queue"),
        ({"reply_queue": None}, "needs reply_queue"),
        ({"reply_queue": "work"}, "not its queue"),
        ({"exchange": "e", "routing_key": "k"}, "both a queue and an exchange"),
        ({"queue": "work", "routing_key": "k"}, "both a queue and an exchange"),
        ({"publish_timeout": 0}, "publish_timeout"),
        ({"publish_timeout": "5"}, "publish_timeout"),
        ({"redelivery_after": True}, "redelivery_after"),
        ({"pool_size": 0}, "pool_size"),
        ({"pool_size": 1.5}, "pool_size"),
    ],
)
def test_settings_that_can_not_work_are_refused_without_telling_secrets(
    settings: dict[str, Any], word: str
) -> None:
    with pytest.raises(AdapterMisconfigured, match=word) as refused:
        adapter(**{"url": "redis://localhost/0", **settings})
    assert "secret" not in str(refused.value)


def test_redis_takes_no_exchange() -> None:
    given = {"broker_url": "redis://localhost/0", "reply_queue": "r"}
    with pytest.raises(AdapterMisconfigured, match="queue rather than an exchange"):
        MessagingAdapter(
            target="work", settings={**given, "exchange": "e", "routing_key": "k"}, capabilities=CAN
        )


def test_rabbitmq_takes_an_exchange() -> None:
    built = MessagingAdapter(
        target="work",
        settings={
            "broker_url": "amqps://me@broker:5671/vhost",
            "exchange": "commands",
            "routing_key": "dig",
            "reply_queue": "work.replies",
        },
        capabilities=CAN,
    )
    assert isinstance(built, ReplySource)
    assert built.reply_address == "amqps://broker:5671/vhost work.replies"


@pytest.mark.parametrize(
    "can",
    [
        Capabilities(idempotent=False, status_query=False, asynchronous=True),
        Capabilities(idempotent=True, status_query=True, asynchronous=True),
        Capabilities(idempotent=True, status_query=False, asynchronous=False),
    ],
)
def test_capabilities_that_messages_do_not_have_are_refused(can: Capabilities) -> None:
    refused = "reports later and can't be asked|deduplicate by message_id"
    with pytest.raises(AdapterMisconfigured, match=refused):
        MessagingAdapter(
            target="work", settings={"broker_url": "redis://localhost", **QUEUES}, capabilities=can
        )


def test_a_secret_comes_from_the_environment(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def built() -> MessagingAdapter:
        return MessagingAdapter(
            target="work",
            settings={"broker_url_variable": "WORK_BROKER_URL", **QUEUES},
            capabilities=CAN,
        )

    monkeypatch.delenv("WORK_BROKER_URL", raising=False)
    with pytest.raises(AdapterMisconfigured, match="WORK_BROKER_URL, which is not set"):
        built()
    (tmp_path / "url").write_text(f"redis://:secret@127.0.0.1:{broker.port}/0\n")
    monkeypatch.setenv("WORK_BROKER_URL_FILE", str(tmp_path / "url"))
    assert built().send(command=command()).kind is OutcomeKind.ACCEPTED
    assert "secret" not in built().reply_address
    monkeypatch.setenv("WORK_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    outcome = built().send(command=command())
    assert outcome.kind is OutcomeKind.FAILED
    assert "secret" not in outcome.message


def test_without_an_address_the_engines_own_broker_carries_the_messages(broker: Broker) -> None:
    own = {"url": f"redis://:secret@127.0.0.1:{broker.port}/0", "queues": ["crm"]}
    settings = {"own_broker": own, **QUEUES}
    built = MessagingAdapter(target="work", settings=settings, capabilities=CAN)
    assert built.send(command=command()).kind is OutcomeKind.ACCEPTED
    for taken in ({"queue": "crm"}, {"reply_queue": "crm"}):
        with pytest.raises(AdapterMisconfigured, match="engine's own"):
            MessagingAdapter(target="work", settings={**settings, **taken}, capabilities=CAN)
    # The same name at another broker is another queue.
    elsewhere = {**settings, "broker_url": "redis://elsewhere/0", "queue": "crm"}
    MessagingAdapter(target="work", settings=elsewhere, capabilities=CAN)


def test_the_registry_knows_the_kind() -> None:
    assert "messaging" in known_kinds()


# --- reports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("succeeded", OutcomeKind.SUCCEEDED),
        ("rejected", OutcomeKind.REJECTED),
        ("failed", OutcomeKind.FAILED),
    ],
)
def test_a_report_says_what_became_of_the_command(status: str, kind: OutcomeKind) -> None:
    body = json.dumps(
        {
            "event_id": "e",
            "idempotency_key": "k",
            "status": status,
            "outputs": {"a": [1]},
            "reference": "R-1",
            "error": {"code": "c", "message": "m", "retryable": True, "more": 1},
            "more": 2,
        }
    ).encode()
    report = report_of_message(body=body, message_id="e", correlation_id="")
    assert outcome_of(report=report) == Outcome(
        kind=kind, outputs={"a": [1]}, reference="R-1", code="c", message="m", retryable=True
    )
    assert report.model_dump(mode="json")["more"] == 2


@pytest.mark.parametrize(
    ("message_id", "correlation_id"), [("other", "k"), ("e", "other"), ("e\n", "k"), ("e", "k\x00")]
)
def test_properties_that_contradict_the_body_or_hide_characters_are_refused(
    message_id: str, correlation_id: str
) -> None:
    with pytest.raises(NotAReport):
        report_of_message(
            body=b'{"event_id": "e", "idempotency_key": "k", "status": "failed"}',
            message_id=message_id,
            correlation_id=correlation_id,
        )
