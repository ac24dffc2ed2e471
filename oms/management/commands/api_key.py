"""`manage.py api_key create|list|revoke`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug
from django.utils import timezone

from oms.keys import create_key
from oms.models import ApiClient, ApiKey, Scope


class Command(BaseCommand):
    help = "Make, list and revoke the keys with which clients call the API."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a key and show it, once")
        create.add_argument("--client", required=True, help="who calls; made if it is new")
        create.add_argument(
            "--scope", action="append", choices=list(Scope), help="repeatable; default: all"
        )
        create.add_argument("--days", type=int, help="expires after so many days; default: never")
        create.add_argument("--quiet", action="store_true", help="print the key and nothing else")
        verbs.add_parser("list", help="prefixes, clients, scopes, and whether they still work")
        revoke = verbs.add_parser("revoke", help="a key stops working at once")
        revoke.add_argument("prefix", help="as `list` shows it, or the whole key")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        {"create": self._create, "list": self._list, "revoke": self._revoke}[verb](options)

    def _create(self, options: dict[str, Any]) -> None:
        name, days = options["client"], options["days"]
        try:
            validate_slug(name)
        except ValidationError:
            raise CommandError(
                f"{name!r} can't name a client; use letters, digits, - and _."
            ) from None
        if len(name) > 60:
            raise CommandError("A client's name has at most 60 characters.")
        if days is not None and not 1 <= days <= 36500:
            raise CommandError("--days is from 1 to 36500.")
        client, _ = ApiClient.objects.get_or_create(name=name)
        key = create_key(
            client=client,
            scopes=options["scope"] or list(Scope),
            valid_for=None if days is None else timedelta(days=days),
        )
        if options["quiet"]:
            self.stdout.write(key)
            return
        self.stdout.write(
            f"{key}\n\nThis is the only time that it is shown. Send it as\n"
            f"    Authorization: Bearer {key}"
        )

    def _list(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        for key in ApiKey.objects.select_related("client"):
            if key.revoked_at is not None:
                state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
            elif key.expires_at is not None:
                ended = "expired" if key.expires_at <= now else "valid until"
                state = f"{ended} {key.expires_at:%Y-%m-%d %H:%M}"
            else:
                state = "valid"
            self.stdout.write(
                f"{key.prefix}  {key.client.name:20} {' '.join(key.scopes):28} {state}"
            )

    def _revoke(self, options: dict[str, Any]) -> None:
        prefix = options["prefix"].removeprefix("oms_").split("_")[0]
        revoked = ApiKey.objects.filter(prefix=prefix, revoked_at=None).update(
            revoked_at=timezone.now()
        )
        if not revoked:
            raise CommandError(
                f"No working key has the prefix {prefix}; `manage.py api_key list` shows them."
            )
        self.stdout.write(f"{prefix} works no longer.")
