#!/usr/bin/env python
"""Django's command line, and a clear word when the embedded servers it needs are not there."""

from __future__ import annotations

import os
import sys
from importlib import import_module

# These start what they need, or need no database.
SELF_SUFFICIENT = frozenset(
    {"stack", "demo", "bench", "help", "check", "makemigrations", "spectacular", "version"}
)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oms.settings")
    if missing := missing_servers(sys.argv[1:]):
        sys.exit(missing)
    if sys.argv[1:2] in (["stack"], ["bench"]):
        # The supervisor itself needs no models; loading them would delay every start. And a
        # benchmark chooses its servers before the settings are read.
        command = import_module(f"oms.management.commands.{sys.argv[1]}").Command()
        command.run_from_argv(sys.argv)
        return
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def missing_servers(arguments: list[str]) -> str:
    """What to tell the user instead of running the command; empty when it may run."""
    from oms.embedded import postgres
    from oms.embedded.layout import layout_of
    from oms.environment import EnvironmentInvalid, read_environment

    if arguments[:2] in (["workflows", "check"], ["workflows", "schema"]):
        return ""
    if not arguments or arguments[0] in SELF_SUFFICIENT or {"--help", "-h"} & set(arguments):
        return ""
    try:
        environment = read_environment()
    except EnvironmentInvalid as error:
        return str(error)
    if not environment.embedded_database or postgres.answers(layout_of(environment.home)):
        return ""
    return (
        f"The embedded PostgreSQL of {environment.home} is not running.\n"
        "Start the stack with `make up` in another terminal, or the servers for this command:\n"
        f"    .venv/bin/python manage.py stack exec -- .venv/bin/python manage.py {arguments[0]}\n"
        "With a PostgreSQL of your own, set DATABASE_URL."
    )


if __name__ == "__main__":
    main()
