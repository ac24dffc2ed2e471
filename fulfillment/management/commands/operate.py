"""`manage.py operate`: whatever may be done by hand, one command for all of it.

Exit codes: 0 it is done (or previewed), 1 it was not understood, 3 whoever asks may not,
4 as it stands now it can't be done, 5 another person has to approve it and was asked.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment import operations
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import Reach
from fulfillment.errors import (
    DefinitionInvalid,
    Denied,
    FulfillmentError,
    NotPossible,
    ParametersInvalid,
)
from fulfillment.management.people import actor_of, add_actor
from fulfillment.operations.fields import fields_of, parsed
from fulfillment.operations.offering import approvals_of, help_of, title_of

DENIED, NOT_POSSIBLE, ASKED_FOR = 3, 4, 5


class Command(BaseCommand):
    help = "Do by hand what may be done by hand, see what it would do, and list what there is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "what", metavar="ACTION", help="such as task.retry; `list` tells what there is"
        )
        parser.add_argument(
            "subject",
            nargs="?",
            default="",
            help="such as task:12, task:O-17/ship@1, order:O-17, case:4, target:billing",
        )
        parser.add_argument("--reason", default="", help="why; whoever looks next reads it")
        parser.add_argument(
            "--evidence", default="", help="what you have found out, and where it can be seen"
        )
        parser.add_argument(
            "--set",
            dest="values",
            type=_pair,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="one of its parameters; may be given several times",
        )
        parser.add_argument(
            "--json", dest="document", type=_object, default={}, help="its parameters, as JSON"
        )
        parser.add_argument(
            "--version-seen",
            default="",
            help="of a preview: it is done as it was seen then, or not at all",
        )
        parser.add_argument(
            "--preview", action="store_true", help="tell what it would do, and do nothing"
        )
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = actor_of(options)
        try:
            if options["what"] == "list":
                self._list(actor, options["subject"])
            else:
                self._operate(actor, options)
        except Denied as error:
            raise CommandError(str(error), returncode=DENIED) from error
        except NotPossible as error:
            raise CommandError(str(error), returncode=NOT_POSSIBLE) from error
        except (DefinitionInvalid, ParametersInvalid) as error:
            faults = "\n".join(f"  {fault.path}: {fault.message}" for fault in error.faults)
            raise CommandError(f"Nothing was done:\n{faults}") from error
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    # --- what there is ---------------------------------------------------------------------------

    def _list(self, actor: Actor, subject: str) -> None:
        if not subject:
            for repair in operations.every_repair():
                kinds = ", ".join((repair.about, *repair.also_about))
                self.stdout.write(f"{repair.action:22} {title_of(repair)}; on {kinds}")
                self.stdout.write(f"{'':22} {help_of(repair)}")
                for field in fields_of(repair):
                    must = "" if field.is_required else ", optional"
                    words = f" ({' | '.join(field.choices)})" if field.choices else ""
                    self.stdout.write(
                        f"{'':24} --set {field.name}=…  {field.kind}{words}{must}: {field.help}"
                    )
                for when, approver in approvals_of(repair):
                    self.stdout.write(f"{'':24} needs {approver} by another person, {when}")
            return
        for offer in operations.offers(reach=Reach(actor=actor), subject=subject):
            needs = f" (needs {offer.needs} by another person)" if offer.needs else ""
            verdict = f"NO: {offer.why_not}" if offer.why_not else f"yes{needs}"
            self.stdout.write(f"{offer.repair.action:22} {title_of(offer.repair)}: {verdict}")

    # --- doing it --------------------------------------------------------------------------------

    def _operate(self, actor: Actor, options: dict[str, Any]) -> None:
        repair = operations.repair_of(options["what"])
        request = operations.Request(
            action=repair.action,
            subject=options["subject"],
            reason=options["reason"],
            evidence=options["evidence"],
            parameters={**options["document"], **_values(repair, options["values"])},
            expected_version=options["version_seen"],
        )
        if options["preview"]:
            self._preview(operations.looked_at(actor=actor, request=request))
            return
        found = operations.prepared(actor=actor, request=request)
        if found.needs is not None:
            approval = operations.ask_for_approval(prepared=found)
            self.stdout.write(
                f"{approval.told}\nThat needs {approval.needs} by another person: approval "
                f"{approval.pk} is asked for, until {approval.expires_at:%Y-%m-%d %H:%M} UTC. "
                "Nothing is done before."
            )
            sys.exit(ASKED_FOR)
        done = found.perform()
        self.stdout.write(f"{done.told}\nRecord {done.record}, by {found.permit.authority}.")

    def _preview(self, found: operations.Prepared) -> None:
        preview = found.preview()
        done = preview.done
        self.stdout.write(f"It would do this, and has done nothing: {done.told}")
        for title, told in (("before", done.before), ("after", done.after)):
            if told:
                self.stdout.write(f"  {title}: {json.dumps(dict(told), ensure_ascii=False)}")
        for one in preview.transitions:
            name = one["name"] or one["id"]
            change = f"{one['from'] or '—'} → {one['to']}"
            self.stdout.write(f"  {one['entity']} {name}: {change}")
        for command in preview.commands:
            payload = json.dumps(command["payload"], ensure_ascii=False)
            self.stdout.write(f"  {command['target']} is asked to {command['action']}: {payload}")
        self.stdout.write(f"  customer: {done.customer_impact}")
        self.stdout.write(f"  money: {done.financial_impact}")
        if preview.needs:
            self.stdout.write(f"  needs {preview.needs} by another person")
        self.stdout.write(f"  --version-seen '{preview.version}' does it as it is now, or not")


def _values(repair: operations.Repair, given: list[tuple[str, str]]) -> Mapping[str, Any]:
    """As the parameters are declared; what is not declared is left for the operation to refuse."""
    fields = {field.name: field for field in fields_of(repair)}
    try:
        return {
            name: parsed(fields[name], text) if name in fields else text for name, text in given
        }
    except ValueError as error:
        raise CommandError(f"{error}.") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r}: write it as name=value")
    return name, value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentTypeError('write an object, such as {"outcome": "approved"}')
    return value
