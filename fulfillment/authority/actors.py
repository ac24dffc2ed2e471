"""Who acts: a person, a client's program, whoever sits at the console, or the engine itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ActorKind(enum.StrEnum):
    PERSON = "PERSON"
    """Has logged in, or uses a key of their own."""
    CLIENT = "CLIENT"
    """A program that submits orders; it may do some things to its own."""
    CONSOLE = "CONSOLE"
    """Has a shell on the server and said no name."""
    ENGINE = "ENGINE"
    """Nobody: a time has come, or the engine has found something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """As whom something is done. The edges make it, from what they have authenticated."""

    name: str
    """As the logs know it."""
    kind: ActorKind
    user_id: int | None = None
    """Of a PERSON."""
    owner: str = ""
    """Of a CLIENT: how the engine knows whose orders are its own."""
    account: str = ""
    """Of a PERSON that somebody with a shell on the server says to be: the account there. Empty
    when they have proved it themselves."""

    def __str__(self) -> str:
        return self.name


def person(*, name: str, user_id: int) -> Actor:
    return Actor(name=name[:150], kind=ActorKind.PERSON, user_id=user_id)


def person_at_console(*, name: str, user_id: int, account: str) -> Actor:
    """A person by the word of whoever has a shell; they approve nothing (`authorizing`)."""
    return Actor(
        name=f"{name} (manage.py as {account})"[:150],
        kind=ActorKind.PERSON,
        user_id=user_id,
        account=account,
    )


def client(*, name: str, owner: str) -> Actor:
    return Actor(name=f"client {name}"[:150], kind=ActorKind.CLIENT, owner=owner)


def console(*, account: str) -> Actor:
    return Actor(name=f"{account} (manage.py)"[:150], kind=ActorKind.CONSOLE)


def engine(name: str) -> Actor:
    return Actor(name=name, kind=ActorKind.ENGINE)
