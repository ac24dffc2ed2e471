"""`manage.py signals send|list`: milestones and signals that come from outside."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment import operations
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import Signal


class Command(BaseCommand):
    help = "Report milestones and signals by hand, and list what was reported."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        send = verbs.add_parser("send", help="report one; whoever waits for it goes on")
        send.add_argument("name", help="as the workflow calls the milestone or the signal")
        send.add_argument("order", help="its order, such as O-17; with --key an order of the owner")
        send.add_argument("--key", help="a signal with this business key, and not a milestone")
        send.add_argument("--payload", type=_object, default={}, help="what it brings along: JSON")
        send.add_argument("--event-id", help="the same event is taken in once; default: a new one")
        add_reason(send)
        show = verbs.add_parser("list", help="the newest first")
        show.add_argument("--waiting", action="store_true", help="those that were not told yet")
        show.add_argument("--limit", type=int, default=50)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {"send": self._send, "list": self._list}[verb]
        try:
            do(options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _send(self, options: dict[str, Any]) -> None:
        received = operations.send_signal(
            order_reference=options["order"],
            name=options["name"],
            key=options["key"],
            payload=options["payload"],
            event_id=options["event_id"] or "",
            actor=actor_of(options),
            reason=options["reason"],
        )
        self.stdout.write(
            "It was reported before; nothing was done."
            if received.duplicate
            else f"Signal {received.signal_id} is taken in; whoever waits for it goes on."
        )

    def _list(self, options: dict[str, Any]) -> None:
        rows = Signal.objects.order_by("-pk").defer("payload")
        if options["waiting"]:
            rows = rows.filter(applied=False)
        for signal in rows[: options["limit"]]:
            told = "told" if signal.applied else "NOT TOLD"
            self.stdout.write(
                f"{signal.pk:<8} {signal.received_at:%Y-%m-%d %H:%M} {told:8} {signal.name:28} "
                f"{signal.subject} from {signal.source} ({signal.event_id})"
                f"{' WILL NOT COME' if signal.will_not_come else ''}"
            )


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentTypeError('write an object, such as {"slot": "2026-09-01T08:00:00Z"}')
    return value
