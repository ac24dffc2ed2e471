"""`manage.py audit verify`: whether audit trails are as they were written."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.engine.work.audit import verify
from fulfillment.models import Fulfillment


class Command(BaseCommand):
    help = "Check the hash chains of audit trails: of one order, or of all."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        check = verbs.add_parser("verify", help="exit 1 and say where, if a chain is broken")
        check.add_argument("order", nargs="?", help="an order's reference; otherwise all orders")

    def handle(self, *args: Any, order: str | None = None, **options: Any) -> None:
        fulfillments = Fulfillment.objects.order_by("id")
        if order is not None:
            fulfillments = fulfillments.filter(order_reference=order)
            if not fulfillments.exists():
                raise CommandError(f"There is no order {order}.")
        checked, broken = 0, 0
        for fulfillment in fulfillments.iterator():
            breaks = verify(fulfillment_id=fulfillment.pk)
            for found in breaks:
                self.stderr.write(f"{fulfillment.order_reference}: {found}")
            checked += 1
            broken += bool(breaks)
        if broken:
            raise CommandError(
                f"{broken} of {checked} audit trails are not as they were written. Compare them "
                "with a backup, and find out who had write access to the database."
            )
        self.stdout.write(f"{checked} audit trails are as they were written.")
