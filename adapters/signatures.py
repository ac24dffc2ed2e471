"""Signed webhooks, in both directions: the Standard Webhooks specification.

    webhook-id: msg_…                 the same for every repetition of one message
    webhook-timestamp: 1700000000     unix seconds, when this repetition was signed
    webhook-signature: v1,<base64>    HMAC-SHA256 over "<id>.<timestamp>.<raw body>"

Several signatures stand in one header with spaces between them, one for each live secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

TOLERANCE_SECONDS = 300
"""How old a signature may be, and how far ahead its sender's clock: whoever repeats a message
signs it anew, so only a recording is refused."""
MESSAGE_ID = re.compile(r"[!-\-/-~]{1,200}")
"""Visible ASCII without the full stop, which ends the id in what is signed."""
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_PREFIX = "whsec_"
_VERSION = b"v1,"


class SignatureRefused(Exception):
    """The signature does not hold; `what` is one of missing, wrong, too_old."""

    code = "webhook.signature_refused"

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


def sign(
    *, message_id: str, at_seconds: int, body: bytes, secrets: Iterable[str]
) -> dict[str, str]:
    """The three headers, lower case, for a body that is sent now; one signature per secret.

    Raises ValueError for an id that is not a `MESSAGE_ID`, and for a secret without a key.
    """
    if not MESSAGE_ID.fullmatch(message_id):
        raise ValueError(f"{message_id!r} can't be the id of a message.")
    keys = [key_of(secret) for secret in secrets]
    if not all(keys):
        raise ValueError("A secret is empty: anybody could sign with it.")
    timestamp = str(at_seconds)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(
            _signature(message_id, timestamp, body, key).decode() for key in keys
        ),
    }


def verify(
    *, headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now_seconds: float
) -> str:
    """The id of a message whose signature holds under one of `secrets`; lower-case headers.

    Signatures of other versions (v1a) are passed over. Raises SignatureRefused: nobody without
    a secret learns more from it than that. Empty secrets never match.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not given or not MESSAGE_ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRefused("missing")
    keys = [key for secret in secrets if (key := key_of(secret))]
    expected = [_signature(message_id, timestamp, body, key) for key in keys]
    # Every pair is compared, so that the time taken tells nothing about which one matched.
    matches = [
        hmac.compare_digest(ours, theirs.encode("utf-8", "replace"))
        for ours in expected
        for theirs in given
    ]
    if not any(matches):
        raise SignatureRefused("wrong")
    if abs(now_seconds - int(timestamp)) > TOLERANCE_SECONDS:
        raise SignatureRefused("too_old")
    return message_id


def key_of(secret: str) -> bytes:
    """`whsec_<base64>` as the specification has it; any other text is its own bytes.

    Empty when it is no secret: nothing may be signed with it, or believed.
    """
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except ValueError:
            return b""
    return secret.encode()


def _signature(message_id: str, timestamp: str, body: bytes, key: bytes) -> bytes:
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return _VERSION + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
