"""`manage.py cases list`: what waits for a person."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandParser
from django.db.models import F
from django.utils import timezone

from fulfillment.models import CaseState, FalloutCase


class Command(BaseCommand):
    help = "List fallout cases, the first due first."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="those that are open")
        show.add_argument("--all", action="store_true", help="also those that are closed")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = FalloutCase.objects.defer("facts").order_by(
            F("resolved_at").desc(nulls_first=True), "sla_due_at"
        )
        if not options["all"]:
            rows = rows.filter(state=CaseState.OPEN)
        now = timezone.now()
        for case in rows.iterator():
            if case.resolved_at:
                when = f"closed  {case.resolved_at:%Y-%m-%d %H:%M}"
            else:
                late = "OVERDUE" if case.sla_due_at < now else "due"
                when = f"{late:7} {case.sla_due_at:%Y-%m-%d %H:%M}"
            self.stdout.write(
                f"{case.pk:<8} {when}  {case.severity:6} {case.category:11} "
                f"{case.owner_queue:12} {case.title}"
            )
