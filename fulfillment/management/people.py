"""Who types a command, and why: the records of operations keep both."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser

from fulfillment.authority.actors import Actor, console


def whoever() -> Actor:
    """The account that the command runs as."""
    try:
        return console(account=getpass.getuser())
    except (KeyError, OSError):  # An account without a name, as in some containers.
        return console(account="somebody")


def add_reason(parser: ArgumentParser) -> None:
    """The option that every operation asks for."""
    parser.add_argument("--reason", required=True, help="why; whoever looks next reads it")
