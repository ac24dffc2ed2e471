"""The one answer to "may they?": no, unless a permission and a grant say yes (reference §30)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.contrib.auth.models import Permission, User
from django.db.models import DateTimeField, Func, Q, QuerySet
from django.db.models.expressions import Combinable

from fulfillment.actions import APPROVALS, HIGH_RISK, Action
from fulfillment.authority.actors import Actor, ActorKind
from fulfillment.authority.context import MONEY, Context
from fulfillment.engine.store.database import cursor
from fulfillment.errors import Denied
from fulfillment.models import AuthorityDecision, Grant

_OF_CLIENTS = frozenset(
    {
        Action.TASK_RETRY,
        Action.MANUAL_DECIDE,
        Action.HOLD_PLACE,
        Action.HOLD_RELEASE,
        Action.ORDER_CANCEL,
        Action.ORDER_CHANGE,
        Action.SIGNAL_SEND,
    }
)
"""What programs may do to their own orders, where no money moves by it."""
_BY_ROLE = frozenset(
    {Action.MANUAL_CLAIM, Action.MANUAL_RELEASE, Action.MANUAL_DECIDE, Action.MANUAL_RESUME}
)
"""What only members of the group may do that a manual task is for."""
_OF_THE_ENGINE = frozenset(Action) - HIGH_RISK
_NOW = Func(function="fulfillment_now", output_field=DateTimeField())


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """That it is allowed, and by what: it stands in the record of what was done."""

    decision_id: int
    authority: str


def authorize(*, actor: Actor, action: Action, context: Context, unless: str = "") -> Permit:
    """Whether somebody may do this, here and now; every answer is kept.

    Call it outside of any unit of work: an answer must not be rolled back with what it was about.
    `unless` says why not, where there is a reason beside authority. Raises Denied.
    """
    now = _now()
    is_allowed, why = answer(actor=actor, action=action, context=context, now=now)
    if unless:
        is_allowed, why = False, unless
    decision = AuthorityDecision.objects.create(
        actor=actor.name,
        actor_kind=actor.kind,
        user_id=actor.user_id,
        action=action,
        subject=context.subject[:300],
        context=context.document(),
        is_allowed=is_allowed,
        why=why,
        decided_at=now,
    )
    if not is_allowed:
        raise Denied(f"{actor.name} may not do this ({action}): {why}")
    return Permit(decision_id=decision.pk, authority=why)


def refused_page(*, actor: Actor, page: str) -> None:
    """Keep that somebody has sent a form of the admin that they may not. Call it outside of any
    transaction."""
    AuthorityDecision.objects.create(
        actor=actor.name,
        actor_kind=actor.kind,
        user_id=actor.user_id,
        action="page",
        subject=page[:300],
        is_allowed=False,
        why="the page is for those who may do what it is for.",
        decided_at=_now(),
    )


def answer(*, actor: Actor, action: Action, context: Context, now: datetime) -> tuple[bool, str]:
    """Whether, and why or why not. Keeps nothing: for what is shown rather than done."""
    return Reach(actor=actor, now=now).answer(action=action, context=context)


class Reach:
    """How far one actor reaches: read when it is first needed, and once for all that is asked."""

    def __init__(
        self, *, actor: Actor, now: datetime | None = None, user: User | None = None
    ) -> None:
        """`user` is the actor's, where it has just been read."""
        self._actor = actor
        self._now = now
        if user is not None and user.pk is not None and user.pk == actor.user_id:
            self._user = user if user.is_active else None

    def answer(self, *, action: Action, context: Context) -> tuple[bool, str]:
        """As `answer`."""
        match self._actor.kind:
            case ActorKind.ENGINE:
                return action in _OF_THE_ENGINE, "the engine itself"
            case ActorKind.CONSOLE:
                if action in HIGH_RISK:
                    return False, (
                        "it is high-risk, and whoever has a shell on the server may not do that "
                        "namelessly. Say who you are with --as."
                    )
                return True, "a shell on the server"
            case ActorKind.CLIENT:
                return _of_a_client(self._actor, action, context)
            case ActorKind.PERSON:
                return self._of_a_person(action, context)

    def could(self, *, action: Action, context: Context) -> bool:
        """Whether they may do it to something in a place of which little is known: of an incident
        its target system, and not the regions of its orders."""
        if self.answer(action=action, context=context)[0]:
            return True
        if action not in self.held or self._actor.kind is not ActorKind.PERSON:
            return False
        return any(
            names(grant.actions, action)
            and not uncovered(grant=grant, context=context, where_known=True)
            for grant in self._grants
        )

    def _of_a_person(self, action: Action, context: Context) -> tuple[bool, str]:
        user = self._user
        if user is None:
            return False, "there is no such active user."
        if user.is_superuser and action not in HIGH_RISK:
            return True, "superuser"
        if _is_first(user, action):
            return True, "superuser, as long as nobody holds it"
        if self._actor.account and action in APPROVALS:
            return False, "whoever approves has to log in, or to use an API key of their own."
        if action.codename not in self._permitted:
            return (
                False,
                f"the permission {action} is missing; whoever looks after roles can give it.",
            )
        if context.role and action in _BY_ROLE and context.role not in self._groups:
            return (
                False,
                f"it is for {context.role}, and {user.get_username()} is not in that group.",
            )
        lacking = []
        for grant in self._grants:
            if not names(grant.actions, action):
                continue
            missing = uncovered(grant=grant, context=context)
            if not missing:
                return True, f"grant {grant.pk} of {grant.group or grant.user}"
            lacking.append(f"grant {grant.pk} does not cover {', '.join(missing)}")
        if not lacking:
            return False, "no grant that is valid now says where it may be done."
        return False, "; ".join(lacking) + "."

    @cached_property
    def held(self) -> frozenset[Action]:
        """All that they may do somewhere."""
        if self._actor.kind is not ActorKind.PERSON:
            anything = Context(subject="", owner=self._actor.owner)
            return frozenset(one for one in Action if self.answer(action=one, context=anything)[0])
        user = self._user
        if user is None:
            return frozenset()
        return frozenset(
            one
            for one in Action
            if not (self._actor.account and one in APPROVALS)
            and (
                (user.is_superuser and one not in HIGH_RISK)
                or (
                    one.codename in self._permitted
                    and any(names(grant.actions, one) for grant in self._grants)
                )
                or _is_first(user, one)
            )
        )

    @cached_property
    def _user(self) -> User | None:
        return _user(self._actor)

    @cached_property
    def _permitted(self) -> frozenset[str]:
        assert self._user is not None
        return frozenset(_permissions(self._user).values_list("codename", flat=True))

    @cached_property
    def _groups(self) -> frozenset[str]:
        assert self._user is not None
        return frozenset(self._user.groups.values_list("name", flat=True))

    @cached_property
    def _grants(self) -> list[Grant]:
        assert self._user is not None
        return list(_grants(self._user, self._now or _NOW))


