"""`manage.py verify_audit`: whether history is as it was written, all of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from fulfillment.audit import seals
from fulfillment.audit.verifying import verify
from fulfillment.models import Fulfillment

_TELL_EVERY_SECONDS = 10.0
_MOST = 100


class Command(BaseCommand):
    help = (
        "Check every chain of audit rows, every state, the logs of operations and decisions, and "
        "the seals over them. Names the first row that was touched, added or cut, and exits with 1."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("orders", nargs="*", metavar="ORDER", help="only these, such as O-17")
        parser.add_argument("--since", help="only what has moved since, such as 2026-03-01T00:00Z")
        parser.add_argument(
            "--expect",
            metavar="NUMBER:SEAL",
            help="a seal that was kept elsewhere (the log has each): finds what was cut off behind",
        )

    def handle(
        self,
        *args: Any,
        orders: list[str],
        since: str | None = None,
        expect: str | None = None,
        **options: Any,
    ) -> None:
        self._told_at = time.monotonic()
        found = 0
        first = ""
        for finding in verify(
            fulfillment_ids=_ids(orders) if orders else None,
            since=_moment(since),
            expected=_seal(expect),
            progress=self._progress,
        ):
            found += 1
            first = first or str(finding)
            if found <= _MOST:
                self.stderr.write(str(finding))
        newest = seals.newest()
        if found:
            raise CommandError(
                f"{found} places are not as they were written. The first: {first} Keep the "
                "database as it is, compare with a backup, and find out who had write access to "
                "it (docs/runbooks.md)."
            )
        self.stdout.write(
            "Everything is as it was written; nothing is sealed yet."
            if newest is None
            else "Everything is as it was written. The newest seal, to be kept elsewhere: "
            f"{newest.number}:{newest.seal}, of {newest.sealed_at:%Y-%m-%d %H:%M:%S} UTC."
        )

    def _progress(self, where: str) -> None:
        if time.monotonic() - self._told_at >= _TELL_EVERY_SECONDS:
            self._told_at = time.monotonic()
            self.stderr.write(f"… {where}")


def _ids(orders: list[str]) -> list[int]:
    known = dict(
        Fulfillment.objects.filter(order_reference__in=orders).values_list("order_reference", "id")
    )
    if unknown := [order for order in orders if order not in known]:
        raise CommandError(f"There is no order {', '.join(unknown)}.")
    return sorted(known.values())


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise CommandError(f"--since {text}: write a moment such as 2026-03-01T00:00Z.")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _seal(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    number, _, seal = text.partition(":")
    if not number.isdigit() or not seal:
        raise CommandError(f"--expect {text}: write a number and a seal, as in 12:9f86d0….")
    return int(number), seal
