"""`manage.py workflows publish|check|list|show|graph|schema|migrate`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment import operations
from fulfillment.definitions.decomposition import sketch
from fulfillment.definitions.json_schema import workflow_schema
from fulfillment.definitions.loading import load_workflow, read_template
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import DefinitionInvalid, Fault, FulfillmentError
from fulfillment.management.people import actor_of, add_actor, add_reason
from fulfillment.models import WorkflowVersion
from fulfillment.published import library_after
from fulfillment.publishing import publish_files

Read = TypeVar("Read")


class Command(BaseCommand):
    help = "Check, publish and look at workflow templates."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, text in (
            ("check", "say everything that is wrong with files; needs no database"),
            ("publish", "make files the versions that new orders use"),
        ):
            files = verbs.add_parser(verb, help=text)
            files.add_argument("files", nargs="*", type=Path, help="default: every shipped one")
            add_actor(files)
        verbs.add_parser("list", help="every published version")
        show = verbs.add_parser("show", help="one published version as JSON")
        show.add_argument("workflow", help="name, or name@version; otherwise the newest")
        graph = verbs.add_parser("graph", help="a workflow's tasks as a Mermaid flowchart")
        graph.add_argument("workflow", help="name, name@version, or a template file")
        verbs.add_parser("schema", help="JSON Schema of template files, for editors")
        migrate = verbs.add_parser(
            "migrate", help="move orders in flight to another version; never happens by itself"
        )
        migrate.add_argument("workflow", help="its name; a sub-process may be named as well")
        migrate.add_argument("--to", type=int, metavar="VERSION", help="default: the newest")
        chosen = migrate.add_mutually_exclusive_group(required=True)
        chosen.add_argument("--order", nargs="+", metavar="REF", help="such as O-17")
        chosen.add_argument("--all-active", action="store_true", help="all on another version")
        migrate.add_argument(
            "--dry-run", action="store_true", help="say what would change, and change nothing"
        )
        add_reason(migrate)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            getattr(self, f"_{verb}")(options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _check(self, options: dict[str, Any]) -> None:
        for path, definition in _read(
            options["files"], lambda *, path: (path, load_workflow(path=path))
        ):
            self.stdout.write(f"{path}: {definition.name} v{definition.version} has no faults")

    def _publish(self, options: dict[str, Any]) -> None:
        templates = _read(options["files"], read_template)
        for publication in publish_files(templates=templates, actor=actor_of(options)):
            if options["verbosity"]:
                done = "published" if publication.is_new else "was published before, unchanged"
                self.stdout.write(f"{publication.workflow} {done}")

    def _list(self, options: dict[str, Any]) -> None:
        for row in WorkflowVersion.objects.prefetch_related("selectors"):
            selectors = sorted({s.offering for s in row.selectors.all()})
            offerings = ", ".join(selectors) or "a sub-process"
            self.stdout.write(
                f"{row!s:32} {row.published_at:%Y-%m-%d %H:%M} by {row.published_by:12} {offerings}"
            )

    def _show(self, options: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(_published(options["workflow"]).as_written, indent=2))

    def _graph(self, options: dict[str, Any]) -> None:
        name = options["workflow"]
        definition = (
            load_workflow(path=Path(name))
            if name.endswith((".yaml", ".yml"))
            else WorkflowDefinition.from_document(_published(name).as_written)
        )
        self.stdout.write(mermaid(sketch(definition, library=library_after([definition]))))

    def _migrate(self, options: dict[str, Any]) -> None:
        counts: Counter[str] = Counter()
        for migration in operations.migrate_orders(
            workflow=options["workflow"],
            version=options["to"],
            orders=None if options["all_active"] else options["order"],
            reason=options["reason"],
            actor=actor_of(options),
            dry_run=options["dry_run"],
        ):
            counts[migration.verdict] += 1
            self._tell(migration)
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        self.stdout.write(told or "No order is concerned.")
        if counts[operations.Verdict.UNSAFE]:
            raise CommandError("What is unsafe stays as it was; the reasons stand above.")

    def _tell(self, migration: operations.Migration) -> None:
        plan = f", plan {migration.plan_id}" if migration.plan_id else ""
        self.stdout.write(f"{migration.order_reference} {migration.verdict}{plan}")
        for reason in migration.reasons:
            self.stdout.write(f"  ! {reason}")
        if migration.comparison is None:
            return
        for change in migration.comparison.changes:
            what = f" ({', '.join(change.what)})" if change.what else ""
            self.stdout.write(f"  {change.fate:8} {change.key}{what}")

    def _schema(self, options: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(workflow_schema(), indent=2))


def _read(files: list[Path], read: Callable[..., Read]) -> list[Read]:
    """Every file, read. Raises DefinitionInvalid with the faults of all of them."""
    faults: list[Fault] = []
    found = []
    shipped = (Path(os.path.relpath(path)) for path in settings.OMS_WORKFLOWS.glob("*/v*.yaml"))
    for path in files or sorted(shipped):
        try:
            found.append(read(path=path))
        except DefinitionInvalid as error:
            faults.extend(error.faults)
    if faults:
        raise DefinitionInvalid(faults)
    return found


def _published(name: str) -> WorkflowVersion:
    name, _, version = name.partition("@")
    rows = WorkflowVersion.objects.filter(name=name)
    if version:
        rows = rows.filter(version=int(version) if version.isdecimal() else 0)
    row = rows.order_by("-version").first()
    if row is None:
        raise CommandError(
            f"No published workflow is called {name}{'@' + version if version else ''}; "
            "`manage.py workflows list` shows what there is."
        )
    return row
