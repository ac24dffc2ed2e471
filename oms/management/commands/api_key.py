"""`manage.py api_key create|list|revoke`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug
from django.utils import timezone

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.store.database import cursor
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor
from fulfillment.operations.records import log, now_of
from oms.keys import create_key, revoke_key
from oms.models import ApiClient, ApiKey, Scope


class Command(BaseCommand):
    help = "Make, list and revoke the keys with which clients and people call the API."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a key and show it, once")
        whose = create.add_mutually_exclusive_group(required=True)
        whose.add_argument("--client", help="a program that submits orders; made if it is new")
        whose.add_argument("--user", help="a person who operates; an active user of the admin")
        create.add_argument(
            "--scope", action="append", choices=list(Scope), help="repeatable; default: all"
        )
        create.add_argument("--days", type=int, help="expires after so many days; default: never")
        create.add_argument("--quiet", action="store_true", help="print the key and nothing else")
        verbs.add_parser("list", help="prefixes, whose, scopes, and whether they still work")
        revoke = verbs.add_parser("revoke", help="a key stops working at once")
        revoke.add_argument("prefix", help="as `list` shows it, or the whole key")

        for operating in (create, revoke):
            add_actor(operating)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {"create": self._create, "list": self._list, "revoke": self._revoke}[verb]
        try:
            do(options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _create(self, options: dict[str, Any]) -> None:
        days = options["days"]
        if days is not None and not 1 <= days <= 36500:
            raise CommandError("--days is from 1 to 36500.")
        whose: dict[str, Any] = (
            {"user": _user(options["user"])}
            if options["user"]
            else {"client": _client(options["client"])}
        )
        actor = actor_of(options)
        subject = f"user:{options['user']}" if options["user"] else f"client:{options['client']}"
        authorize(actor=actor, action=Action.KEY_EDIT, context=Context(subject=subject))
        key = create_key(
            **whose,
            scopes=options["scope"] or list(Scope),
            valid_for=None if days is None else timedelta(days=days),
        )
        _record(kind="make_key", subject=subject, actor=actor, key=key.split("_")[1])
        if options["quiet"]:
            self.stdout.write(key)
            return
        self.stdout.write(
            f"{key}\n\nThis is the only time that it is shown. Send it as\n"
            f"    Authorization: Bearer {key}"
        )

    def _list(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        for key in ApiKey.objects.select_related("client", "user"):
            if key.revoked_at is not None:
                state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
            elif key.expires_at is not None:
                ended = "expired" if key.expires_at <= now else "valid until"
                state = f"{ended} {key.expires_at:%Y-%m-%d %H:%M}"
            else:
                state = "valid"
            self.stdout.write(f"{key.prefix}  {key.holder:27} {' '.join(key.scopes):28} {state}")

    def _revoke(self, options: dict[str, Any]) -> None:
        prefix = options["prefix"].removeprefix("oms_").split("_")[0]
        if not revoke_key(prefix=prefix, actor=actor_of(options)):
            raise CommandError(
                f"No working key has the prefix {prefix}; `manage.py api_key list` shows them."
            )
        self.stdout.write(f"{prefix} works no longer.")


def _client(name: str) -> ApiClient:
    try:
        validate_slug(name)
    except ValidationError:
        raise CommandError(f"{name!r} can't name a client; use letters, digits, - and _.") from None
    if len(name) > 60:
        raise CommandError("A client's name has at most 60 characters.")
    client, _ = ApiClient.objects.get_or_create(name=name)
    return client


def _user(name: str) -> User:
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise CommandError(
            f"There is no active user {name!r}; the admin makes users, and `createsuperuser` does."
        )
    return user


def _record(*, kind: str, subject: str, actor: Actor, key: str) -> None:
    with cursor() as raw:
        after = {"key": key}
        log(kind=kind, subject=subject, actor=actor.name, reason="", after=after, now=now_of(raw))
