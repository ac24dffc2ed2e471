"""Signed webhooks, in both directions: the Standard Webhooks specification.

    webhook-id: msg_…                 the same for every repetition of one message
    webhook-timestamp: 1700000000     unix seconds, when this repetition was signed
    webhook-signature: v1,<base64>    HMAC-SHA256 over "<id>.<timestamp>.<raw body>"

Several signatures stand in one header with spaces between them, one for each live secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping

TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"
_VERSION = "v1,"


class SignatureRefused(Exception):
    """The signature does not hold; `what` is one of missing, wrong, too_old."""

    code = "webhook.signature_refused"

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


def sign(
    *, message_id: str, at_seconds: int, body: bytes, secrets: Iterable[str]
) -> dict[str, str]:
    """The three headers, lower case, for a body that is sent now; one signature per secret."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(
            _signature(message_id, at_seconds, body, secret) for secret in secrets
        ),
    }


def verify(
    *, headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now_seconds: float
) -> str:
    """The id of a message whose signature holds under one of `secrets`; lower-case headers.

    Raises SignatureRefused. Empty secrets never match.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split(" ")
    numeric = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12
    if not message_id or not numeric or not any(given):
        raise SignatureRefused("missing")
    at_seconds = int(timestamp)
    expected = [_signature(message_id, at_seconds, body, secret) for secret in secrets if secret]
    # Every pair is compared, so that the time taken tells nothing about which one matched.
    matches = [
        hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogateescape"))
        for ours in expected
        for theirs in given
    ]
    if not any(matches):
        raise SignatureRefused("wrong")
    if abs(now_seconds - at_seconds) > TOLERANCE_SECONDS:
        raise SignatureRefused("too_old")
    return message_id


def _signature(message_id: str, at_seconds: int, body: bytes, secret: str) -> str:
    signed = b".".join((message_id.encode("utf-8", "surrogateescape"), b"%d" % at_seconds, body))
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return _VERSION + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    """`whsec_<base64>` as the specification has it; any other text is its own bytes."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
