"""`manage.py cases list|show|assign|await|escalate|close`: what waits for a person."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db.models import F

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import CaseCategory, CaseState, FalloutCase, Severity
from fulfillment.queries import caseload
from fulfillment.queries.caseload import Wanted

_NAMED = ("queue", "category", "severity", "reason_code", "target", "assigned_to", "order")


class Command(BaseCommand):
    help = "List fallout cases, the first due first; show one, and say who has it."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="those that are open")
        show.add_argument("--all", action="store_true", help="also those that are closed")
        show.add_argument("--state", choices=[state.value for state in CaseState], default="")
        show.add_argument("--queue", default="", help="who sees to it")
        show.add_argument("--category", choices=[one.value for one in CaseCategory], default="")
        show.add_argument("--severity", choices=[one.value for one in Severity], default="")
        show.add_argument("--reason-code", default="")
        show.add_argument("--target", default="")
        show.add_argument("--assigned-to", default="", metavar="USER")
        show.add_argument("--incident", type=int)
        show.add_argument("--order", default="", metavar="REFERENCE")
        show.add_argument("--overdue", action="store_true")
        one = verbs.add_parser("show", help="one, with its tasks and what has helped before")
        one.add_argument("id", type=int)
        assign = verbs.add_parser("assign", help="take it, give it to somebody, or give it back")
        assign.add_argument("id", type=int)
        assign.add_argument("--to", default="", metavar="USER", help="default: you")
        assign.add_argument(
            "--instead-of", default="", metavar="USER", help="who has it, to take it from them"
        )
        assign.add_argument("--release", action="store_true", help="nobody has it then")
        assign.add_argument("--queue", default="", help="who is to see to it")
        add_reason(assign)
        wait = verbs.add_parser("await", help="its time stands still: the customer is awaited")
        wait.add_argument("id", type=int)
        wait.add_argument("--asked", default="", help="what the customer was asked")
        wait.add_argument("--ended", action="store_true", help="the customer has answered")
        add_reason(wait)
        escalate = verbs.add_parser("escalate", help="let those know who see to what can't wait")
        escalate.add_argument("id", type=int)
        add_reason(escalate)
        close = verbs.add_parser("close", help="what it is about stays as it is")
        close.add_argument("id", type=int)
        add_reason(close)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            match verb:
                case "list":
                    self._list(options)
                case "show":
                    self._show(options["id"])
                case "assign":
                    names = ("to", "instead_of", "release", "queue")
                    self._do(Action.CASE_ASSIGN, options, *names)
                case "await":
                    self._do(Action.CASE_AWAIT_CUSTOMER, options, "asked", "ended")
                case "escalate":
                    self._do(Action.CASE_ESCALATE, options)
                case "close":
                    self._do(Action.CASE_CLOSE, options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        wanted = Wanted(
            state="all" if options["all"] else options["state"],
            incident=options["incident"],
            overdue=options["overdue"],
            **{name: options[name] for name in _NAMED},
        )
        rows = caseload.cases(wanted).order_by(
            F("resolved_at").desc(nulls_first=True), "sla_due_at", "-id"
        )
        for case in rows.iterator():
            has = case.assigned_to or case.owner_queue
            many = f" ({case.tasks_open} tasks)" if case.tasks_open > 1 else ""
            self.stdout.write(
                f"{case.pk:<8} {_when(case)}  {case.severity:6} {case.category:11} "
                f"{has:12} {case.title}{many}"
            )

    def _show(self, case_id: int) -> None:
        case = FalloutCase.objects.filter(pk=case_id).first()
        if case is None:
            raise CommandError(f"There is no case {case_id}; `manage.py cases list` has them.")
        self.stdout.write(f"{case.title}\n{case.state}, {_when(case)}, level", ending=" ")
        self.stdout.write(f"{case.escalation_level}, for {case.owner_queue}", ending="")
        self.stdout.write(f"; {case.assigned_to} has it" if case.assigned_to else "")
        self.stdout.write(case.explanation)
        for told in (case.customer_impact, case.revenue_impact, case.resolution):
            if told:
                self.stdout.write(told)
        for one in caseload.tasks_of(case):
            left = f"; got on: {one.left_because}" if one.left_at else ""
            self.stdout.write(f"  task {one.task_id} {one.task.key}: {one.task.state}{left}")
        for question in caseload.TO_FIND_OUT[CaseCategory(case.category)]:
            self.stdout.write(f"  ? {question}")
        for action in caseload.options([case]).get(case.pk, ()):
            self.stdout.write(f"  → {action}: {action.words}")
        for before in caseload.fixed_before(fingerprint=case.fingerprint, besides=case.pk):
            self.stdout.write(
                f"  before: case {before.case_id}, closed by {before.resolved_by} after "
                f"{before.took}: {before.resolution}"
            )
            for step in before.steps:
                self.stdout.write(f"    {step.kind} {step.subject} by {step.actor}: {step.reason}")

    def _do(self, action: Action, options: dict[str, Any], *names: str) -> None:
        done = operations.perform(
            actor=actor_of(options),
            request=operations.Request(
                action=action,
                subject=f"case:{options['id']}",
                reason=options["reason"],
                parameters={name: options[name] for name in names},
            ),
        )
        self.stdout.write(done.told)


def _when(case: FalloutCase) -> str:
    if case.resolved_at:
        return f"closed  {case.resolved_at:%Y-%m-%d %H:%M}"
    if case.sla_paused_at:
        return f"awaited {case.sla_paused_at:%Y-%m-%d %H:%M}"
    late = "OVERDUE" if caseload.is_overdue(case) else "due"
    return f"{late:7} {case.sla_due_at:%Y-%m-%d %H:%M}"
