"""`manage.py leakage list`: what is active and not billed, or billed and not active."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandParser

from oms import leaks
from oms.leaks import Gap
from oms.models import Leak


class Command(BaseCommand):
    help = "List revenue leakage, the oldest first, and what it is worth."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="what has leaked for longer than its product allows")
        show.add_argument("--all", action="store_true", help="also what is still in time")

    def handle(self, *args: Any, **options: Any) -> None:
        found = leaks.gaps(in_time=options["all"])
        for gap in found:
            self.stdout.write(
                f"{gap.order.reference:12} item {gap.item.item_id:8} {gap.leak.value:22} "
                f"since {gap.since:%Y-%m-%d %H:%M}  {_state(gap):20} "
                f"{leaks.in_words(gap.worth) or 'no price':32} {gap.item.offering}"
            )
        unbilled = leaks.total(
            gap.worth for gap in found if gap.leak is Leak.ACTIVE_WITHOUT_BILLING
        )
        if unbilled:
            self.stdout.write(f"Active and not billed, together: {leaks.in_words(unbilled)}")
        elif not found:
            self.stdout.write("Nothing leaks.")


def _state(gap: Gap) -> str:
    if gap.due_at is not None:
        return f"due {gap.due_at:%Y-%m-%d %H:%M}"
    return "case closed" if gap.case_id is None else f"case {gap.case_id}"
