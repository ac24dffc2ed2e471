"""`manage.py evidence`: everything about one order in one file, and whether such a file is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor
from oms.evidence.checking import check
from oms.evidence.packing import take

_VERIFY = "verify"


class Command(BaseCommand):
    help = (
        "Write everything about an order to one file: `evidence O-17 --reason …`. Check such a "
        "file, without the database: `evidence verify FILE`."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="+", metavar="ORDER | verify FILE")
        parser.add_argument("--to", metavar="FILE", help="default: evidence-O-17.zip, here")
        parser.add_argument("--reason", default="", help="why it is taken; the record keeps it")
        add_actor(parser)

    def handle(
        self,
        *args: Any,
        what: list[str],
        to: str | None = None,
        reason: str = "",
        **options: Any,
    ) -> None:
        match what:
            case [verb, path] if verb == _VERIFY:
                self._verify(Path(path))
            case [reference] if reference != _VERIFY:
                self._take(reference, Path(to or f"evidence-{reference}.zip"), reason, options)
            case _:
                raise CommandError("Write `evidence O-17 --reason …`, or `evidence verify FILE`.")

    def _take(self, reference: str, path: Path, reason: str, options: dict[str, Any]) -> None:
        draft = path.with_name(f".{path.name}.draft")
        try:
            with draft.open("xb") as file:
                draft.chmod(0o600)  # It is about a customer.
                take(reference=reference, actor=actor_of(options), reason=reason, to=file)
            draft.rename(path)
        except FulfillmentError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{path} can't be written: {error}.") from None
        finally:
            draft.unlink(missing_ok=True)
        self.stdout.write(f"{path}: everything about {reference}. Only you can read it.")

    def _verify(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                checked = check(file=file, audit_keys=settings.OMS_AUDIT_KEYS)
        except OSError as error:
            raise CommandError(f"{path} can't be read: {error}.") from None
        for fault in checked.faults:
            self.stderr.write(fault)
        if checked.faults:
            raise CommandError(f"{path} is not as it was written: see above.")
        self.stdout.write(
            f"{path} is as {checked.taken_by} has taken it at {checked.taken_at}: {checked.order}, "
            f"{checked.rows} rows of audit trail, {checked.seals} seals."
        )
