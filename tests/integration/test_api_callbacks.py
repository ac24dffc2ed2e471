"""Signed reports of target systems, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from django.http import HttpResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fulfillment.models import Command, InboundEvent
from oms.api.callbacks import TOLERANCE_SECONDS
from oms.models import Order
from tests import desk
from tests.api import Api, a_workflow, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db
_SECRET = "between the two of us"


@pytest.fixture
def waiting(systems: ScriptedSystems, settings: Any) -> Order:
    """An order whose first task was accepted and awaits its report."""
    settings.OMS_CALLBACK_SECRETS = {"alpha": _SECRET}
    settings.OMS_CALLBACK_SECRET = "everybody's"
    a_workflow()
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    return order


def _report(_: Order, **changes: Any) -> dict[str, Any]:
    key = Command.objects.get(action="one").idempotency_key
    return {
        "event_id": "e-1",
        "idempotency_key": key,
        "status": "succeeded",
        "outputs": {"number": "N-1"},
        **changes,
    }


def _signed(body: bytes, *, secret: str = _SECRET, age: int = 0) -> str:
    at = int(time.time()) - age
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


def _send(
    report: Any, *, target: str = "alpha", signature: str | None = None, **how: Any
) -> HttpResponse:
    body = report if isinstance(report, bytes) else json.dumps(report).encode()
    return Api().send(
        "POST",
        f"/callbacks/{target}",
        body,
        authorization="",
        X_Signature=_signed(body, **how) if signature is None else signature,
    )


def test_a_signed_report_moves_its_task(waiting: Order) -> None:
    response = _send(_report(waiting))
    assert response.json() == {"disposition": "APPLIED", "duplicate": False}
    desk.drain()
    waiting.refresh_from_db()
    assert waiting.state == "COMPLETED"
    assert desk.tasks_of(waiting)["one@1"].outputs == {"number": "N-1"}


def test_the_same_event_again_is_answered_and_does_nothing(waiting: Order) -> None:
    _send(_report(waiting))
    assert _send(_report(waiting)).json() == {"disposition": "APPLIED", "duplicate": True}
    assert InboundEvent.objects.count() == 1


def test_another_event_with_the_same_news_is_redundant(waiting: Order) -> None:
    _send(_report(waiting))
    response = _send(_report(waiting, event_id="e-2"))
    assert response.json() == {"disposition": "REDUNDANT", "duplicate": False}


def test_a_contradiction_is_kept_and_changes_nothing(waiting: Order) -> None:
    _send(_report(waiting))
    response = _send(_report(waiting, event_id="e-2", status="rejected"))
    assert response.json()["disposition"] == "CONFLICTING"
    assert desk.states_of(waiting)["one@1"] == "SUCCEEDED"


def test_a_report_on_an_unknown_key_is_parked(waiting: Order) -> None:
    response = _send(_report(waiting, idempotency_key="nobody's"))
    assert response.json()["disposition"] == "UNMATCHED"
    assert InboundEvent.objects.get().task_id is None


def test_a_report_by_another_target_on_our_key_is_parked(waiting: Order) -> None:
    desk.target("beta")
    body = json.dumps(_report(waiting)).encode()
    response = _send(body, target="beta", secret="everybody's")
    assert response.json()["disposition"] == "UNMATCHED"
    assert desk.states_of(waiting)["one@1"] == "ACCEPTED"


def test_a_refusal_blocks_the_plan_with_the_target_systems_words(waiting: Order) -> None:
    _send(_report(waiting, status="rejected", error={"code": "no_stock", "message": "All sold."}))
    assert "no_stock: All sold." in desk.plan_of(waiting).blocked_reason


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        ("", "callback.signature_missing"),
        ("nonsense", "callback.signature_missing"),
        ("t=1,v1=" + "0" * 63, "callback.signature_missing"),
        ("t=1,v1=" + "0" * 64, "callback.signature_wrong"),
    ],
)
def test_an_unsigned_report_is_refused(waiting: Order, signature: str, code: str) -> None:
    response = _send(_report(waiting), signature=signature)
    assert (response.status_code, problem(response)["code"]) == (401, code)
    assert desk.states_of(waiting)["one@1"] == "ACCEPTED"
    assert not InboundEvent.objects.exists()


def test_a_target_with_a_secret_of_its_own_is_not_reached_by_the_shared_one(
    waiting: Order,
) -> None:
    response = _send(_report(waiting), secret="everybody's")
    assert problem(response)["code"] == "callback.signature_wrong"


def test_a_changed_body_is_refused(waiting: Order) -> None:
    body = json.dumps(_report(waiting)).encode()
    signature = _signed(body)
    response = _send(body.replace(b"succeeded", b"rejected"), signature=signature)
    assert problem(response)["code"] == "callback.signature_wrong"


@pytest.mark.parametrize("age", [TOLERANCE_SECONDS + 30, -TOLERANCE_SECONDS - 30])
def test_a_recorded_report_is_refused_later(waiting: Order, age: int) -> None:
    assert problem(_send(_report(waiting), age=age))["code"] == "callback.signature_too_old"


def test_without_any_secret_nothing_is_believed(waiting: Order, settings: Any) -> None:
    settings.OMS_CALLBACK_SECRETS, settings.OMS_CALLBACK_SECRET = {}, ""
    assert problem(_send(_report(waiting), secret=""))["code"] == "callback.signature_wrong"


def test_a_target_that_does_not_exist_is_named(waiting: Order) -> None:
    response = _send(_report(waiting), target="nobody", secret="everybody's")
    assert (response.status_code, problem(response)["code"]) == (404, "callback.target_unknown")


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b"{}",
        b'{"event_id": "\\u0000"}',
        {"event_id": "e", "idempotency_key": "k", "status": "perhaps"},
        {"event_id": "", "idempotency_key": "k", "status": "succeeded"},
        {"event_id": "e" * 201, "idempotency_key": "k", "status": "succeeded"},
        {"event_id": "e", "idempotency_key": "k", "status": "succeeded", "outputs": []},
    ],
)
def test_a_signed_report_that_can_not_be_read_is_refused(waiting: Order, report: Any) -> None:
    assert problem(_send(report))["status"] == 400
    assert not InboundEvent.objects.exists()


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
        st.sampled_from(["event_id", "outputs", "reference", "error", "status", "more"]), _VALUES
    )
)
def test_random_reports_are_never_a_server_error(waiting: Order, changes: Any) -> None:
    assert _send(_report(waiting, **changes)).status_code in (200, 400)
