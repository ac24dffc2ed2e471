"""`manage.py notifications list|resend`: what customers were told, and what could not be sent."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from oms import mailing
from oms.models import Notification, NotificationState


class Command(BaseCommand):
    help = "List messages to customers that are not sent, and send failed ones again."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="those that are queued or failed, the newest first")
        show.add_argument("--all", action="store_true", help="also those that are sent")
        show.add_argument("--order", default="", help="of one order, such as O-17")
        show.add_argument("--limit", type=int, default=100)
        again = verbs.add_parser("resend", help="give failed ones another round of attempts")
        again.add_argument("ids", type=int, nargs="+")
        add_reason(again)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            if verb == "list":
                self._list(**options)
            else:
                self._resend(options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _list(self, **options: Any) -> None:
        rows = Notification.objects.select_related("order").order_by("-pk")
        if not options["all"]:
            rows = rows.exclude(state=NotificationState.SENT)
        if options["order"]:
            rows = rows.filter(order__reference=options["order"])
        for row in rows[: options["limit"]]:
            when = row.sent_at or row.next_attempt_at
            self.stdout.write(
                f"{row.pk:<8} {row.state:7} {f'{when:%Y-%m-%d %H:%M}' if when else '':16} "
                f"{row.order.reference:10} {row.occasion:28} {row.channel:8} {row.recipient} "
                f"{f'({row.attempts} attempts) {row.reason}' if row.reason else ''}".rstrip()
            )

    def _resend(self, options: dict[str, Any]) -> None:
        ids = options["ids"]
        again = mailing.queue_again(
            notification_ids=ids, actor=actor_of(options), reason=options["reason"]
        )
        self.stdout.write(f"{again} of {len(set(ids))} are queued again.")
        if again < len(set(ids)):
            self.stdout.write("The others are not failed, or do not exist.")
