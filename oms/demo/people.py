"""Users to try the roles with, on the embedded stack alone."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction

from fulfillment.actions import Action
from fulfillment.authority.roles import (
    AUDITOR,
    CATALOG_OPS,
    FINANCE_OPS,
    ORDER_DESK,
    SENIOR_OPS,
    SUPPLY_OPS,
)
from fulfillment.engine.store.database import cursor
from fulfillment.models import Grant, Operation
from fulfillment.states import Domain
from oms.embedded.layout import layout_of

PEOPLE = {
    "desk": ORDER_DESK,
    "supply": SUPPLY_OPS,
    "catalog": CATALOG_OPS,
    "finance": FINANCE_OPS,
    "finance-2": FINANCE_OPS,
    "senior": SENIOR_OPS,
    "senior-2": SENIOR_OPS,
    "auditor": AUDITOR,
}
"""Two of those who approve what their own role asks for: nobody approves for themselves."""
INDONESIA = "indonesia"
"""May try failed logistics tasks of the region ID again, and nothing else (reference §30)."""
NAMES = (*PEOPLE, INDONESIA)


def seed_people(*, password: str) -> list[str]:
    """Make those that are missing; who exists stays as they are. Returns who was made.

    Does nothing but on a database that this checkout embeds.
    """
    if not _is_embedded():
        return []
    missing = set(NAMES) - set(
        User.objects.filter(username__in=NAMES).values_list("username", flat=True)
    )
    if not missing:
        return []
    hashed = make_password(password)
    with transaction.atomic(), cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        ((now,),) = raw.fetchall()
        for name in sorted(missing):
            user = User.objects.create(username=name, password=hashed, is_staff=True)
            if name == INDONESIA:
                user.user_permissions.set(
                    Permission.objects.filter(
                        content_type__app_label__in=("fulfillment", "oms"),
                        codename__in=(
                            Action.TASK_RETRY.codename,
                            "view_order",
                            "view_plan",
                            "view_task",
                            "view_falloutcase",
                        ),
                    )
                )
                Grant.objects.create(
                    user=user,
                    actions=[Action.TASK_RETRY],
                    domains=[Domain.LOGISTICS],
                    regions=["ID"],
                    reason="Looks after what is shipped in Indonesia.",
                    granted_by="manage.py prepare",
                    granted_at=now,
                )
            else:
                user.groups.set(Group.objects.filter(name=PEOPLE[name].name))
            Operation.objects.create(
                kind="add_demo_user",
                subject=f"user:{name}",
                actor="manage.py prepare",
                reason="To try the roles with, on the embedded stack alone.",
                after={"roles": [group.name for group in user.groups.all()]},
                happened_at=now,
            )
    return sorted(missing)


def _is_embedded() -> bool:
    sockets = layout_of(settings.ENVIRONMENT.home).sockets
    return str(connection.settings_dict["HOST"]) == str(sockets)