def holds(*, actor: Actor, action: Action) -> bool:
    """Whether they may do this anywhere at all: what else is not even shown."""
    return action in held(actor=actor)


def held(*, actor: Actor) -> frozenset[Action]:
    """All that they may do somewhere; a few queries. Pages ask once, of one `Reach`."""
    return Reach(actor=actor).held


def places(*, actor: Actor, action: Action, contexts: Collection[Context]) -> frozenset[str]:
    """The subjects of those of these contexts where they may do this, as `answer` says of one; of
    what has no role. Keeps nothing; a fixed number of queries."""
    if actor.kind is not ActorKind.PERSON:
        reach = Reach(actor=actor)
        allowed = (one for one in contexts if reach.answer(action=action, context=one)[0])
        return frozenset(one.subject for one in allowed)
    user = _user(actor)
    if user is None or (actor.account and action in APPROVALS):
        return frozenset()
    if user.is_superuser and action not in HIGH_RISK:
        return frozenset(one.subject for one in contexts)
    if not _permissions(user).filter(codename=action.codename).exists():
        return frozenset()
    grants = [one for one in _grants(user, _NOW) if names(one.actions, action)]
    return frozenset(
        one.subject
        for one in contexts
        if any(not uncovered(grant=grant, context=one) for grant in grants)
    )


