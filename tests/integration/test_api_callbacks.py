"""Signed reports of target systems, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.callback_secrets import CallbackSecrets
from adapters.signatures import TOLERANCE_SECONDS, sign
from fulfillment.models import Command, InboundEvent, Transition
from oms.api.parsing import MAXIMUM_BYTES
from oms.models import Order
from tests import desk
from tests.api import Api, a_workflow, problem
from tests.desk import ScriptedSystems
from tests.together import together

_SECRET = "between the two of us"
_SHARED = "everybody's"


def _secrets(**by_variable: str) -> CallbackSecrets:
    return CallbackSecrets(by_variable=by_variable)


@pytest.fixture
def waiting(db: None, systems: ScriptedSystems, settings: Any) -> Order:
    """An order whose first task was accepted and awaits its report."""
    settings.OMS_CALLBACK_SECRETS = _secrets(
        OMS_CALLBACK_SECRET=_SHARED, OMS_CALLBACK_SECRET_ALPHA=_SECRET
    )
    a_workflow()
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    return order


def _report(**changes: Any) -> dict[str, Any]:
    key = Command.objects.get(action="one").idempotency_key
    return {
        "idempotency_key": key,
        "status": "succeeded",
        "outputs": {"number": "N-1"},
        **changes,
    }


def _signed(
    body: bytes, *, event: str = "e-1", secrets: Sequence[str] = (_SECRET,), age: int = 0
) -> dict[str, str]:
    return sign(
        message_id=event, at_seconds=int(time.time()) - age, body=body, secrets=list(secrets)
    )


def _send(
    report: Any, *, target: str = "alpha", headers: dict[str, str] | None = None, **how: Any
) -> HttpResponse:
    body = report if isinstance(report, bytes) else json.dumps(report).encode()
    given = _signed(body, **how) if headers is None else headers
    return Api().send(
        "POST",
        f"/callbacks/{target}",
        body,
        authorization="",
        **{name.replace("-", "_"): value for name, value in given.items()},
    )


def test_a_signed_report_moves_its_task(waiting: Order) -> None:
    response = _send(_report())
    assert response.json() == {"disposition": "APPLIED", "duplicate": False}
    desk.drain()
    waiting.refresh_from_db()
    assert waiting.state == "COMPLETED"
    assert desk.tasks_of(waiting)["one@1"].outputs == {"number": "N-1"}


def test_the_same_event_again_is_answered_and_does_nothing(waiting: Order) -> None:
    _send(_report())
    assert _send(_report()).json() == {"disposition": "APPLIED", "duplicate": True}
    assert InboundEvent.objects.count() == 1


def test_another_event_with_the_same_news_is_redundant(waiting: Order) -> None:
    _send(_report())
    response = _send(_report(), event="e-2")
    assert response.json() == {"disposition": "REDUNDANT", "duplicate": False}


def test_a_contradiction_is_kept_and_changes_nothing(waiting: Order) -> None:
    _send(_report())
    response = _send(_report(status="rejected"), event="e-2")
    assert response.json()["disposition"] == "CONFLICTING"
    assert desk.states_of(waiting)["one@1"] == "SUCCEEDED"


def test_a_report_on_an_unknown_key_is_kept_once_and_answered_202(waiting: Order) -> None:
    for duplicate in (False, True, True):
        response = _send(_report(idempotency_key="nobody's"))
        assert response.status_code == 202
        assert response.json() == {"disposition": "UNMATCHED", "duplicate": duplicate}
    assert InboundEvent.objects.get().task_id is None


def test_a_report_by_another_target_on_our_key_is_parked(waiting: Order) -> None:
    desk.target("beta")
    response = _send(_report(), target="beta", secrets=[_SHARED])
    assert response.status_code == 202
    assert response.json()["disposition"] == "UNMATCHED"
    assert desk.states_of(waiting)["one@1"] == "ACCEPTED"


def test_a_refusal_blocks_the_plan_with_the_target_systems_words(waiting: Order) -> None:
    _send(_report(status="rejected", error={"code": "no_stock", "message": "All sold."}))
    assert "no_stock: All sold." in desk.plan_of(waiting).blocked_reason


def test_the_headers_id_is_the_events_and_the_body_may_repeat_it(waiting: Order) -> None:
    assert _send(_report(event_id="e-1")).status_code == 200
    assert InboundEvent.objects.get().event_id == "e-1"
    response = _send(_report(event_id="e-3"), event="e-2")
    assert (response.status_code, problem(response)["code"]) == (400, "callback.event_id_differs")
    assert InboundEvent.objects.count() == 1


def test_one_id_for_reports_on_two_commands_is_a_conflict(waiting: Order) -> None:
    _send(_report())
    response = _send(_report(idempotency_key="0" * 64))
    assert (response.status_code, problem(response)["code"]) == (409, "callback.event_id_reused")
    assert InboundEvent.objects.count() == 1


def test_while_secrets_change_either_signature_is_believed(waiting: Order, settings: Any) -> None:
    settings.OMS_CALLBACK_SECRETS = _secrets(
        OMS_CALLBACK_SECRET_ALPHA=_SECRET, OMS_NEXT_CALLBACK_SECRET_ALPHA="soon"
    )
    assert _send(_report(), secrets=["soon"]).status_code == 200
    assert _send(_report(), event="e-2", secrets=["long ago", _SECRET]).status_code == 200
    assert _send(_report(), event="e-3", secrets=["long ago"]).status_code == 401


def test_a_target_with_a_dash_in_its_name_has_a_secret_of_its_own(
    waiting: Order, settings: Any
) -> None:
    desk.target("stock-room")
    settings.OMS_CALLBACK_SECRETS = _secrets(OMS_CALLBACK_SECRET_STOCK_ROOM="own")
    assert _send(_report(), target="stock-room", secrets=["own"]).status_code == 202


# What is not believed


def _nothing_happened(order: Order) -> None:
    assert desk.states_of(order)["one@1"] == "ACCEPTED"
    assert not InboundEvent.objects.exists()


_WHOLE = {
    "webhook-id": "e-1",
    "webhook-timestamp": "1700000000",
    "webhook-signature": "v1,AAAA",
}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (dict.fromkeys(_WHOLE, ""), "missing"),
        ({"webhook-id": "e" * 5000}, "missing"),
        ({"webhook-id": "é"}, "missing"),
        ({"webhook-timestamp": "-1700000000"}, "missing"),
        ({"webhook-timestamp": "9" * 400}, "missing"),
        ({"webhook-timestamp": "1700000000,1700000000"}, "missing"),
        ({"webhook-id": "e-1,e-1"}, "wrong"),
        ({"webhook-signature": "v1,AAAA,v1,AAAA"}, "wrong"),
        ({"webhook-signature": "v1a,AAAA"}, "wrong"),
        ({"webhook-signature": "v1,\xff"}, "wrong"),
        ({"webhook-signature": "v1,AAAA " * 900}, "wrong"),
        ({}, "wrong"),
    ],
)
def test_headers_that_prove_nothing_are_refused(
    waiting: Order, changes: dict[str, str], code: str
) -> None:
    response = _send(_report(), headers={**_WHOLE, **changes})
    assert (response.status_code, problem(response)["code"]) == (401, f"callback.signature_{code}")
    _nothing_happened(waiting)


def test_a_target_with_a_secret_of_its_own_is_not_reached_by_the_shared_one(
    waiting: Order,
) -> None:
    response = _send(_report(), secrets=[_SHARED])
    assert problem(response)["code"] == "callback.signature_wrong"
    _nothing_happened(waiting)


def test_a_report_replayed_to_another_targets_address_is_refused(
    waiting: Order, settings: Any
) -> None:
    desk.target("beta")
    settings.OMS_CALLBACK_SECRETS = _secrets(
        OMS_CALLBACK_SECRET_ALPHA=_SECRET, OMS_CALLBACK_SECRET_BETA="another"
    )
    assert problem(_send(_report(), target="beta"))["code"] == "callback.signature_wrong"
    _nothing_happened(waiting)


def test_a_changed_body_is_refused(waiting: Order) -> None:
    body = json.dumps(_report()).encode()
    response = _send(body.replace(b"succeeded", b"rejected"), headers=_signed(body))
    assert problem(response)["code"] == "callback.signature_wrong"
    _nothing_happened(waiting)


@pytest.mark.parametrize("age", [TOLERANCE_SECONDS + 30, -TOLERANCE_SECONDS - 30])
def test_a_recorded_report_is_refused_later(waiting: Order, age: int) -> None:
    response = _send(_report(), age=age)
    assert (response.status_code, problem(response)["code"]) == (401, "callback.signature_too_old")
    _nothing_happened(waiting)


@pytest.mark.parametrize("secret", ["guessed", _SECRET])
def test_without_any_secret_nothing_is_believed(waiting: Order, settings: Any, secret: str) -> None:
    settings.OMS_CALLBACK_SECRETS = _secrets()
    response = _send(_report(), secrets=[secret])
    assert problem(response)["code"] == "callback.signature_wrong"
    _nothing_happened(waiting)


def test_nobody_without_a_secret_can_ask_which_targets_there_are(
    waiting: Order, settings: Any
) -> None:
    """There, with and without a secret, and not there: one answer."""
    desk.target("beta")
    settings.OMS_CALLBACK_SECRETS = _secrets(OMS_CALLBACK_SECRET_ALPHA=_SECRET)
    answers = []
    for target in ("alpha", "beta", "nobody"):
        document = problem(_send(_report(), target=target, secrets=["guessed"]))
        assert document.pop("instance") == f"/api/v1/callbacks/{target}"
        answers.append(document)
    assert answers[0] == answers[1] == answers[2]


def test_who_has_the_secret_is_told_that_the_target_is_not_there(waiting: Order) -> None:
    response = _send(_report(), target="nobody", secrets=[_SHARED])
    assert (response.status_code, problem(response)["code"]) == (404, "callback.target_unknown")
    assert not InboundEvent.objects.exists()


# What can not be read


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b"{}",
        b'{"event_id": "\\u0000"}',
        {"idempotency_key": "k", "status": "perhaps"},
        {"event_id": "", "idempotency_key": "k", "status": "succeeded"},
        {"event_id": "e" * 201, "idempotency_key": "k", "status": "succeeded"},
        {"idempotency_key": "k", "status": "succeeded", "outputs": []},
        {"idempotency_key": "k", "status": "failed", "attempt": 0},
        {"idempotency_key": "k", "status": "failed", "attempt": "1"},
        {"idempotency_key": "k", "status": "failed", "attempt": True},
        {"idempotency_key": "k", "status": "failed", "attempt": 2**31},
        {"idempotency_key": "", "status": "failed"},
    ],
)
def test_a_signed_report_that_can_not_be_read_is_refused(waiting: Order, report: Any) -> None:
    assert problem(_send(report))["status"] == 400
    assert not InboundEvent.objects.exists()


def test_a_report_larger_than_the_limit_is_refused(waiting: Order) -> None:
    response = _send(_report(note="x" * MAXIMUM_BYTES))
    assert (response.status_code, problem(response)["code"]) == (413, "request.too_large")
    _nothing_happened(waiting)


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.dictionaries(
        st.sampled_from(
            [
                *("event_id", "outputs", "reference", "error", "status", "attempt"),
                *("idempotency_key", "order", "action", "more"),
            ]
        ),
        _VALUES,
    )
)
def test_random_reports_are_never_a_server_error(waiting: Order, changes: Any) -> None:
    assert _send(_report(**changes)).status_code in (200, 202, 400, 409)


def test_the_schema_tells_how_to_sign_and_what_may_be_answered(db: None) -> None:
    schema = Client().get("/api/schema/?format=json").json()
    (operation,) = schema["paths"]["/api/v1/callbacks/{target}"].values()
    headers = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
    assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert sorted(operation["responses"]) == [
        *("200", "202", "400", "401", "404", "409", "411", "413", "503")
    ]


# At once


def test_many_copies_at_once_move_the_task_once_and_are_all_told_the_same(
    committed_db: str, redis_url: str, systems: ScriptedSystems, settings: Any
) -> None:
    order, copies = _committed(systems, settings), 12
    answers = together(*[_sender(_report())] * copies)
    assert {(answer.status_code, answer.json()["disposition"]) for answer in answers} == {
        (200, "APPLIED")
    }
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 11
    assert InboundEvent.objects.count() == 1
    assert Transition.objects.filter(name="succeed").count() == 1
    assert desk.states_of(order)["two@1"] == "READY"


def test_many_copies_of_what_belongs_nowhere_are_kept_once(
    committed_db: str, redis_url: str, systems: ScriptedSystems, settings: Any
) -> None:
    _committed(systems, settings)
    answers = together(*[_sender(_report(idempotency_key="0" * 64))] * 12)
    assert {answer.status_code for answer in answers} == {202}
    assert sum(answer.json()["duplicate"] for answer in answers) == 11
    assert InboundEvent.objects.get().disposition == "UNMATCHED"


def _committed(systems: ScriptedSystems, settings: Any) -> Order:
    """As `waiting`, in a database of its own."""
    settings.OMS_CALLBACK_SECRETS = _secrets(OMS_CALLBACK_SECRET_ALPHA=_SECRET)
    a_workflow()
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    return order


def _sender(report: dict[str, Any]) -> Callable[[], HttpResponse]:
    """Sends it signed, from any thread, and without touching the database for that."""
    api, body = Api(), json.dumps(report).encode()

    def send() -> HttpResponse:
        headers = {name.replace("-", "_"): value for name, value in _signed(body).items()}
        return api.send("POST", "/callbacks/alpha", body, authorization="", **headers)

    return send


# While the database has trouble of its own


def test_a_database_that_can_not_be_reached_or_written_makes_the_sender_repeat(
    committed_db: str, redis_url: str, systems: ScriptedSystems, settings: Any
) -> None:
    order = _committed(systems, settings)
    send = _sender(_report())
    with connection.cursor() as raw:
        raw.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    read_only = send()
    with connection.cursor() as raw:
        raw.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    database = connection.settings_dict["NAME"]
    pool = connection.settings_dict["OPTIONS"].get("pool")
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    connection.settings_dict["NAME"] = "nowhere"
    connection.settings_dict["OPTIONS"]["pool"] = False
    try:
        away = send()
    finally:
        connection.close()
        connection.settings_dict["NAME"] = database
        connection.settings_dict["OPTIONS"]["pool"] = pool
    for answer in (read_only, away):
        assert (answer.status_code, problem(answer)["code"]) == (503, "server.unavailable")
        assert int(answer["Retry-After"]) > 0
    _nothing_happened(order)
    assert send().json() == {"disposition": "APPLIED", "duplicate": False}
