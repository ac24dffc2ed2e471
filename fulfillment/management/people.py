"""Who types a command, and why: the records of operations keep both."""

from __future__ import annotations

import getpass
import os
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.management import CommandError

from fulfillment.authority.actors import Actor, console, person_at_console


def add_reason(parser: ArgumentParser) -> None:
    """The options that every operation takes: why it is done, and by whom."""
    parser.add_argument("--reason", required=True, help="why; whoever looks next reads it")
    add_actor(parser)


def add_actor(parser: ArgumentParser) -> None:
    """The option `--as`; without it OMS_OPERATOR says who it is, or nobody does."""
    parser.add_argument(
        "--as",
        dest="operator",
        metavar="NAME",
        default=os.environ.get("OMS_OPERATOR", ""),
        help="who you are: a user of the admin, with whose permissions and grants it is done; "
        "default: OMS_OPERATOR, or else nobody, who may do nothing that is high-risk",
    )


def actor_of(options: Mapping[str, Any]) -> Actor:
    """Whoever the command says it is. Whoever has a shell on the server is believed, and the
    record says so. Raises CommandError for a name that is no active user's."""
    name = options.get("operator") or ""
    if not name:
        return console(account=_account())
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {name!r}: --as, or OMS_OPERATOR, names one.")
    return person_at_console(name=name, user_id=user.pk, account=_account())


def _account() -> str:
    """That the command runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # An account without a name, as in some containers.
        return "somebody"
