"""Who types a command, and why: the records of operations keep both."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser


def whoever() -> str:
    """The account that the command runs as."""
    try:
        return f"{getpass.getuser()} (manage.py)"
    except (KeyError, OSError):  # An account without a name, as in some containers.
        return "manage.py"


def add_reason(parser: ArgumentParser) -> None:
    """The option that every operation asks for."""
    parser.add_argument("--reason", required=True, help="why; whoever looks next reads it")
