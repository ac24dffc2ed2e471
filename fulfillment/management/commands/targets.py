"""`manage.py targets load|list`: target systems as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from adapters.registry import AdapterMisconfigured
from fulfillment.definitions.target_rows import load_targets
from fulfillment.engine import targets
from fulfillment.errors import FulfillmentError
from fulfillment.models import TargetSystem


class Command(BaseCommand):
    help = "Load target systems from a file, or list them."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("load", help="write the rows that a file describes")
        load.add_argument("file", type=Path)
        load.add_argument(
            "--overwrite",
            action="store_true",
            help="also those that exist already; otherwise what was edited stays as it is",
        )
        verbs.add_parser("list", help="show the rows")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list()
            return
        try:
            self._load(options["file"], overwrite=options["overwrite"], loud=options["verbosity"])
        except (FulfillmentError, AdapterMisconfigured) as error:
            raise CommandError(str(error)) from error

    def _load(self, path: Path, *, overwrite: bool, loud: int) -> None:
        specs = load_targets(path=path).targets
        with transaction.atomic():
            known = set(TargetSystem.objects.values_list("pk", flat=True))
            for name, spec in specs.items():
                if name in known and not overwrite:
                    continue
                values = spec.model_dump(exclude={"retry_policies"})
                values["retry_policies"] = spec.model_dump(mode="json")["retry_policies"]
                row = TargetSystem(name=name, **values, updated_at=timezone.now())
                targets.check(row)
                row.save()
                if loud:
                    self.stdout.write(f"{name} {'updated' if name in known else 'added'}")
        kept = known & set(specs)
        if kept and not overwrite and loud > 1:
            self.stdout.write(f"Left as they are: {', '.join(sorted(kept))}")

    def _list(self) -> None:
        for row in TargetSystem.objects.all():
            able = [
                word
                for word, holds in (
                    ("idempotent", row.idempotent),
                    ("status query", row.status_query),
                    ("asynchronous", row.asynchronous),
                )
                if holds
            ]
            self.stdout.write(
                f"{row.pk:20} queue {row.queue:16} {row.adapter:8} slots {row.sender_slots:<4} "
                f"{', '.join(able) or 'neither deduplicates nor can be asked'}"
            )
