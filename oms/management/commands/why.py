"""`manage.py why O-17`: why an order is not moving, down to the root cause."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from oms.models import Order
from oms.queries.reasons import reason_of


class Command(BaseCommand):
    help = "Say in one sentence why an order is not moving, what is at the root, and what helps."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("order", help="such as O-17")

    def handle(self, *args: Any, order: str, **options: Any) -> None:
        row = Order.objects.filter(reference=order).first()
        if row is None:
            raise CommandError(f"There is no order {order!r}; write it as O-17.")
        found = reason_of(row)
        self.stdout.write(found.sentence)
        why = found.why
        if len(why.chain) > 1:
            self.stdout.write("\nDown to the root:")
            for depth, link in enumerate(why.chain):
                self.stdout.write(f"{'  ' * depth}└ {link.sentence} [{link.wait.cause}]")
        if why.others:
            self.stdout.write("\nBeside that:")
            for wait in why.others:
                self.stdout.write(f"  {wait.title} ({wait.task}): {wait.reason} [{wait.cause}]")
        if why.remedies:
            self.stdout.write("\nWhat may be done:")
            for remedy in why.remedies:
                self.stdout.write(f"  {remedy.words}")
                if remedy.command:
                    self.stdout.write(f"    manage.py {remedy.command}")
