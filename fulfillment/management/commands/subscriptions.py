"""`manage.py subscriptions add|list|lag|redeliver|rotate|remove|resume`."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from adapters.webhooks import AddressForbidden
from fulfillment import subscribers
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor
from fulfillment.models import Delivery, Subscription
from fulfillment.subscribers import in_seconds


class Command(BaseCommand):
    help = "Who gets events by webhook, and how far behind they are."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add", help="send events to an address; shows the secret, once")
        add.add_argument("name")
        add.add_argument("url")
        add.add_argument(
            "--event", action="append", default=[], help="repeatable; default: every event"
        )
        add_actor(add)
        verbs.add_parser("list", help="names, addresses, events")
        verbs.add_parser("lag", help="what is pending and dead, and since when")
        for verb, words in (
            ("redeliver", "send its dead letters again"),
            ("remove", "send nothing more; what is pending waits"),
            ("resume", "send again after remove, or after its receiver said that it was gone"),
        ):
            one = verbs.add_parser(verb, help=words)
            one.add_argument("name")
            add_actor(one)
        rotate = verbs.add_parser("rotate", help="a new secret beside the old one")
        rotate.add_argument("name")
        rotate.add_argument(
            "--finish", action="store_true", help="the receiver has it: drop the old one"
        )
        add_actor(rotate)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            getattr(self, f"_{verb}")(options)
        except (FulfillmentError, AddressForbidden) as error:
            raise CommandError(str(error)) from error

    def _add(self, options: dict[str, Any]) -> None:
        made = subscribers.subscribe(
            name=options["name"],
            url=options["url"],
            event_types=options["event"],
            actor=actor_of(options),
        )
        self.stdout.write(
            f"{made.name} gets {_events(made)} from now on.\n\n{made.secret}\n\n"
            "signs them, and is shown this once."
        )

    def _list(self, options: dict[str, Any]) -> None:
        for one in Subscription.objects.all():
            state = "" if one.active else "  switched off"
            self.stdout.write(f"{one.name:20} {one.url}  {_events(one)}{state}")

    def _lag(self, options: dict[str, Any]) -> None:
        for lag in subscribers.lags():
            oldest = "-" if lag.oldest is None else in_seconds(lag.oldest)
            state = "" if lag.active else "  switched off"
            self.stdout.write(
                f"{lag.name:20} pending {lag.pending:<7} oldest {oldest:>12}  dead {lag.dead:<6} "
                f"{lag.last_answer}{state}".rstrip()
            )

    def _redeliver(self, options: dict[str, Any]) -> None:
        one = _named(options["name"])
        count = subscribers.send_again(
            deliveries=Delivery.objects.filter(subscription=one), actor=actor_of(options)
        )
        self.stdout.write(f"{count} dead letters of {one.name} are sent again.")

    def _rotate(self, options: dict[str, Any]) -> None:
        one = _named(options["name"])
        if options["finish"]:
            subscribers.finish_rotation(subscription=one, actor=actor_of(options))
            self.stdout.write(f"Only the new secret signs what {one.name} gets.")
            return
        secret = subscribers.begin_rotation(subscription=one, actor=actor_of(options))
        self.stdout.write(
            f"{secret}\n\nsigns beside the old one from now on, and is shown this once. When the "
            f"receiver has it:\n    manage.py subscriptions rotate {one.name} --finish"
        )

    def _remove(self, options: dict[str, Any]) -> None:
        one = _named(options["name"])
        subscribers.switch(subscription=one, active=False, actor=actor_of(options))
        self.stdout.write(f"{one.name} gets nothing more. `resume` switches it on again.")

    def _resume(self, options: dict[str, Any]) -> None:
        one = _named(options["name"])
        subscribers.switch(subscription=one, active=True, actor=actor_of(options))
        self.stdout.write(f"{one.name} gets {_events(one)} from now on, what waited first.")


def _named(name: str) -> Subscription:
    try:
        return Subscription.objects.get(name=name)
    except Subscription.DoesNotExist:
        raise CommandError(
            f"There is no subscription {name!r}; `manage.py subscriptions list` shows them."
        ) from None


def _events(subscription: Subscription) -> str:
    return ", ".join(subscription.event_types) or "every event"
