"""`manage.py calendars load|list|show`: business calendars as rows, and what they say."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fulfillment import operations
from fulfillment.definitions.calendar_rows import load_calendars
from fulfillment.definitions.calendars import Calendar, working_time
from fulfillment.engine.store import calendars
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor
from fulfillment.models import BusinessCalendar


class Command(BaseCommand):
    help = "Load business calendars from a file, list them, show when people work by one."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("load", help="write the rows that a file describes")
        load.add_argument("file", type=Path)
        load.add_argument(
            "--overwrite",
            action="store_true",
            help="also those that exist already; otherwise what was edited stays as it is",
        )
        add_actor(load)
        verbs.add_parser("list", help="show the rows")
        show = verbs.add_parser("show", help="hours, holidays of a year, and whether people work")
        show.add_argument("name")
        show.add_argument("--year", type=_year, help="of the holidays; otherwise the present one")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {"load": self._load, "list": self._list, "show": self._show}[verb]
        try:
            do(options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _load(self, options: dict[str, Any]) -> None:
        overwrite, loud = options["overwrite"], options["verbosity"]
        specs = load_calendars(path=options["file"]).calendars
        known = set(BusinessCalendar.objects.values_list("pk", flat=True))
        loaded = operations.edit_calendars(
            rows=[
                BusinessCalendar(name=name, title=spec.title, spec=spec.row_document())
                for name, spec in specs.items()
                if overwrite or name not in known
            ],
            actor=actor_of(options),
            reason=f"loaded from {options['file'].name}",
        )
        if loud:
            for name, changed in loaded.items():
                done = "added" if name not in known else "updated" if changed else "unchanged"
                self.stdout.write(f"{name} {done}")
        kept = known & set(specs)
        if kept and not overwrite and loud > 1:
            self.stdout.write(f"Left as they are: {', '.join(sorted(kept))}")

    def _list(self, options: dict[str, Any]) -> None:
        for name, calendar in calendars.every().items():
            hours = ", ".join(map(str, calendar.hours))
            self.stdout.write(f"{name:20} {calendar.timezone:20} {hours}")

    def _show(self, options: dict[str, Any]) -> None:
        calendar, now = calendars.get(options["name"]), timezone.now()
        zone = ZoneInfo(calendar.timezone)
        year = options["year"] or now.astimezone(zone).year
        self.stdout.write(f"{calendar.name}, {calendar.timezone}")
        for hours in calendar.hours:
            self.stdout.write(f"  {hours}")
        self.stdout.write(f"Now: {_at_work(calendar, now)}")
        found = calendar.holidays.in_year(year)
        self.stdout.write(f"Holidays of {year}: {len(found) or 'none'}")
        for day, title in found.items():
            self.stdout.write(f"  {day:%Y-%m-%d %a}  {title}")


def _at_work(calendar: Calendar, now: datetime) -> str:
    for begins, ends in working_time(calendar=calendar, since=now):
        if begins <= now:
            return f"working time, until {ends:%Y-%m-%d %H:%M} UTC"
        return f"no working time before {begins:%Y-%m-%d %H:%M} UTC"
    return "no working time in the next ten years"


def _year(text: str) -> int:
    return date(int(text), 1, 1).year
