"""`manage.py resources list|capacity`: what orders lock, who has it, who waits."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db.models import CharField, Count, F, Func, Value

from fulfillment import operations
from fulfillment.errors import FulfillmentError
from fulfillment.keeping import keepers
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import Resource, ResourceLock, Task

_MOST = 50


class Command(BaseCommand):
    help = "Show what is locked by whom and who waits for it; say how much of it there is."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="kinds of resources, and the locks that others wait for")
        capacity = verbs.add_parser("capacity", help="how many units may be in use at once")
        capacity.add_argument("name")
        capacity.add_argument("units", type=int)
        add_reason(capacity)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list()
            return
        try:
            operations.set_capacity(
                resource=options["name"],
                capacity=options["units"],
                actor=actor_of(options),
                reason=options["reason"],
            )
        except FulfillmentError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['name']}: {options['units']} at once.")

    def _list(self) -> None:
        kind = Func(
            F("name"), Value(":"), Value(1), function="split_part", output_field=CharField()
        )
        used = dict(ResourceLock.objects.values_list(kind).annotate(n=Count("pk")))
        for row in Resource.objects.order_by("pk"):
            self.stdout.write(
                f"{row.pk:30} {row.capacity:>6} at once, kept by {row.get_kept_by_display()}; "
                f"{used.get(row.pk, 0)} locked"
            )
        waiting = (
            Task.objects.exclude(waits_for_lock="")
            .values_list("waits_for_lock")
            .annotate(n=Count("pk"))
            .order_by("-n", "waits_for_lock")[:_MOST]
        )
        held = keepers(names=[name for name, _ in waiting])
        for name, count in waiting:
            who = ", ".join(keeper.name for keeper in held.get(name, ())) or "nobody any more"
            self.stdout.write(f"  {name}: {count} wait; {who} has it")
