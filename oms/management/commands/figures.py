"""`manage.py figures`: count the days of reports anew, or those that beat has not counted."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from oms.figures import keeping


class Command(BaseCommand):
    help = "Count the figures of reports; without a range, what beat would count next."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", metavar="DAY", help="first day to count anew, YYYY-MM-DD")
        parser.add_argument("--until", metavar="DAY", help="last day; today unless given")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["since"] is None:
            if options["until"] is not None:
                raise CommandError("Say --since as well.")
            days = keeping.keep_up()
        else:
            since = _day(options["since"])
            until = _day(options["until"]) if options["until"] else datetime.now(UTC).date()
            if until < since:
                raise CommandError("--until is before --since.")
            days = keeping.recount(since=since, until=until)
        self.stdout.write(f"Counted {days} {'day' if days == 1 else 'days'}.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no day; write it as 2026-01-31.") from None
