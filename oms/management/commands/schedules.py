"""`manage.py schedules list|run`: jobs that are submitted when their time has come."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor
from oms import schedules
from oms.intake.submission import Submitted


class Command(BaseCommand):
    help = "Show the scheduled jobs of OMS_SCHEDULES, or submit them now."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="every schedule: when it is due next, and its last order")
        run = verbs.add_parser("run", help="submit what is due, as beat does")
        run.add_argument("name", nargs="?", help="this one now, whether it is due or not")
        add_actor(run)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            {"list": self._list, "run": self._run}[verb](options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        found = schedules.planned()
        for one in found:
            due = "never" if one.next_at is None else f"{one.next_at:%Y-%m-%d %H:%M} UTC"
            last = f"{one.last_order} {one.last_state}" if one.last_order else "none yet"
            self.stdout.write(
                f"{one.name:20} {one.spec.cron:16} {one.spec.timezone:16} "
                f"next {due:20} last {last:48} {one.spec.title}"
            )
        if not found:
            self.stdout.write("There are no schedules; OMS_SCHEDULES names their file.")

    def _run(self, options: dict[str, Any]) -> None:
        name = options["name"]
        if name is None:
            created = schedules.submit_due()
            if not created:
                self.stdout.write("Nothing is due that has no order yet.")
        elif name not in schedules.current():
            known = ", ".join(sorted(schedules.current())) or "none"
            raise CommandError(f"There is no schedule {name!r} (known: {known}).")
        else:
            created = [schedules.submit_now(name=name, actor=actor_of(options))]
        for answer in created:
            self._say(answer)

    def _say(self, answer: Submitted) -> None:
        faults = "; ".join(fault["message"] for fault in answer.faults)
        self.stdout.write(
            f"{answer.reference} {answer.external_id} {answer.state}"
            + (f": {faults}" * bool(faults))
        )
