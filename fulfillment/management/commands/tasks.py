"""`manage.py tasks retry`: what has failed for good is tried again."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment import operations
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import Task


class Command(BaseCommand):
    help = "Try tasks again that have failed without effect."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        retry = verbs.add_parser("retry", help="send it anew; of a fan-out what has failed")
        retry.add_argument("order", help="such as O-17")
        retry.add_argument("task", help="its key, such as ship@1")
        add_reason(retry)

    def handle(self, *args: Any, **options: Any) -> None:
        task = (
            Task.objects.filter(
                plan__fulfillment__order_reference=options["order"], key=options["task"]
            )
            .order_by("-plan_id")
            .first()
        )
        if task is None:
            raise CommandError(f"{options['order']} has no task {options['task']!r}.")
        try:
            again = operations.retry(
                task_id=task.pk, actor=actor_of(options), reason=options["reason"]
            )
        except FulfillmentError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Runs again: {', '.join(again)}.")
