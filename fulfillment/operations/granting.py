"""Saying who may do what: roles, permissions and grants of a user, or of everybody in a role.

What gives or takes something high-risk, and whatever somebody changes about themselves, another
person approves. Only as long as fewer than two people have ever held that approval, nobody has
to: somebody has to begin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q
from pydantic import AwareDatetime, Field, StringConstraints

from fulfillment.actions import HIGH_RISK, Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import holders, names
from fulfillment.authority.context import Context
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, SubjectUnknown
from fulfillment.models import Grant
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why
from fulfillment.states import Domain

Name = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[^\x00]*$")]


class GrantGiven(Parameters):
    """Where, and how long, actions may be done; an empty list means everywhere."""

    actions: Annotated[list[Name], Field(min_length=1)]
    targets: list[Name] = []
    domains: list[Domain] = []
    regions: list[Name] = []
    products: list[Name] = []
    maximum_amount: Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=4)] | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^([A-Z]{3})?$")] = ""
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None


class AccessChange(Parameters):
    join: list[Name] = Field([], description="Roles that the user is put into.")
    leave: list[Name] = Field([], description="Roles that the user is taken out of.")
    permit: list[Name] = Field(
        [],
        description="Permissions to give: actions such as task.retry, or pages such as "
        "oms.view_order. They allow nothing without a grant.",
    )
    forbid: list[Name] = Field([], description="Permissions to take away.")
    grant: list[GrantGiven] = Field(
        [], description='Grants to give, such as [{"actions": ["task.retry"], "regions": ["ID"]}].'
    )
    withdraw: list[int] = Field([], description="The numbers of grants to take away.")
    is_active: bool | None = Field(None, description="Whether the user may log in at all.")
    is_superuser: bool | None = Field(
        None, description="Whether the user may do everything that is not high-risk."
    )


class EditAccess(Repair):
    """Give or take away what somebody may do; the record keeps how it was before."""

    action = Action.GRANT_EDIT
    kind = "edit_access"
    about = "user"
    also_about = ("group",)
    parameters = AccessChange

    def find(self, *, name: str) -> Found:
        return self.found(subject=f"user:{name}")

    def found(self, *, subject: str) -> Found:
        row = _row(subject)
        subject = f"{'user' if isinstance(row, User) else 'group'}:{row}"
        return Found(subject=subject, pk=row.pk, context=Context(subject=subject))

    def line(self, found: Found) -> str:
        """One for everybody: who is left that approves is told by all of them together."""
        return "access"

    def version(self, unit: Unit, found: Found) -> str:
        told = json.dumps(_access(_row(found.subject, lock=True)), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def needs(self, found: Found, parameters: AccessChange, actor: Actor) -> Action | None:
        row = _row(found.subject)
        if len(holders(action=Action.APPROVE_SENIOR, ever=True)) < 2:
            return None
        people = [row.pk] if isinstance(row, User) else row.user_set.values_list("pk", flat=True)
        is_own = actor.user_id in people
        is_risky = not HIGH_RISK.isdisjoint(_concerned(row, parameters))
        return Action.APPROVE_SENIOR if is_own or is_risky or parameters.is_superuser else None

    def carry_out(self, unit: Unit, found: Found, parameters: AccessChange, why: Why) -> Done:
        row = _row(found.subject, lock=True)
        before, seniors = _access(row), holders(action=Action.APPROVE_SENIOR)
        if isinstance(row, User):
            _change_user(row, parameters)
        elif parameters.join or parameters.leave or parameters.is_active is not None:
            raise NotPossible(f"{row} is a role: only users join roles, and are active.")
        permissions = row.user_permissions if isinstance(row, User) else row.permissions
        permissions.add(*_permissions(parameters.permit))
        permissions.remove(*_permissions(parameters.forbid))
        _give(row, parameters.grant, why, unit.now)
        _withdraw(row, parameters.withdraw)
        after = _access(row)
        if after == before:
            raise NotPossible(f"{row} has, and has not, all of that already; nothing was changed.")
        if seniors and not holders(action=Action.APPROVE_SENIOR):
            raise NotPossible(
                "Nobody would be left to approve what overrules a workflow. Give that to somebody "
                "else first."
            )
        return Done(
            told=f"{row}: {'; '.join(_differences(before, after))}.", before=before, after=after
        )


def _row(subject: str, *, lock: bool = False) -> User | Group:
    """Raises SubjectUnknown."""
    kind, _, name = subject.partition(":")
    users: Any = User.objects.select_for_update() if lock else User.objects
    groups: Any = Group.objects.select_for_update() if lock else Group.objects
    found: User | Group | None = None
    if "\0" not in name:
        if kind == "user":
            found = users.filter(username=name).first()
        elif kind == "group":
            found = groups.filter(name=name).first()
    if found is None:
        raise SubjectUnknown(
            f"There is no {subject[:150]!r}; write it as user:anna, or as group:Order desk."
        )
    return found


def _access(row: User | Group) -> dict[str, Any]:
    """All that says what they may do, as JSON."""
    permissions = row.user_permissions if isinstance(row, User) else row.permissions
    own = {"user": row} if isinstance(row, User) else {"group": row}
    found: dict[str, Any] = {
        "permissions": sorted(
            f"{app}.{codename}"
            for app, codename in permissions.values_list("content_type__app_label", "codename")
        ),
        "grants": {
            str(grant.pk): grant.in_words for grant in Grant.objects.filter(**own).order_by("pk")
        },
    }
    if isinstance(row, User):
        found["roles"] = sorted(row.groups.values_list("name", flat=True))
        found["is_active"] = row.is_active
        found["is_superuser"] = row.is_superuser
    return found


def _concerned(row: User | Group, wanted: AccessChange) -> set[Action]:
    """The actions that somebody may, or may not, do by this change and did not, or did, before."""
    own = {"user": row} if isinstance(row, User) else {"group": row}
    given = [name for grant in wanted.grant for name in grant.actions]
    for grant in Grant.objects.filter(pk__in=wanted.withdraw, **own):
        given += grant.actions
    roles = Group.objects.filter(name__in=[*wanted.join, *wanted.leave])
    for grant in Grant.objects.filter(group__in=roles):
        given += grant.actions
    if isinstance(row, User) and wanted.is_active:
        # Whoever comes back brings along what they have.
        for grant in Grant.objects.filter(Q(user=row) | Q(group__user=row)):
            given += grant.actions
    codenames = {
        *(name.partition(".")[2] for name in (*wanted.permit, *wanted.forbid)),
        *(name.replace(".", "_") for name in (*wanted.permit, *wanted.forbid)),
        *Permission.objects.filter(group__in=roles).values_list("codename", flat=True),
    }
    return {one for one in Action if names(given, one) or one.codename in codenames}


def _change_user(user: User, wanted: AccessChange) -> None:
    user.groups.add(*_roles(wanted.join))
    user.groups.remove(*_roles(wanted.leave))
    if wanted.is_active is not None:
        user.is_active = wanted.is_active
    if wanted.is_superuser is not None:
        user.is_superuser = wanted.is_superuser
    if user.groups.exists() or user.is_superuser:
        user.is_staff = True  # What they may see is in the admin.
    user.save(update_fields=["is_active", "is_superuser", "is_staff"])


def _roles(wanted: Iterable[str]) -> list[Group]:
    names_ = set(wanted)
    found = list(Group.objects.filter(name__in=names_))
    missing = names_ - {group.name for group in found}
    if missing:
        raise NotPossible(
            f"There is no role {', '.join(sorted(missing))}; `manage.py roles list` names them."
        )
    return found


def _permissions(wanted: Iterable[str]) -> list[Permission]:
    """Actions, and pages to look at; nothing else is a permission here."""
    found = []
    for name in wanted:
        app, _, codename = name.partition(".")
        try:
            app, codename = "fulfillment", Action(name).codename
        except ValueError:
            if not codename.startswith("view_"):
                codename = ""
        permission = Permission.objects.filter(
            content_type__app_label=app, codename=codename
        ).first()
        if permission is None:
            raise NotPossible(
                f"There is no permission {name!r}: name an action such as task.retry, or a page "
                "such as oms.view_order."
            )
        found.append(permission)
    return found


def _give(row: User | Group, grants: Iterable[GrantGiven], why: Why, now: datetime) -> None:
    kinds = {action.value.partition(".")[0] for action in Action}
    for given in grants:
        for name in given.actions:
            kind, _, rest = name.partition(".")
            if name not in set(Action) and (kind not in kinds or rest != "*"):
                raise NotPossible(
                    f"There is no action {name!r}: write it as task.retry, or task.* for all "
                    "of a kind."
                )
        if given.maximum_amount is not None and not given.currency:
            raise NotPossible("A grant up to an amount says its currency.")
        if (
            given.valid_from is not None
            and given.valid_until is not None
            and given.valid_from >= given.valid_until
        ):
            raise NotPossible("A grant ends after it begins.")
        Grant.objects.create(
            user=row if isinstance(row, User) else None,
            group=row if isinstance(row, Group) else None,
            **{**given.model_dump(), "domains": [str(one) for one in given.domains]},
            reason=why.reason,
            granted_by=why.actor.name,
            granted_at=now,
        )


def _withdraw(row: User | Group, numbers: Iterable[int]) -> None:
    wanted = set(numbers)
    own = Grant.objects.filter(pk__in=wanted)
    own = own.filter(user=row) if isinstance(row, User) else own.filter(group=row)
    missing = wanted - set(own.values_list("pk", flat=True))
    if missing:
        raise NotPossible(
            f"{row} has no grant {', '.join(map(str, sorted(missing)))}; a grant of a role is "
            "taken from the role."
        )
    own.delete()


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    said = []
    for name, value in after.items():
        old = before[name]
        if value == old:
            continue
        if isinstance(value, bool):
            said.append(f"{name.replace('_', ' ')}: {'yes' if value else 'no'}")
            continue
        said += [f"{name} + {_shown(value, one)}" for one in value if one not in old]
        said += [f"{name} - {_shown(old, one)}" for one in old if one not in value]
    return said


def _shown(values: Any, one: str) -> str:
    return f"{one} ({values[one]})" if isinstance(values, dict) else one
