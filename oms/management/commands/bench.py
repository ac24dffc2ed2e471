"""`manage.py bench [PART …]`: how fast the engine is, beside what its users would pick instead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Measure the engine on servers of its own (or on given ones, in databases of its own), "
        "count that nothing was left out, and write the results and plots. Without a part: all but "
        "`fill`, which fills the database of the benchmark's own stack."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_parts())}")
        parser.add_argument(
            "--quick", action="store_true", help="smaller, and the workload alone: some minutes"
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SIZE=VALUE",
            help="another size of a part, such as orders=500 or rounds=1; repeat it for more",
        )
        parser.add_argument(
            "--database-url", help="the server to use, as its owner; a database is made there"
        )
        parser.add_argument("--redis-url", help="the Redis to use")
        parser.add_argument("--results", type=Path, help="the folder (default benchmarks/results)")

    def handle(self, *args: Any, **options: Any) -> None:
        _parts()
        from tests.load import parts, results

        if options["database_url"]:
            os.environ["DATABASE_URL"] = os.environ["DATABASE_OWNER_URL"] = options["database_url"]
        if options["redis_url"]:
            os.environ["REDIS_URL"] = options["redis_url"]
        given = dict(pair.partition("=")[::2] for pair in options["set"])
        try:
            failed = parts.run_parts(
                names=options["parts"],
                quick=options["quick"],
                given=given,
                folder=(options["results"] or results.FOLDER).absolute(),
            )
        except Exception as error:
            if hasattr(error, "code"):
                raise CommandError(str(error)) from error
            raise
        if failed:
            raise CommandError(f"These parts have failed, see above: {', '.join(failed)}.")


def _parts() -> list[str]:
    try:
        from tests.load.parts import PARTS
    except ModuleNotFoundError as error:
        raise CommandError(
            f"The benchmark is part of the checkout and needs what its tests need: {error}."
        ) from error
    return list(PARTS)
