"""`manage.py holds place|release|list`: what must not go on for the time being."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment import operations
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import HELD_BY_HAND, Hold, HoldScope


class Command(BaseCommand):
    help = "Place holds, release them, and list those that are in force."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        place = verbs.add_parser("place", help="let nothing in a scope be sent")
        place.add_argument("scope", choices=[scope.lower() for scope in HELD_BY_HAND])
        place.add_argument(
            "name",
            help="order: O-17; item: O-17/2; plan, task: its number; target: billing; "
            "action: billing/create_invoice; customer: its id",
        )
        add_reason(place)
        place.add_argument(
            "--until", type=_instant, help="ends by itself then, such as 2026-09-01T08:00Z"
        )
        release = verbs.add_parser("release", help="let what it kept back go on")
        release.add_argument("id", type=int)
        add_reason(release)
        verbs.add_parser("list", help="holds that nobody has released, the oldest first")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {"place": self._place, "release": self._release, "list": self._list}[verb]
        try:
            do(options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _place(self, options: dict[str, Any]) -> None:
        placed = operations.place_hold(
            scope=HoldScope(options["scope"].upper()),
            name=options["name"],
            reason=options["reason"],
            actor=actor_of(options),
            until=options["until"],
        )
        self.stdout.write(
            f"Hold {placed.hold_id} is in force; {placed.in_flight} calls on the wire."
        )

    def _release(self, options: dict[str, Any]) -> None:
        released = operations.release_hold(
            hold_id=options["id"], reason=options["reason"], actor=actor_of(options)
        )
        self.stdout.write(
            f"Hold {options['id']} {'is released' if released else 'was released before'}."
        )

    def _list(self, options: dict[str, Any]) -> None:
        for hold in Hold.objects.filter(released_at=None).order_by("pk"):
            until = f" until {hold.until:%Y-%m-%d %H:%M}" if hold.until else ""
            self.stdout.write(
                f"{hold.pk:<8} {hold.subject:28} since {hold.placed_at:%Y-%m-%d %H:%M}{until} by "
                f"{hold.placed_by}: {' '.join(hold.reason.split())}"
            )


def _instant(text: str) -> datetime:
    """A time with its zone; one without is UTC, as everywhere here."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time such as 2026-09-01T08:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
