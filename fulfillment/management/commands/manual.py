"""`manage.py manual list|claim|release|reassign|resume|decide`: what people have to decide."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db.models import F
from django.utils import timezone

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import DefinitionInvalid, FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import MANUAL_OPEN, ManualState, ManualTask

_VERBS = {
    "claim": "take it: nobody else decides it then",
    "release": "give it back",
    "reassign": "give it to somebody else, or to another queue",
    "resume": "the customer, or commerce, has answered",
}


class Command(BaseCommand):
    help = "List manual tasks, the first due first; take them, give them back, and decide them."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="those that nobody has decided")
        show.add_argument("--queue")
        show.add_argument("--role")
        show.add_argument("--all", action="store_true", help="also those that are decided")
        show.add_argument("--mine", metavar="NAME", help="those that this user has claimed")
        for verb, does in _VERBS.items():
            one = verbs.add_parser(verb, help=does)
            one.add_argument("id", type=int)
            if verb == "reassign":
                one.add_argument("--to", default="", help="user name; without it: nobody yet")
                one.add_argument("--queue", default="", help="the queue in which it is then")
            if verb == "resume":
                _add_values(one, "--answer", "what the customer, or commerce, has said")
            add_reason(one)
        decide = verbs.add_parser("decide", help="choose one of its outcomes")
        decide.add_argument("id", type=int)
        decide.add_argument("outcome")
        _add_values(decide, "--value", "what its form asks for")
        decide.add_argument("--question", default="", help="what the customer is asked")
        decide.add_argument(
            "--evidence", default="", help="what you have found out, and where it can be seen"
        )
        add_reason(decide)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {"list": self._list, "decide": self._decide}.get(verb, partial(self._move, verb))
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
            rows = rows.filter(state__in=sorted(MANUAL_OPEN))
        if options["mine"]:
            rows = rows.filter(claimed_by=options["mine"])
        for name in ("queue", "role"):
            if options[name]:
                rows = rows.filter(**{name: options[name]})
        now = timezone.now()
        rows = rows.order_by(
            F("decided_at").desc(nulls_first=True), F("due_at").asc(nulls_first=True), "pk"
        )
        for manual in rows.iterator():
            if manual.state == ManualState.AWAITING_CUSTOMER:
                when = f"awaits {manual.awaits}"
            elif manual.state not in MANUAL_OPEN:
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

    def _move(self, verb: str, options: dict[str, Any]) -> None:
        parameters: dict[str, Any] = {}
        if verb == "reassign":
            parameters = {"to": options["to"], "queue": options["queue"]}
        if verb == "resume":
            parameters = {"answer": dict(options["answer"])}
        self._operate(Action(f"manual.{verb}"), options, parameters)

    def _decide(self, options: dict[str, Any]) -> None:
        parameters = {
            "outcome": options["outcome"],
            "values": dict(options["value"]),
            "question": options["question"],
        }
        self._operate(Action.MANUAL_DECIDE, options, parameters)

    def _operate(self, action: Action, options: dict[str, Any], parameters: dict[str, Any]) -> None:
        request = operations.Request(
            action=action,
            subject=f"manual:{options['id']}",
            reason=options["reason"],
            evidence=options.get("evidence", ""),
            parameters=parameters,
        )
        found = operations.prepared(actor=actor_of(options), request=request)
        if found.needs is None:
            self.stdout.write(found.perform().told)
            return
        approval = operations.ask_for_approval(prepared=found)
        self.stdout.write(
            f"Approval {approval.pk} is asked for: somebody else with {approval.needs} has to "
            f"decide it until {approval.expires_at:%Y-%m-%d %H:%M} UTC. Nothing is done before."
        )


def _add_values(parser: ArgumentParser, option: str, what: str) -> None:
    parser.add_argument(
        option,
        type=_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{what}; the value as JSON, and other text as it stands",
    )


def _value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r}: write it as name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
