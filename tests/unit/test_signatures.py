"""Standard Webhooks: what is signed, what is believed, and what nobody can make us believe."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.callback_secrets import CallbackSecrets
from adapters.signatures import TOLERANCE_SECONDS, SignatureRefused, key_of, sign, verify

_AT = 1_700_000_000
_SECRET = "between the two of us"
_BODY = b'{"status": "succeeded"}'


def _signed(**changes: object) -> dict[str, str]:
    given = {"message_id": "msg_1", "at_seconds": _AT, "body": _BODY, "secrets": [_SECRET]}
    return sign(**{**given, **changes})  # type: ignore[arg-type]


def _verify(headers: dict[str, str], *, body: bytes = _BODY, **changes: object) -> str:
    given = {"secrets": [_SECRET], "now_seconds": _AT}
    return verify(headers=headers, body=body, **{**given, **changes})  # type: ignore[arg-type]


def _refused(headers: dict[str, str], **changes: object) -> str:
    with pytest.raises(SignatureRefused) as refused:
        _verify(headers, **changes)  # type: ignore[arg-type]
    return refused.value.what


def test_the_published_example_comes_out_the_same() -> None:
    headers = sign(
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at_seconds=1614265330,
        body=b'{"test": 2432232314}',
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signed_message_is_believed_and_names_its_id() -> None:
    assert _verify(_signed()) == "msg_1"


def test_while_secrets_change_either_is_enough() -> None:
    both = _signed(secrets=["old", "new"])
    assert both["webhook-signature"].count("v1,") == 2
    assert _verify(both, secrets=["new"]) == _verify(both, secrets=["old"]) == "msg_1"
    assert _verify(_signed(secrets=["new"]), secrets=["old", "new"]) == "msg_1"
    assert _refused(_signed(secrets=["older"]), secrets=["old", "new"]) == "wrong"


def test_signatures_of_other_versions_are_passed_over() -> None:
    ours = _signed()["webhook-signature"]
    other = ours.replace("v1,", "v1a,")
    headers = {**_signed(), "webhook-signature": f"{other} v2,abc junk {ours}"}
    assert _verify(headers) == "msg_1"
    assert _refused({**_signed(), "webhook-signature": other}) == "wrong"
    assert _refused({**_signed(), "webhook-signature": ours.removeprefix("v1,")}) == "wrong"


def test_a_secret_of_the_specification_is_its_decoded_key() -> None:
    key = bytes(range(24))
    secret = "whsec_" + base64.b64encode(key).decode()
    assert key_of(secret) == key
    assert _verify(_signed(secrets=[secret]), secrets=[secret]) == "msg_1"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%", "whsec_YQ", "whsec_ä"])
def test_what_is_no_secret_signs_nothing_and_proves_nothing(secret: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        _signed(secrets=[secret])
    for forged in ("", "x", secret.removeprefix("whsec_") or "y"):
        headers = _signed(secrets=[forged]) if forged else {**_signed()}
        assert _refused(headers, secrets=[secret]) == "wrong"
    assert _refused(_signed(), secrets=[]) == "wrong"


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(_AT + 1)},
        {"webhook-timestamp": f"0{_AT}"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\ud800"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1," * 5000},
    ],
)
def test_nothing_may_be_changed_after_signing(changes: dict[str, str]) -> None:
    assert _refused({**_signed(), **changes}) == "wrong"


def test_the_body_may_not_be_changed_by_a_byte() -> None:
    assert _refused(_signed(), body=_BODY + b"\n") == "wrong"


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": ""},
        {"webhook-id": "two words"},
        {"webhook-id": "a.b"},
        {"webhook-id": "ü"},
        {"webhook-id": "\ud800"},
        {"webhook-id": "m" * 201},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "-5"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "²"},
        {"webhook-timestamp": "1" * 13},
        {"webhook-timestamp": f"{_AT},{_AT}"},
        {"webhook-timestamp": f" {_AT}"},
        {"webhook-signature": ""},
        {"webhook-signature": "   "},
    ],
)
def test_headers_that_can_not_be_read_are_missing(changes: dict[str, str]) -> None:
    assert _refused({**_signed(), **changes}) == "missing"


def test_the_end_of_the_id_can_not_be_moved() -> None:
    """Signed is `a.1.<body>`; nobody may read `a.1` as the id of another message."""
    with pytest.raises(ValueError, match="id of a message"):
        _signed(message_id="a.1")


@pytest.mark.parametrize(
    ("off", "believed"),
    [
        (TOLERANCE_SECONDS, True),
        (-TOLERANCE_SECONDS, True),
        (TOLERANCE_SECONDS + 1, False),
        (-TOLERANCE_SECONDS - 1, False),
    ],
)
def test_a_signature_holds_for_five_minutes_either_way(off: int, believed: bool) -> None:
    if believed:
        assert _verify(_signed(), now_seconds=_AT + off) == "msg_1"
    else:
        assert _refused(_signed(), now_seconds=_AT + off) == "too_old"


def test_only_who_has_the_secret_learns_that_a_message_is_too_old() -> None:
    assert _refused(_signed(secrets=["guessed"]), now_seconds=_AT + 9000) == "wrong"


_ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=40)


@given(message_id=_ANYTHING, timestamp=_ANYTHING, signature=_ANYTHING, body=st.binary(max_size=40))
def test_whatever_the_headers_hold_the_answer_is_a_refusal(
    message_id: str, timestamp: str, signature: str, body: bytes
) -> None:
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature,
    }
    assert _refused(headers, body=body) in {"missing", "wrong"}


# Which secrets are live for a target


def _live(target: str, **variables: str) -> tuple[str, ...]:
    secrets = CallbackSecrets.read(names=variables, look_up=lambda name: variables.get(name, ""))
    return secrets.of(target)


_OURS = "OMS_CALLBACK_SECRET"
_NEXT = "OMS_NEXT_CALLBACK_SECRET"


@pytest.mark.parametrize(
    ("variables", "live"),
    [
        ({}, ()),
        ({_OURS: "s"}, ("s",)),
        ({_OURS: "s", _NEXT: "n"}, ("s", "n")),
        ({f"{_OURS}_STOCK_ROOM": "o"}, ("o",)),
        ({_OURS: "s", f"{_OURS}_STOCK_ROOM": "o"}, ("o",)),
        ({_OURS: "s", _NEXT: "n", f"{_OURS}_STOCK_ROOM": "o"}, ("o",)),
        ({f"{_OURS}_STOCK_ROOM": "o", f"{_NEXT}_STOCK_ROOM": "p"}, ("o", "p")),
        # From the shared secret to one of its own, step by step.
        ({_OURS: "s", _NEXT: "n", f"{_NEXT}_STOCK_ROOM": "p"}, ("s", "p")),
        ({f"{_OURS}_stock-room": "o"}, ("o",)),
        ({_OURS: "s", f"{_OURS}_CRM": "c"}, ("s",)),
        ({_OURS: "s", f"{_OURS}_STOCK_ROOM": ""}, ("s",)),
        ({"OMS_CALLBACK_SECRETS": "x"}, ()),
    ],
)
def test_which_secrets_are_live(variables: dict[str, str], live: tuple[str, ...]) -> None:
    assert _live("stock-room", **variables) == live
