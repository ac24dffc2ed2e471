"""`manage.py targets load|list|status|check|pause|resume`: target systems as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from adapters.registry import AdapterMisconfigured
from fulfillment import operations, pinned
from fulfillment.definitions.target_rows import load_targets
from fulfillment.engine.store import targets
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor, add_reason
from fulfillment.models import TargetSystem
from fulfillment.waits.conditions import statuses


class Command(BaseCommand):
    help = "Load target systems from a file, list them, see how they do, pause and resume them."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("load", help="write the rows that a file describes")
        load.add_argument("file", type=Path)
        load.add_argument(
            "--overwrite",
            action="store_true",
            help="also those that exist already; otherwise what was edited stays as it is",
        )
        add_actor(load)
        verbs.add_parser("list", help="show the rows")
        status = verbs.add_parser("status", help="how each is doing now, and what waits for it")
        status.add_argument("names", nargs="*", metavar="NAME", help="default: all")
        verbs.add_parser(
            "check", help="whether this release has every handler that active orders still need"
        )
        pause = verbs.add_parser("pause", help="send nothing and ask nothing until it is resumed")
        pause.add_argument("name")
        add_reason(pause)
        resume = verbs.add_parser("resume", help="go on, over its ramp")
        resume.add_argument("name")
        add_reason(resume)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {
            "load": self._load,
            "list": self._list,
            "status": self._status,
            "check": self._check,
            "pause": self._pause,
            "resume": self._resume,
        }[verb]
        try:
            do(options)
        except (FulfillmentError, AdapterMisconfigured) as error:
            raise CommandError(str(error)) from error

    def _load(self, options: dict[str, Any]) -> None:
        overwrite, loud = options["overwrite"], options["verbosity"]
        specs = load_targets(path=options["file"]).targets
        known = set(TargetSystem.objects.values_list("pk", flat=True))
        rows = []
        for name, spec in specs.items():
            if name in known and not overwrite:
                continue
            values = {field: getattr(spec, field) for field in type(spec).model_fields}
            values["retry_policies"] = spec.model_dump(mode="json")["retry_policies"]
            rows.append(TargetSystem(name=name, **values))
            targets.check(rows[-1])
        loaded = operations.edit_targets(
            rows=rows, actor=actor_of(options), reason=f"loaded from {options['file'].name}"
        )
        if loud:
            for name in loaded:
                self.stdout.write(f"{name} {'updated' if name in known else 'added'}")
        kept = known & set(specs)
        if kept and not overwrite and loud > 1:
            self.stdout.write(f"Left as they are: {', '.join(sorted(kept))}")

    def _list(self, options: dict[str, Any]) -> None:
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

    def _status(self, options: dict[str, Any]) -> None:
        found = statuses(names=options["names"] or None)
        for unknown in sorted({*options["names"]} - found.keys()):
            raise CommandError(
                f"There is no target system {unknown!r}; `manage.py targets list` names them."
            )
        for name, status in found.items():
            condition = ", ".join(status.in_words(state) for state in status.states)
            figures = "; ".join(f"{what} {figure}" for what, figure in status.figures().items())
            self.stdout.write(f"{name:20} {condition:24} {figures}")
            if status.why:
                self.stdout.write(f"{'':20} {status.why}")

    def _check(self, options: dict[str, Any]) -> None:
        lacking = pinned.missing()
        for one in lacking:
            self.stdout.write(f"{one.target}.{one.action}: {one.why}; {one.orders} active orders")
        if lacking:
            raise CommandError(
                "Keep these handlers until the orders are through, or migrate the orders."
            )
        self.stdout.write("Everything that active orders may ask for is there.")

    def _pause(self, options: dict[str, Any]) -> None:
        placed = operations.pause_target(
            target=options["name"], reason=options["reason"], actor=actor_of(options)
        )
        self.stdout.write(f"{options['name']} is paused; {placed.in_flight} calls on the wire.")

    def _resume(self, options: dict[str, Any]) -> None:
        resumed = operations.resume_target(
            target=options["name"], reason=options["reason"], actor=actor_of(options)
        )
        self.stdout.write(f"{options['name']} {'goes on' if resumed else 'was not paused'}.")
