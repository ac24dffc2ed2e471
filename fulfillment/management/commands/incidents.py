"""`manage.py incidents list|show|close`: causes that many cases have in common."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import Incident
from fulfillment.queries import caseload


class Command(BaseCommand):
    help = "List incidents, the newest first; show one; close one by hand."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="those that are open")
        show.add_argument("--all", action="store_true", help="also those that are closed")
        show.add_argument("--target", default="")
        one = verbs.add_parser("show", help="one, and what has helped before")
        one.add_argument("id", type=int)
        close = verbs.add_parser("close", help="its cases are seen to one by one from now on")
        close.add_argument("id", type=int)
        close.add_argument("--cause", default="", help="what was found")
        close.add_argument("--fix", default="", help="what was done about it")
        add_reason(close)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list(options)
        elif verb == "show":
            self._show(options["id"])
        else:
            self._close(options)

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(
            caseload.incidents(state="all" if options["all"] else "", target=options["target"])
        )
        extents = caseload.extents(rows)
        for incident in rows:
            extent = extents[incident.pk]
            self.stdout.write(
                f"{incident.pk:<8} {incident.state:9} {incident.severity:6} "
                f"{extent.open_cases} of {extent.cases} cases open, {extent.orders} orders  "
                f"{incident.owner_queue:12} {incident.title}"
            )

    def _show(self, incident_id: int) -> None:
        incident = Incident.objects.filter(pk=incident_id).first()
        if incident is None:
            raise CommandError(
                f"There is no incident {incident_id}; `manage.py incidents list` has them."
            )
        extent = caseload.extents([incident])[incident.pk]
        self.stdout.write(
            f"{incident.title}\n{incident.state} since {incident.opened_at:%Y-%m-%d %H:%M} UTC, "
            f"for {incident.owner_queue}: {extent.open_cases} of {extent.cases} cases are open, "
            f"{extent.orders} orders"
        )
        for name, told in (("cause", incident.cause), ("fix", incident.fix)):
            if told:
                self.stdout.write(f"  {name}: {told}")
        for before in caseload.fixed_before(fingerprint=incident.fingerprint):
            self.stdout.write(
                f"  before: case {before.case_id}, closed by {before.resolved_by} after "
                f"{before.took}: {before.resolution}"
            )

    def _close(self, options: dict[str, Any]) -> None:
        request = operations.Request(
            action=Action.INCIDENT_CLOSE,
            subject=f"incident:{options['id']}",
            reason=options["reason"],
            parameters={"cause": options["cause"], "fix": options["fix"]},
        )
        try:
            done = operations.perform(actor=actor_of(options), request=request)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(done.told)
