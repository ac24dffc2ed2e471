"""Whatever is sent, the API answers with a problem document and never with a 500."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oms.api.parsing import MAXIMUM_BYTES
from oms.api.requests import MAXIMUM_ITEMS
from oms.keys import create_key
from oms.models import ApiClient, ApiKey, Order, Scope
from tests.api import Api, a_workflow, an_order, problem
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(systems: ScriptedSystems) -> Api:
    a_workflow()
    return Api()


def _with_text(text: str) -> bytes:
    return json.dumps(an_order("@")).replace("@", text).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"   ", id="blank"),
        pytest.param(b"{", id="half"),
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param(b"[" * 5000 + b"]" * 5000, id="deep lists"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="deep objects"),
        pytest.param(b'{"external_id": "A", "external_id": "B"}', id="duplicate names"),
        pytest.param(_with_text("a\\u0000b"), id="NUL"),
        pytest.param(_with_text("a\\ud800b"), id="lone surrogate"),
        pytest.param(_with_text("a\x01b"), id="control character"),
        pytest.param(b'{"external_id": 1e999}', id="infinite number"),
        pytest.param(b'{"external_id": NaN}', id="NaN"),
        pytest.param(b'{"external_id": -Infinity}', id="infinity"),
        pytest.param(b'{"external_id": ' + b"9" * 10000 + b"}", id="endless number"),
    ],
)
def test_what_is_not_strict_json_is_refused(api: Api, body: bytes) -> None:
    found = problem(api.post(body))
    assert (found["status"], found["code"]) == (400, "request.not_json")
    assert not Order.objects.exists()


def test_a_body_in_chunks_is_refused_with_the_reason(api: Api) -> None:
    found = problem(api.send("POST", "/orders", b"", Transfer_Encoding="chunked"))
    assert (found["status"], found["code"]) == (411, "request.length_required")


def test_a_body_that_is_too_large_is_refused_unread(api: Api) -> None:
    found = problem(api.post(b'{"external_id": "' + b"x" * MAXIMUM_BYTES + b'"}'))
    assert (found["status"], found["code"]) == (413, "request.too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data"])
def test_other_media_types_are_refused(api: Api, content_type: str) -> None:
    response = api.send("POST", "/orders", b"{}", content_type=content_type)
    assert (response.status_code, problem(response)["code"]) == (415, "request.media_type")


@pytest.mark.parametrize("body", [[], "text", 1, None, True, [[]], {"orders": {}}, {"orders": []}])
def test_json_of_the_wrong_kind_is_refused(api: Api, body: Any) -> None:
    assert problem(api.post(body))["code"] == "request.invalid"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"external_id": ""}, "external_id"),
        ({"external_id": "x" * 101}, "external_id"),
        ({"external_id": 7}, "external_id"),
        ({"customer": {}}, "customer.id"),
        ({"customer": None}, "customer"),
        ({"priority": 101}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"promised_at": "2026-01-01T00:00:00"}, "promised_at"),
        ({"promised_at": "9999-12-31T23:59:59-14:00"}, "promised_at"),
        ({"promised_at": 1700000000}, "promised_at"),
        ({"items": []}, "items"),
        ({"items": [{}]}, "items[0].action"),
        ({"items": [{"action": "explode", "offering": "thing"}]}, "items[0].action"),
        (
            {"items": [{"action": "add", "offering": "thing", "quantity": 0}]},
            "items[0].quantity",
        ),
        (
            {"items": [{"action": "add", "offering": "thing", "price": {"one_off": "1"}}]},
            "items[0].price.currency",
        ),
        (
            {
                "items": [
                    {
                        "action": "add",
                        "offering": "thing",
                        "price": {"one_off": "1.23456", "currency": "EUR"},
                    }
                ]
            },
            "items[0].price.one_off",
        ),
        ({"colour": "red"}, "colour"),
        ({"items": [{"action": "add", "offering": "thing"}] * (MAXIMUM_ITEMS + 1)}, ""),
    ],
)
def test_a_fault_of_the_shape_names_its_path(api: Api, change: dict[str, Any], path: str) -> None:
    found = problem(api.post({**an_order(), **change}))
    assert (found["status"], found["code"]) == (400, "request.invalid")
    assert path in {error["path"] for error in found["errors"]}
    assert not Order.objects.exists()


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=30),
    st.sampled_from(["add", "thing", "X-1", "2026-01-01T00:00:00Z", "O-1", "EUR", "1e400"]),
)
_NAMES = st.sampled_from(
    (
        *("orders", "external_id", "customer", "id", "name", "items", "action", "offering"),
        *("quantity", "characteristics", "price", "one_off", "recurring", "currency", "place"),
        *("parties", "role", "asset", "relations", "item_id", "priority", "requested_at"),
    )
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(_NAMES, st.text()), inner, max_size=6),
    ),
    max_leaves=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.one_of(_ANYTHING, st.dictionaries(_NAMES, _ANYTHING, max_size=6)))
def test_random_json_is_never_a_server_error(api: Api, body: Any) -> None:
    response = api.post({**an_order(), **body} if isinstance(body, dict) else body)
    assert response.status_code in (201, 207, 400, 409), response.content


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=200))
def test_random_bytes_are_never_a_server_error(api: Api, body: bytes) -> None:
    assert problem(api.post(body))["status"] == 400


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    characteristics=st.dictionaries(st.text(max_size=10), _ANYTHING, max_size=4),
    name=st.text(max_size=250),
)
def test_what_is_taken_in_comes_back_unchanged(
    api: Api, characteristics: dict[str, Any], name: str
) -> None:
    items = [{"action": "add", "offering": "thing", "characteristics": characteristics}]
    number = Order.objects.count()
    response = api.post(an_order(f"X-{number}", items=items, customer={"id": "C-1", "name": name}))
    if response.status_code == 400:
        assert problem(response)["code"] in ("request.invalid", "request.not_json")
        return
    document = api.get(f"/orders/{response.json()['id']}").json()
    assert _numbers(document["items"][0]["characteristics"]) == _numbers(characteristics)
    assert document["customer"]["name"] == name


def _numbers(value: Any) -> Any:
    """JSON has one kind of number: 1e17 and 100000000000000000 are the same."""
    return json.loads(json.dumps(value), parse_int=float)


@pytest.mark.parametrize(
    "path",
    [
        "/orders/O-",
        "/orders/O-999999999999999999999999",
        "/orders/%00",
        "/orders/O-1%00",
        "/orders/O-1/nothing",
        "/orders/../../admin",
        "/nothing",
        "/orders/O-١",
    ],
)
def test_addresses_that_do_not_exist_are_problems_too(api: Api, path: str) -> None:
    assert problem(api.get(path))["status"] == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_methods_that_do_not_exist_are_problems_too(api: Api, method: str) -> None:
    found = problem(api.send(method, "/orders", b"{}"))
    assert (found["status"], found["code"]) == (405, "request.method_not_allowed")


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "auth.missing"),
        ("Bearer", "auth.invalid"),
        ("Bearer nonsense", "auth.invalid"),
        ("Bearer oms_000000000000_" + "x" * 43, "auth.invalid"),
        ("Basic dXNlcjpwYXNz", "auth.invalid"),
        ("Bearer \xff\xfe", "auth.invalid"),
        ("Bearer oms_\x00", "auth.invalid"),
    ],
)
def test_without_a_good_key_nothing_is_answered(api: Api, authorization: str, code: str) -> None:
    response = api.send("GET", "/orders", authorization=authorization)
    assert (response.status_code, problem(response)["code"]) == (401, code)
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_key_with_another_ones_secret_is_refused(api: Api) -> None:
    other = Api(name="another")
    mixed = api.key[:17] + other.key[17:]
    response = api.send("GET", "/orders", authorization=f"Bearer {mixed}")
    assert problem(response)["code"] == "auth.invalid"


def test_a_revoked_or_expired_key_says_so(api: Api) -> None:
    from django.utils import timezone

    ApiKey.objects.update(revoked_at=timezone.now())
    assert problem(api.get("/orders"))["code"] == "auth.revoked"
    client = ApiClient.objects.get()
    expired = create_key(client=client, scopes=list(Scope), valid_for=timedelta(seconds=-1))
    response = api.send("GET", "/orders", authorization=f"Bearer {expired}")
    assert problem(response)["code"] == "auth.expired"


def test_only_the_hash_of_a_key_is_stored(api: Api) -> None:
    secret = api.key.split("_", 2)[2]
    row = ApiKey.objects.values().get()
    assert secret not in str(row)
    assert row["prefix"] in api.key
    assert len(row["secret_hash"]) == 64


# --- what needs no key ----------------------------------------------------------------------------


def test_health_needs_no_key(api: Api) -> None:
    assert api.send("GET", "/health", authorization="").json() == {"status": "ok"}


def test_the_docs_page_needs_nothing_from_other_hosts(client: Any) -> None:
    page = client.get("/api/docs/").content.decode()
    assert "swagger" in page
    assert "https://" not in page
    assert "http://" not in page


def test_the_schema_names_every_operation(client: Any) -> None:
    schema = client.get("/api/schema/?format=json").json()
    operations = {
        operation["operationId"] for path in schema["paths"].values() for operation in path.values()
    }
    assert operations == {
        "submit_orders",
        "list_assets",
        "read_asset",
        "list_orders",
        "read_order",
        "read_timeline",
        "read_why",
        "read_graph",
        "read_command",
        "amend_order",
        "list_amendments",
        "read_amendment",
        "place_hold",
        "list_holds",
        "release_hold",
        "report_milestone",
        "send_signal",
        "list_cases",
        "read_case",
        "list_incidents",
        "read_incident",
        "list_manual_tasks",
        "read_manual_task",
        "decide_manual_task",
        "list_manual_work",
        "read_manual_work",
        "retry_task",
        "list_approvals",
        "read_approval",
        "approve",
        "refuse",
        "withdraw",
        "cancel_order",
        "list_cancellations",
        "read_cancellation",
        "take_evidence",
        "list_operations",
        "list_offered_operations",
        "preview_operation",
        "operate",
        "draft_bulk_job",
        "list_bulk_jobs",
        "read_bulk_job",
        "list_bulk_rows",
        "export_bulk_rows",
        "start_bulk_job",
        "pause_bulk_job",
        "resume_bulk_job",
        "cancel_bulk_job",
        "leave_out_bulk_rows",
        "look_at_bulk_job_again",
        "report_outcome",
        "health",
    }
