"""The roles that come with the product: groups with permissions, and grants that say where.

They are a beginning: a role that exists is left as people have made it. What such a role comes with
by now and does not have is told, and added where somebody says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

from fulfillment.actions import Action
from fulfillment.authority.authorizing import names
from fulfillment.engine.store.database import cursor
from fulfillment.models import Grant, Operation
from fulfillment.states import Domain

_BY = "manage.py roles load"
_APPS = ("fulfillment", "oms")
_FOR_SOME = frozenset({"apikey", "grant", "authoritydecision"})
"""Models whose pages only those see who look after authority, or check it."""
_SUPPLY = (Domain.PROVISIONING, Domain.LOGISTICS, Domain.INVENTORY, Domain.CUSTOMER)
_MONEY = (Domain.BILLING, Domain.PAYMENT)
_TASKS = (
    "task.retry",
    "task.skip",
    "task.waive",
    "task.correct",
    "task.reference",
    "task.reconcile",
    "plan.compensate",
)
_WORK = ("case.*", "manual.*", "hold.*", "signal.send")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What a grant of a role says; no domains: at every kind of target system."""

    actions: tuple[str, ...]
    domains: tuple[Domain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    name: str
    what: str
    """What its people look after."""
    grants: tuple[Where, ...]
    sees_authority: bool = False
    """Grants, decisions, keys and users, too."""

    @property
    def actions(self) -> frozenset[Action]:
        """All that it may do anywhere."""
        given = [name for where in self.grants for name in where.actions]
        return frozenset(action for action in Action if names(given, action))


ORDER_DESK = Role(
    name="Order desk",
    what="Talks to customers: changes, cancels and holds orders, decides what they are asked.",
    grants=(Where(actions=(*_WORK, "order.cancel", "order.change", "notification.resend")),),
)
SUPPLY_OPS = Role(
    name="Supply operations",
    what="Looks after what is provisioned, shipped and kept in stock.",
    grants=(
        Where(
            actions=(
                *_TASKS,
                "target.pause",
                "target.resume",
                "event.*",
                "approve.operations",
            ),
            domains=_SUPPLY,
        ),
        Where(
            actions=(*_WORK, "plan.regenerate", "incident.*", "bulk.*", "resource.edit"),
        ),
    ),
)
CATALOG_OPS = Role(
    name="Catalog operations",
    what="Publishes workflows, and describes target systems, calendars and who gets events.",
    grants=(
        Where(
            actions=(
                "workflow.publish",
                "plan.migrate",
                "calendar.edit",
                "resource.edit",
                "target.edit",
                "schedule.run",
                "subscription.edit",
                "delivery.resend",
                "routing.edit",
            )
        ),
    ),
)
FINANCE_OPS = Role(
    name="Finance operations",
    what="Looks after what is charged and billed, and approves what costs revenue.",
    grants=(
        Where(actions=(*_TASKS, "target.pause", "target.resume"), domains=_MONEY),
        Where(actions=(*_WORK, "incident.*", "bulk.*", "approve.finance", "approve.payment")),
    ),
)
SENIOR_OPS = Role(
    name="Senior operations",
    what="Overrules a workflow, approves what overrules one, and says who may do what.",
    grants=(
        Where(
            actions=(
                *_WORK,
                "plan.regenerate",
                "plan.terminate",
                "order.force_complete",
                "order.cancel",
                "lock.break",
                "event.dismiss",
                "event.restore",
                "target.pause",
                "target.resume",
                "incident.*",
                "bulk.*",
                "routing.edit",
                "key.edit",
                "grant.edit",
                "approve.senior",
                "approve.operations",
            )
        ),
    ),
    sees_authority=True,
)
AUDITOR = Role(
    name="Auditor",
    what="Sees everything, takes evidence, and does nothing else.",
    grants=(Where(actions=("order.evidence",)),),
    sees_authority=True,
)
ROLES = (ORDER_DESK, SUPPLY_OPS, CATALOG_OPS, FINANCE_OPS, SENIOR_OPS, AUDITOR)


def load_roles(*, overwrite: bool = False) -> list[str]:
    """Make the roles that are missing; nobody is in them yet. Returns the names of those.

    With `overwrite` those that exist get the permissions and grants again that they came with;
    who is in them stays.
    """
    loaded = []
    with transaction.atomic(), cursor() as raw:
        raw.execute("SELECT fulfillment_now(), pg_advisory_xact_lock(hashtext('roles'))")
        ((now, _),) = raw.fetchall()
        for role in ROLES:
            group, is_new = Group.objects.get_or_create(name=role.name)
            if not is_new and not overwrite:
                continue
            group.permissions.set(permissions_of(role))
            Grant.objects.filter(group=group).delete()
            Grant.objects.bulk_create(
                Grant(
                    group=group,
                    actions=list(where.actions),
                    domains=list(where.domains),
                    reason=role.what,
                    granted_by=_BY,
                    granted_at=now,
                )
                for where in role.grants
            )
            Operation.objects.create(
                kind="load_role",
                subject=f"group:{role.name}",
                actor=_BY,
                reason=role.what,
                after={
                    "grants": [
                        {"actions": list(where.actions), "domains": list(where.domains)}
                        for where in role.grants
                    ]
                },
                happened_at=now,
            )
            loaded.append(role.name)
    return loaded


def lacking() -> dict[str, list[Action]]:
    """By role that exists, what it comes with and does not have: what is new, or what people have
    taken from it. Only roles that lack something."""
    found = {}
    for group in Group.objects.filter(name__in=[role.name for role in ROLES]):
        role = next(role for role in ROLES if role.name == group.name)
        lacks = _lacks(role, group)
        if lacks:
            found[role.name] = [action for action in Action if action in lacks]
    return found


def add_to_roles(*, actions: Collection[Action]) -> list[str]:
    """Give these actions to the roles that exist, come with them and lack them; nothing is taken
    from any. Returns the names of the roles that have got something."""
    given = []
    with transaction.atomic(), cursor() as raw:
        raw.execute("SELECT fulfillment_now(), pg_advisory_xact_lock(hashtext('roles'))")
        ((now, _),) = raw.fetchall()
        for role in ROLES:
            group = Group.objects.filter(name=role.name).first()
            new = _lacks(role, group) & set(actions) if group is not None else frozenset()
            if group is None or not new:
                continue
            permissions = Permission.objects.filter(
                content_type__app_label="fulfillment", codename__in=[one.codename for one in new]
            )
            group.permissions.add(*permissions)
            granted = _granted(group)
            grants = [
                Grant(
                    group=group,
                    actions=sorted(mine),
                    domains=list(where.domains),
                    reason=role.what,
                    granted_by=_BY,
                    granted_at=now,
                )
                for where in role.grants
                if (mine := [a for a in new if names(where.actions, a) and not names(granted, a)])
            ]
            Grant.objects.bulk_create(grants)
            Operation.objects.create(
                kind="add_to_role",
                subject=f"group:{role.name}",
                actor=_BY,
                reason=role.what,
                after={"actions": sorted(new)},
                happened_at=now,
            )
            given.append(role.name)
    return given


def _lacks(role: Role, group: Group) -> frozenset[Action]:
    permitted = set(group.permissions.values_list("codename", flat=True))
    granted = _granted(group)
    return frozenset(
        action
        for action in role.actions
        if action.codename not in permitted or not names(granted, action)
    )


def _granted(group: Group) -> list[str]:
    """Of which actions its grants say where."""
    rows = Grant.objects.filter(group=group).values_list("actions", flat=True)
    return [name for actions in rows for name in actions]


def permissions_of(role: Role) -> list[Permission]:
    """Its actions, and the pages on which its people see what they look after."""
    doing = Q(
        content_type__app_label="fulfillment",
        codename__in=[action.codename for action in role.actions],
    )
    return list(Permission.objects.filter(doing | _pages(sees_authority=role.sees_authority)))


def _pages(*, sees_authority: bool) -> Q:
    seen = Q(content_type__app_label__in=_APPS, codename__startswith="view_")
    if sees_authority:
        people = Q(content_type__app_label="auth", codename__in=["view_user", "view_group"])
        return seen | people
    return seen & ~Q(content_type__model__in=_FOR_SOME)
