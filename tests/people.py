"""People for tests, with permissions and grants, and nothing that nobody gave them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.models import Permission, User

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, person
from fulfillment.models import Grant
from tests import desk

EVERYTHING = tuple(Action)
APPROVALS = tuple(action for action in Action if action.value.startswith("approve."))


def operator(name: str, *actions: Action, **scopes: Any) -> User:
    """A user who may do these things, and only these, where one grant with these scopes says.

    Scopes are columns of `Grant`: `regions=["ID"]`, `targets=…`, `domains=…`, `products=…`,
    `maximum_amount=…` with `currency=…`, `valid_from=…`, `valid_until=…`. Without any: everywhere.
    The same name again is the same user, with one grant more.
    """
    user, _ = User.objects.get_or_create(
        username=name, defaults={"is_staff": True, "email": f"{name}@example.com"}
    )
    permit(user, *actions)
    if actions:
        grant(user, *actions, **scopes)
    return user


def permit(user: User, *actions: Action) -> None:
    """Give the permissions alone: they allow nothing without a grant."""
    codenames = [action.codename for action in actions]
    user.user_permissions.add(
        *Permission.objects.filter(content_type__app_label="fulfillment", codename__in=codenames)
    )


def grant(user: User, *actions: Action, at: datetime | None = None, **scopes: Any) -> Grant:
    """Give the grant alone: it allows nothing without the permissions."""
    return Grant.objects.create(
        user=user,
        actions=[action.value for action in actions],
        reason="A test needs it.",
        granted_by="a test",
        granted_at=at or desk.now(),
        **scopes,
    )


def actor(user: User) -> Actor:
    """As whom the edges make this user act, once they have logged in."""
    return person(name=user.get_username(), user_id=user.pk)


def anybody(name: str = "anybody", *actions: Action) -> Actor:
    """`actor` of a new user who may do these things everywhere; without any: nothing at all."""
    return actor(operator(name, *actions))


def senior(name: str = "sarah") -> Actor:
    """Somebody who approves whatever is asked for, and asks for nothing."""
    return actor(operator(name, *APPROVALS))


def auditor(name: str = "adam") -> Actor:
    """Somebody who takes evidence, and does nothing else."""
    return actor(operator(name, Action.ORDER_EVIDENCE))


def almighty(name: str = "olga") -> Actor:
    """Somebody who may ask for everything, and approve it; never both of the same."""
    return actor(operator(name, *EVERYTHING))
