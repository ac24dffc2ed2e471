"""API keys: `oms_<prefix>_<secret>`. The secret is shown once; only its hash is stored.

The secret has 256 random bits, so one SHA-256 is enough: there is nothing to guess, and every
request is checked against it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.store.database import cursor
from fulfillment.operations.records import log, now_of
from oms.models import ApiClient, ApiKey, Scope

_SHAPE = re.compile(r"oms_(?P<prefix>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")


def create_key(
    *,
    scopes: Collection[Scope],
    client: ApiClient | None = None,
    user: User | None = None,
    valid_for: timedelta | None = None,
) -> str:
    """A new key of a client, or of a person, as it will never be seen again; `valid_for` None
    means until it is revoked."""
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    ApiKey.objects.create(
        client=client,
        user=user,
        prefix=prefix,
        secret_hash=_hashed(secret),
        scopes=sorted(scopes),
        expires_at=None if valid_for is None else timezone.now() + valid_for,
    )
    return f"oms_{prefix}_{secret}"


def revoke_key(*, prefix: str, actor: Actor) -> bool:
    """It stops working at once, and the log of operations says who did it; false when no working
    key has this prefix. Raises Denied."""
    authorize(actor=actor, action=Action.KEY_EDIT, context=Context(subject=f"key:{prefix}"))
    with transaction.atomic(), cursor() as raw:
        now = now_of(raw)
        working = ApiKey.objects.filter(prefix=prefix, revoked_at=None)
        if not working.update(revoked_at=now):
            return False
        after = {"key": prefix}
        log(
            kind="revoke_key",
            subject=f"key:{prefix}",
            actor=actor.name,
            reason="",
            after=after,
            now=now,
        )
    return True


def find_key(text: str, /) -> ApiKey | None:
    """The key's row, revoked and expired ones included; None when there is no such key."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    key = ApiKey.objects.select_related("client", "user").filter(prefix=match["prefix"]).first()
    if key is None or not hmac.compare_digest(key.secret_hash, _hashed(match["secret"])):
        return None
    return key


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
