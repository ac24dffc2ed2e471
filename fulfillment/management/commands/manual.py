"""`manage.py manual list|decide`: what people have to decide."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db.models import F
from django.utils import timezone

from fulfillment import operations
from fulfillment.errors import DefinitionInvalid, FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import ManualState, ManualTask


class Command(BaseCommand):
    help = "List manual tasks, the first due first, and decide them."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="those that nobody has decided")
        show.add_argument("--queue")
        show.add_argument("--role")
        show.add_argument("--all", action="store_true", help="also those that are decided")
        decide = verbs.add_parser("decide", help="choose one of its outcomes")
        decide.add_argument("id", type=int)
        decide.add_argument("outcome")
        decide.add_argument(
            "--value",
            type=_value,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="what its form asks for; the value as JSON, and other text as it stands",
        )
        add_reason(decide)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {"list": self._list, "decide": self._decide}[verb]
        try:
            do(options)
        except DefinitionInvalid as error:
            faults = "\n".join(f"  {fault.path}: {fault.message}" for fault in error.faults)
            raise CommandError(f"Nothing was decided:\n{faults}") from error
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        rows = ManualTask.objects.select_related("fulfillment").defer("context", "instructions")
        if not options["all"]:
            rows = rows.filter(state=ManualState.OPEN)
        for name in ("queue", "role"):
            if options[name]:
                rows = rows.filter(**{name: options[name]})
        now = timezone.now()
        rows = rows.order_by(
            F("decided_at").desc(nulls_first=True), F("due_at").asc(nulls_first=True), "pk"
        )
        for manual in rows.iterator():
            if manual.state != ManualState.OPEN:
                when = f"{manual.outcome or manual.state.lower()} by {manual.decided_by or '—'}"
            elif manual.due_at is None or manual.due_at < now:
                when = "OVERDUE"
            else:
                when = f"due {manual.due_at:%Y-%m-%d %H:%M}"
            fields = f" [{', '.join(manual.fields)}]" if manual.fields else ""
            self.stdout.write(
                f"{manual.pk:<8} {when:20} {manual.queue:16} {manual.role:16} "
                f"{manual.fulfillment.order_reference:10} {manual.title}: "
                f"{' | '.join(manual.outcomes)}{fields}"
            )

    def _decide(self, options: dict[str, Any]) -> None:
        manual = operations.decide(
            manual_id=options["id"],
            outcome=options["outcome"],
            values=dict(options["value"]),
            actor=actor_of(options),
            reason=options["reason"],
        )
        self.stdout.write(f"{manual.title}: {manual.outcome}.")


def _value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r}: write it as name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