def _of_a_client(actor: Actor, action: Action, context: Context) -> tuple[bool, str]:
    if action not in _OF_CLIENTS:
        return False, "programs may not; a person with the permission for it may."
    if not context.owner or context.owner != actor.owner:
        return False, "it is not about an order of this client."
    if action is Action.TASK_RETRY and not MONEY.isdisjoint(context.domains):
        return False, "it may charge somebody; a person has to ask for it, and another to approve."
    return True, "an order of its own"


def _is_first(user: User, action: Action) -> bool:
    """Somebody has to begin saying who may do what."""
    return action is Action.GRANT_EDIT and user.is_superuser and not holders(action=action)


def holders(*, action: Action, ever: bool = False) -> set[int]:
    """The ids of the active users who may do this somewhere now; with `ever` also of those who
    are not active, and whose grants are not valid yet or any more."""
    grants = [
        grant
        for grant in Grant.objects.filter(Q() if ever else _valid_at(_NOW))
        if names(grant.actions, action)
    ]
    rows = User.objects.filter() if ever else User.objects.filter(is_active=True)
    of_permission = {"content_type__app_label": "fulfillment", "codename": action.codename}
    permission = Permission.objects.filter(**of_permission)
    permitted = rows.filter(
        Q(user_permissions__in=permission) | Q(groups__permissions__in=permission)
    )
    granted = Q(pk__in=[one.user_id for one in grants if one.user_id]) | Q(
        groups__in=[one.group_id for one in grants if one.group_id]
    )
    ids = permitted.values_list("pk", flat=True)
    return set(rows.filter(granted, pk__in=set(ids)).values_list("pk", flat=True))


def who_may(*, action: Action) -> list[str]:
    """The user names of those who may do this somewhere now, by name."""
    found = User.objects.filter(pk__in=holders(action=action)).order_by("username")
    return list(found.values_list("username", flat=True))


def _valid_at(now: datetime | Combinable) -> Q:
    begun = Q(valid_from=None) | Q(valid_from__lte=now)
    return begun & (Q(valid_until=None) | Q(valid_until__gt=now))


def uncovered(*, grant: Grant, context: Context, where_known: bool = False) -> list[str]:
    """What of a context a grant's scopes leave out; empty when it covers all of it, or, with
    `where_known`, all of it that is known."""
    found = []
    for name, scope, actual in (
        ("target", grant.targets, context.targets),
        ("kind of target", grant.domains, context.domains),
        ("region", grant.regions, {context.region} - {""}),
        ("product", grant.products, context.products),
    ):
        if where_known and not actual:
            continue
        if scope and (not actual or not set(actual) <= set(scope)):
            found.append(f"{name} {', '.join(sorted(actual)) or 'unknown'}")
    if grant.maximum_amount is not None:
        if not context.products and not context.amounts and not where_known:
            found.append("amount unknown")  # What is sold is not known, so neither is for how much.
        for currency, amount in context.amounts.items():
            if amount and (currency != grant.currency or abs(amount) > grant.maximum_amount):
                found.append(f"{amount} {currency}")
    return found


def _user(actor: Actor) -> User | None:
    if actor.user_id is None:
        return None
    return User.objects.filter(pk=actor.user_id, is_active=True).first()


def _permissions(user: User) -> QuerySet[Permission]:
    """Given to them or to a role of theirs: being a superuser is not looked at here."""
    rows = Permission.objects.filter(content_type__app_label="fulfillment")
    return rows.filter(Q(user=user) | Q(group__user=user))


def _grants(user: User, now: datetime | Combinable) -> QuerySet[Grant]:
    """That are valid now, to them or to a role of theirs."""
    return (
        Grant.objects.filter(Q(user=user) | Q(group__user=user))
        .filter(_valid_at(now))
        .select_related("user", "group")
        .order_by("pk")
        .distinct()
    )


def names(actions: Collection[str], action: Action) -> bool:
    """Whether an action is among these, by its name or by all of its kind."""
    return action.value in actions or f"{action.value.partition('.')[0]}.*" in actions


def _now() -> datetime:
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        ((moment,),) = raw.fetchall()
    now: datetime = moment
    return now
