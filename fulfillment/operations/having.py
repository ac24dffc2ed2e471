"""Who has a case or an incident: taking it from somebody has to be meant."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from pydantic import Field

from fulfillment.authority.actors import Actor
from fulfillment.errors import NotPossible
from fulfillment.operations.repair import Parameters


class Having(Parameters):
    """What is told when somebody is to have it; without anything whoever asks takes it."""

    to: str = Field(
        default="",
        max_length=150,
        title="Who is to have it",
        description="A user name; empty: whoever asks.",
    )
    instead_of: str = Field(
        default="",
        max_length=150,
        title="Taken from",
        description="Who has it now: taking it from somebody has to be meant.",
    )
    release: bool = Field(
        False, title="Give it back", description="Give it back: nobody has it then."
    )


def who_gets(
    wanted: Having, *, what: str, has: str, asks: Actor, since: datetime | None = None
) -> str:
    """The user name of who is to have `what`, such as “case 12”, that `has` has now.

    Raises NotPossible for nobody who may sign in, for whoever has it already, and where somebody
    else has it, or has given it back, than was meant.
    """
    to = wanted.to or user_name_of(asks)
    _check_user(to)
    told = f"{has} has {what}" + (f" since {since:%Y-%m-%d %H:%M} UTC" if since else "")
    if has == to:
        raise NotPossible(f"{told} already.")
    if has and has != wanted.instead_of:
        raise NotPossible(
            f"{told}. Ask them to give it back, or take it from them: say instead_of={has}."
        )
    if wanted.instead_of and not has:
        raise NotPossible(f"{what.capitalize()} is nobody's: it was given back.")
    return to


def user_name_of(actor: Actor) -> str:
    """Their user name; the log may know them by a longer one. Raises NotPossible for no person."""
    if actor.user_id is None:
        raise NotPossible(f"{actor.name} is no person who could have it: say to whom.")
    return User.objects.get(pk=actor.user_id).get_username()


def _check_user(name: str) -> None:
    """Raises NotPossible when nobody of this name may sign in."""
    if not User.objects.filter(username=name, is_active=True).exists():
        raise NotPossible(f"There is no active user {name[:150]!r}.")
