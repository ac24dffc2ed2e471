"""The sandbox as the process that it is, spoken to by the HTTP adapter."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.http import HttpAdapter
from adapters.sandbox.systems import SYSTEMS
from adapters.signatures import SignatureRefused, verify
from fulfillment.definitions.loading import load_workflow
from fulfillment.definitions.node_kinds import outputs_of
from fulfillment.definitions.outputs import output_faults
from fulfillment.definitions.steps import CommandSpec
from oms.environment import CHECKOUT
from tests import sandbox as processes
from tests.sandbox import SECRET
from tests.waiting import until

CAN_ALL = Capabilities(idempotent=True, status_query=True, asynchronous=True)
_http = urllib3.PoolManager(retries=False)


class Sandbox(processes.Sandbox):
    """With the HTTP adapter in front of it."""

    def adapter(self, target: str) -> HttpAdapter:
        return HttpAdapter(target=target, settings={"base_url": self.url}, capabilities=CAN_ALL)

    def send(self, target: str, action: str = "do", **changes: Any) -> Outcome:
        return self.adapter(target).send(command=command(target, action, **changes))

    def query(self, target: str, name: str = "k") -> Outcome:
        return self.adapter(target).query(command=command(target, name=name))

    def executions(self, name: str = "k") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(f"/ledger/executions?key={key(name)}")["executions"]
        return rows


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def command(
    target: str, action: str = "do", *, name: str = "k", seconds: float = 10.0, **changes: Any
) -> Command:
    values: dict[str, Any] = {
        "command_id": 1,
        "idempotency_key": key(name),
        "target": target,
        "action": action,
        "payload": {"name": name},
        "order_reference": "order-1",
        "correlation_id": "correlation-1",
        "attempt": 1,
        "deadline": timedelta(seconds=seconds),
        **changes,
    }
    return Command(**values)


def misbehaving(kind: str, *, match: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    rule = {name: more.pop(name) for name in ("times", "probability") if name in more}
    return {"match": match or {}, **rule, "behaviour": {"kind": kind, **more}}


class Receiver:
    """Where callbacks arrive; refuses as many as it is told to."""

    def __init__(self, port: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.refusals.pop(0) if receiver.refusals else 200
                receiver.bodies.append(body)
                receiver.headers.append({k.lower(): v for k, v in self.headers.items()})
                if status == 200:
                    receiver.events.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/callbacks"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    started = Sandbox(tmp_path / "ledger.sqlite3")
    yield started
    started.kill()


def signed_id(receiver: Receiver, secret: str) -> str:
    """The id of what came first, verified as its receiver would. Raises SignatureRefused."""
    return verify(
        headers=receiver.headers[0],
        body=receiver.bodies[0],
        secrets=[secret],
        now_seconds=time.time(),
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.close()


# What the systems are like


def test_every_shipped_task_gets_the_outputs_that_it_declares(sandbox: Sandbox) -> None:
    checked = 0
    for file in sorted(CHECKOUT.glob("templates/workflows/*/v*.yaml")):
        for name, task in load_workflow(path=file).tasks.items():
            # What is reached by messages has no address.
            if not isinstance(task, CommandSpec) or task.target not in SYSTEMS:
                continue
            for target, action in [(task.target, task.action)] + [
                (other.target, other.action) for other in task.fallback
            ]:
                outcome = sandbox.send(target, action, name=f"{file.parent.name}{file.stem}{name}")
                assert outcome.kind is OutcomeKind.SUCCEEDED
                assert outcome.reference
                declared = outputs_of(task.outputs)
                returned = {one: outcome.outputs.get(one) for one in declared}
                assert output_faults(declared=declared, returned=returned) == [], f"{file}: {name}"
                checked += len(declared)
    assert checked >= 10


@pytest.mark.parametrize("target", SYSTEMS)
def test_a_repeated_key_has_one_effect_exactly_where_the_system_deduplicates(
    sandbox: Sandbox, target: str
) -> None:
    first, second = sandbox.send(target), sandbox.send(target, attempt=2)
    assert first.kind is second.kind is OutcomeKind.SUCCEEDED
    rows = sandbox.executions()
    if SYSTEMS[target].idempotent:
        assert second == first
        assert len(rows) == 1
    else:
        assert second.reference != first.reference
        assert [row["reference"] for row in rows] == [first.reference, second.reference]
        assert [row["attempt"] for row in rows] == [1, 2]
    counted = sandbox.get("/ledger/summary")
    assert counted["keys"] == 1
    assert counted["by_target"][target]["duplicate_keys"] == len(rows) - 1


@pytest.mark.parametrize("target", SYSTEMS)
def test_a_system_is_asked_about_a_key_exactly_where_it_can_be(
    sandbox: Sandbox, target: str
) -> None:
    before = sandbox.query(target)
    sent = sandbox.send(target)
    after = sandbox.query(target)
    if SYSTEMS[target].status_query:
        assert before.kind is OutcomeKind.NOT_FOUND
        assert (after.kind, after.outputs) == (OutcomeKind.SUCCEEDED, sent.outputs)
        assert after.reference == sent.reference
    else:
        assert before.code == after.code == "no_status_query"


def test_identical_requests_at_once_have_one_effect(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("latency", latency_ms=100))
    door = sandbox.adapter("billing")
    with ThreadPoolExecutor(12) as threads:
        outcomes = list(threads.map(lambda _: door.send(command=command("billing")), range(12)))
    assert {outcome.reference for outcome in outcomes} == {outcomes[0].reference}
    assert len(sandbox.executions()) == 1


def test_outputs_follow_from_the_key(sandbox: Sandbox, tmp_path: Path) -> None:
    before = sandbox.send("provisioning", "create_tenant")
    sandbox.stop()
    sandbox.ledger = tmp_path / "another.sqlite3"
    sandbox.start()
    assert sandbox.send("provisioning", "create_tenant") == before


def test_a_key_with_another_payload_is_refused(sandbox: Sandbox) -> None:
    sandbox.send("billing", payload={"amount": 1})
    outcome = sandbox.send("billing", payload={"amount": 2})
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "key_reused")
    assert len(sandbox.executions()) == 1


def test_what_was_answered_survives_kill_9(sandbox: Sandbox) -> None:
    door = sandbox.adapter("payment")
    answered: list[str] = []

    def send_until_it_dies(thread: int) -> None:
        for number in range(10_000):
            name = f"{thread}-{number}"
            if door.send(command=command("payment", name=name)).kind is not OutcomeKind.SUCCEEDED:
                return
            answered.append(key(name))

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(send_until_it_dies, thread) for thread in range(4)]
        until(lambda: len(answered) > 200)
        sandbox.kill()
        for future in running:
            future.result()
    sandbox.start()
    rows = sandbox.get("/ledger/executions?order=order-1&limit=10000")
    kept = {row["idempotency_key"] for row in rows["executions"]}
    assert set(answered) <= kept
    assert not rows["more"]


# Callbacks


def test_an_accepted_command_is_reported_with_a_signature(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    outcome = sandbox.send("provisioning", "create_tenant", callback_url=receiver.url)
    assert outcome.kind is OutcomeKind.ACCEPTED
    until(lambda: len(receiver.events) == 1)
    event = receiver.events[0]
    assert event["status"] == "succeeded"
    assert event["idempotency_key"] == key("k")
    assert event["reference"] == outcome.reference
    assert event["outputs"]["tenant_id"].startswith("tenant-")
    assert signed_id(receiver, SECRET) == event["event_id"]


def test_a_targets_own_secret_comes_before_the_shared_one(
    sandbox: Sandbox, receiver: Receiver, tmp_path: Path
) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text("provisioning's own\n")
    sandbox.stop()
    sandbox.start(OMS_CALLBACK_SECRET_PROVISIONING_FILE=str(secret_file))
    sandbox.send("provisioning", callback_url=receiver.url)
    until(lambda: len(receiver.events) == 1)
    assert signed_id(receiver, "provisioning's own") == receiver.events[0]["event_id"]
    with pytest.raises(SignatureRefused):
        signed_id(receiver, SECRET)


def test_while_secrets_change_a_callback_carries_both_signatures(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.stop()
    sandbox.start(OMS_NEXT_CALLBACK_SECRET="the next one")
    sandbox.send("provisioning", callback_url=receiver.url)
    until(lambda: len(receiver.events) == 1)
    assert signed_id(receiver, SECRET) == signed_id(receiver, "the next one")


def test_only_a_system_that_does_a_key_again_says_which_attempt_it_reports(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.script(misbehaving("asynchronous", latency_ms=0))
    sandbox.send("payment", callback_url=receiver.url, attempt=3)
    sandbox.send("provisioning", callback_url=receiver.url, attempt=3)
    until(lambda: len(receiver.events) == 2)
    assert sorted(event.get("attempt", 0) for event in receiver.events) == [0, 3]


def test_a_resent_command_is_not_done_or_reported_again(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    first = sandbox.send("provisioning", callback_url=receiver.url)
    sandbox.send("provisioning", callback_url=receiver.url)
    until(lambda: sandbox.get("/status")["callbacks"]["delivered"] == 1)
    third = sandbox.send("provisioning", callback_url=receiver.url)
    assert (third.kind, third.reference) == (OutcomeKind.SUCCEEDED, first.reference)
    assert len(sandbox.executions()) == 1
    assert sandbox.get("/status")["callbacks"] == {"waiting": 0, "given_up": 0, "delivered": 1}


def test_a_callback_is_repeated_until_the_receiver_takes_it(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    receiver.refusals = [500, 503, 429]
    sandbox.send("provisioning", callback_url=receiver.url)
    until(lambda: len(receiver.events) == 1)
    assert len(receiver.bodies) == 4
    assert len(set(receiver.bodies)) == 1


def test_a_callback_that_is_refused_for_good_is_given_up(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    receiver.refusals = [401]
    sandbox.send("provisioning", callback_url=receiver.url)
    until(lambda: sandbox.get("/status")["callbacks"]["given_up"] == 1)
    assert receiver.events == []


def test_a_callback_survives_kill_9_and_a_receiver_that_is_down(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sandbox.send("provisioning", callback_url=f"http://127.0.0.1:{port}/callbacks")
    sandbox.kill()
    sandbox.start()
    assert sandbox.get("/status")["callbacks"]["waiting"] == 1
    receiver = Receiver(port)
    until(lambda: len(receiver.events) == 1)
    receiver.close()
    assert receiver.events[0]["idempotency_key"] == key("k")


def test_callbacks_go_to_this_machine_only_unless_told_otherwise(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    outcome = sandbox.send("provisioning", callback_url="http://example.com/callbacks")
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "callback_origin_not_allowed")
    assert sandbox.executions() == []
    sandbox.stop()
    sandbox.start("--callback-origin", "http://web:8000")
    outcome = sandbox.send("provisioning", callback_url=receiver.url)
    assert outcome.code == "callback_origin_not_allowed"
    accepted = sandbox.send("provisioning", callback_url="http://web:8000/api/v1/callbacks/x")
    assert accepted.kind is OutcomeKind.ACCEPTED


def test_without_a_secret_an_asynchronous_command_waits_for_one(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.stop()
    sandbox.start(OMS_CALLBACK_SECRET="")
    outcome = sandbox.send("provisioning", callback_url=receiver.url)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "callback_secret_missing")
    assert outcome.retryable
    assert sandbox.executions() == []


# Misbehaviour


@pytest.mark.parametrize(
    ("kind", "more", "outcome", "code", "effects"),
    [
        ("latency", {"latency_ms": 50}, OutcomeKind.SUCCEEDED, "", 1),
        ("status", {"status": 500}, OutcomeKind.UNKNOWN, "unexpected_status", 0),
        ("status", {"status": 500, "effect": True}, OutcomeKind.UNKNOWN, "unexpected_status", 1),
        ("status", {"status": 404, "code": "gone"}, OutcomeKind.FAILED, "gone", 0),
        ("reject", {"code": "no_credit"}, OutcomeKind.REJECTED, "no_credit", 0),
        ("reject", {"status": 409}, OutcomeKind.REJECTED, "rejected", 0),
        ("hang", {}, OutcomeKind.UNKNOWN, "timeout", 0),
        ("succeed_then_timeout", {}, OutcomeKind.UNKNOWN, "timeout", 1),
        ("succeed_then_timeout", {"latency_ms": 1}, OutcomeKind.UNKNOWN, "connection_lost", 1),
        ("cut_connection", {}, OutcomeKind.UNKNOWN, "connection_lost", 1),
        ("cut_connection", {"effect": False}, OutcomeKind.UNKNOWN, "connection_lost", 0),
        ("garbage", {}, OutcomeKind.UNKNOWN, "garbage_body", 1),
        ("oversized", {}, OutcomeKind.UNKNOWN, "response_too_large", 1),
        ("drip", {"latency_ms": 100}, OutcomeKind.UNKNOWN, "timeout", 1),
    ],
)
def test_a_system_misbehaves_as_scripted(
    sandbox: Sandbox,
    kind: str,
    more: dict[str, Any],
    outcome: OutcomeKind,
    code: str,
    effects: int,
) -> None:
    sandbox.script(misbehaving(kind, **more))
    answer = sandbox.send("payment", seconds=0.5)
    assert (answer.kind, answer.code) == (outcome, code)
    assert len(sandbox.executions()) == effects
    logged = sandbox.get(f"/ledger/requests?key={key('k')}")["requests"]
    assert [row["behaviour"] for row in logged] == [kind]
    truth = {True: OutcomeKind.SUCCEEDED, False: OutcomeKind.NOT_FOUND}[bool(effects)]
    if kind == "reject":
        truth = OutcomeKind.REJECTED
    assert sandbox.query("payment").kind is truth


def test_a_slow_command_is_in_progress_to_whoever_asks(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("latency", latency_ms=1000))
    assert sandbox.send("payment", seconds=0.2).code == "timeout"
    assert sandbox.query("payment").code == "in_progress"
    until(lambda: sandbox.query("payment").kind is OutcomeKind.SUCCEEDED)
    assert len(sandbox.executions()) == 1


def test_retry_after_is_told(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("status", status=503, retry_after_seconds=7))
    assert sandbox.send("crm").retry_after == timedelta(seconds=7)


def test_a_refused_command_can_be_done_later(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("reject", times=1))
    assert sandbox.send("billing").kind is OutcomeKind.REJECTED
    assert sandbox.send("billing").kind is OutcomeKind.SUCCEEDED


def test_any_system_can_be_asynchronous_and_end_badly(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.script(misbehaving("asynchronous", ending="rejected", code="no_stock", latency_ms=0))
    accepted = sandbox.send("inventory", callback_url=receiver.url)
    assert accepted.kind is OutcomeKind.ACCEPTED
    until(lambda: len(receiver.events) == 1)
    assert receiver.events[0]["status"] == "rejected"
    assert receiver.events[0]["error"]["code"] == "no_stock"
    assert sandbox.executions() == []


def test_a_duplicate_callback_is_the_same_event_twice(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.script(misbehaving("duplicate_callback", latency_ms=0))
    sandbox.send("provisioning", callback_url=receiver.url)
    until(lambda: len(receiver.events) == 2)
    assert receiver.bodies[0] == receiver.bodies[1]
    assert len(sandbox.executions()) == 1


def test_a_callback_can_overtake_its_answer(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.script(misbehaving("callback_before_answer"))
    outcome = sandbox.send("provisioning", callback_url=receiver.url)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert [event["status"] for event in receiver.events] == ["succeeded"]


def test_a_lost_callback_leaves_only_the_status_query(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.script(misbehaving("never_call_back", latency_ms=300))
    sandbox.send("provisioning", callback_url=receiver.url)
    assert sandbox.query("provisioning").kind is OutcomeKind.ACCEPTED
    until(lambda: sandbox.query("provisioning").kind is OutcomeKind.SUCCEEDED)
    assert sandbox.get("/status")["callbacks"] == {"waiting": 0, "given_up": 0, "delivered": 0}
    assert receiver.events == []


def test_work_in_steps_is_reported_and_goes_on_after_a_death(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    step = {"steps": 4, "latency_ms": 20}
    sandbox.script(
        misbehaving("stepwise", match={"attempt": 1}, dies_after=2, **step),
        misbehaving("stepwise", **step),
    )
    sandbox.send("data-platform", callback_url=receiver.url)
    until(lambda: len(receiver.events) == 2)
    assert [event["progress"] for event in receiver.events] == [
        {"step": 1, "of": 4},
        {"step": 2, "of": 4},
    ]
    # It has died: nobody knows of the key any longer, and nothing has been done.
    until(lambda: sandbox.query("data-platform").kind is OutcomeKind.NOT_FOUND)
    assert sandbox.executions() == []
    told = receiver.events[-1]["progress"]
    again = sandbox.send("data-platform", callback_url=receiver.url, attempt=2, resume_from=told)
    assert again.kind is OutcomeKind.ACCEPTED
    until(lambda: len(receiver.events) == 4)
    assert [event["status"] for event in receiver.events[2:]] == ["in_progress", "succeeded"]
    assert receiver.events[2]["progress"] == {"step": 3, "of": 4}
    assert len(sandbox.executions()) == 1
    requests = sandbox.get(f"/ledger/requests?key={key('k')}")["requests"]
    assert [row["behaviour"] for row in requests if row["method"] == "POST"] == [
        "stepwise",
        "stepwise from 3",
    ]


@pytest.mark.parametrize(
    ("match", "applies"),
    [
        ({}, True),
        ({"target": "crm", "action": "update", "order": "order-1", "attempt": 1}, True),
        ({"target": "billing"}, False),
        ({"action": "delete"}, False),
        ({"order": "order-2"}, False),
        ({"attempt": 2}, False),
    ],
)
def test_a_rule_applies_to_what_it_matches(
    sandbox: Sandbox, match: dict[str, Any], applies: bool
) -> None:
    sandbox.script(misbehaving("reject", match=match))
    outcome = sandbox.send("crm", "update")
    assert (outcome.kind is OutcomeKind.REJECTED) is applies


def test_the_first_rule_that_applies_decides(sandbox: Sandbox) -> None:
    sandbox.script(
        misbehaving("reject", code="first", times=1),
        misbehaving("reject", code="second", match={"target": "crm"}),
        misbehaving("reject", code="third"),
    )
    codes = [sandbox.send(target).code for target in ("crm", "crm", "billing")]
    assert codes == ["first", "second", "third"]


def test_how_often_a_rule_was_used_survives_kill_9(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("status", status=500, times=2))
    assert sandbox.send("crm").kind is OutcomeKind.UNKNOWN
    sandbox.kill()
    sandbox.start()
    assert [rule["used"] for rule in sandbox.get("/behaviours")] == [1]
    kinds = [sandbox.send("crm").kind for _ in range(2)]
    assert kinds == [OutcomeKind.UNKNOWN, OutcomeKind.SUCCEEDED]


def test_a_probability_always_picks_the_same_keys(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("status", status=500, probability=0.3))

    def unlucky() -> list[int]:
        return [
            number
            for number in range(200)
            if sandbox.send("payment", name=str(number)).kind is OutcomeKind.UNKNOWN
        ]

    first = unlucky()
    assert 30 < len(first) < 90
    assert unlucky() == first


def test_behaviours_can_be_withdrawn(sandbox: Sandbox) -> None:
    sandbox.script(misbehaving("reject"))
    assert sandbox.request("DELETE", "/behaviours") == (200, [])
    assert sandbox.send("crm").kind is OutcomeKind.SUCCEEDED


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"not json", "JSON"),
        ({}, "the body: Input should be a valid array"),
        ([{"behaviour": {"kind": "explode"}}], "0.behaviour.kind"),
        ([{"behaviour": {"kind": "latency", "effect": True}}], "effect"),
        ([{"behaviour": {"kind": "latency", "latency": 3}}], "0.behaviour.latency"),
        ([{"behaviour": {"kind": "hang", "dies_after": 1}}], "dies_after"),
        ([{"match": {"tarket": "crm"}, "behaviour": {"kind": "hang"}}], "0.match.tarket"),
        ([{"times": 0, "behaviour": {"kind": "hang"}}], "0.times"),
    ],
)
def test_a_faulty_script_is_refused_and_the_old_one_stays(
    sandbox: Sandbox, body: Any, named: str
) -> None:
    sandbox.script(misbehaving("reject"))
    status, document = sandbox.request("PUT", "/behaviours", body)
    assert (status, document["error"]["code"]) == (422, "invalid_behaviours")
    assert named in document["error"]["message"]
    assert len(sandbox.get("/behaviours")) == 1


# Requests that are no commands


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "code"),
    [
        ("/nobody/do", {"Idempotency-Key": "k"}, b"{}", 404, "unknown_target"),
        ("/crm/do", {}, b"{}", 400, "idempotency_key_missing"),
        ("/crm/do", {"Idempotency-Key": "k"}, b"[]", 400, "body_not_an_object"),
        ("/crm/do", {"Idempotency-Key": "k"}, b"{", 400, "body_not_json"),
        ("/crm/do", {"Idempotency-Key": "k", "X-Attempt": "x"}, b"{}", 400, "attempt_invalid"),
        (
            "/crm/do",
            {"Idempotency-Key": "k", "X-Resume-From": "[]"},
            b"{}",
            400,
            "resume_from_invalid",
        ),
        ("/crm/do", {"Idempotency-Key": "k"}, b" " * 2_000_000, 413, "body_too_large"),
        ("/crm", {"Idempotency-Key": "k"}, b"{}", 404, "no_such_endpoint"),
    ],
)
def test_what_is_no_command_is_refused(
    sandbox: Sandbox, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    response = _http.request("POST", sandbox.url + path, headers=headers, body=body)
    assert (response.status, json.loads(response.data)["error"]["code"]) == (status, code)
    assert sandbox.get("/ledger/summary")["executions"] == 0


def test_the_ledger_can_be_emptied(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.script(misbehaving("asynchronous", latency_ms=3_600_000))
    sandbox.send("provisioning", callback_url=receiver.url)
    assert sandbox.request("DELETE", "/ledger") == (204, None)
    assert sandbox.get("/ledger/summary") == {
        "executions": 0,
        "keys": 0,
        "duplicate_keys": 0,
        "by_target": {},
    }
    assert sandbox.get("/status")["callbacks"]["waiting"] == 0
    assert len(sandbox.get("/behaviours")) == 1


@pytest.mark.parametrize("content", [b"this is no ledger" * 100, None])
def test_a_file_that_is_no_ledger_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "other.sqlite3"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-m", "adapters.sandbox", "--ledger", str(path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert "can't be used as a ledger" in ended.stderr
    assert "Traceback" not in ended.stderr
