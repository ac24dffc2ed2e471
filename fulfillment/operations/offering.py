"""What may be done to something now, by whom, and what each of it has to be told."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from fulfillment.actions import HIGH_RISK, Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import Reach
from fulfillment.authority.context import MONEY, Context
from fulfillment.authority.controls import MATRIX_LIMIT, approval_for, strictest
from fulfillment.errors import NotPossible, SubjectUnknown
from fulfillment.operations.catalog import every_repair, prepared, repairs_about
from fulfillment.operations.looking import one_look
from fulfillment.operations.preparing import Prepared
from fulfillment.operations.repair import Found, Repair, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One thing that could be done to a subject."""

    repair: Repair
    subject: str
    is_possible: bool
    """As far as can be told without a lock."""
    is_allowed: bool
    why_not: str
    """Empty when it is both."""
    needs: Action | None
    """Who else has to approve it here, unless its parameters make it more."""


def offers(
    *, reach: Reach, subject: str, among: Collection[Action] = frozenset(Action)
) -> list[Offer]:
    """Everything that is known about this kind of subject, or what of it is `among` these, and
    whether whoever reaches this far may do it now.

    Raises SubjectUnknown when there is nothing of that name. Keeps nothing.
    """
    about, _, _ = subject.partition(":")
    repairs = list(repairs_about(about))
    if not repairs:
        kinds = ", ".join(sorted(kinds_of_subjects()))
        raise SubjectUnknown(f"Nothing is done to {subject[:100]!r}; what may be named: {kinds}.")
    with one_look():
        return [
            _offer(reach, repair, repair.found(subject=subject))
            for repair in repairs
            if repair.action in among
        ]


def _offer(reach: Reach, repair: Repair, found: Found) -> Offer:
    is_possible = repair.is_offered(found)
    refused = refusals(reach=reach, repair=repair, found=found)
    why_not = " ".join(refused)
    if not why_not and not is_possible:
        why_not = "As it stands now, there is nothing to be done by it."
    return Offer(
        repair=repair,
        subject=found.subject,
        is_possible=is_possible,
        is_allowed=not refused,
        why_not=why_not,
        needs=_needs(repair, found),
    )


def possible(*, subject: str, held: Collection[Action], reach: Reach | None = None) -> list[Repair]:
    """What is worth showing on the page of a subject: it makes sense, and it is among `held`,
    what somebody may do somewhere; with `reach` only what they may do here."""
    made = []
    with one_look():
        for repair in repairs_about(subject.partition(":")[0]):
            if repair.action not in held:
                continue
            with suppress(NotPossible, SubjectUnknown):
                found = repair.found(subject=subject)
                if repair.is_offered(found) and _may(reach, repair, found):
                    made.append(repair)
    return made


def possible_among(
    *, about: str, pks: Collection[int], held: Collection[Action], reach: Reach
) -> dict[int, list[Repair]]:
    """The same for several subjects of one kind that have numbers (tasks, cases, manual tasks), by
    their numbers; a fixed number of queries for what is about this kind alone."""
    made: dict[int, list[Repair]] = {pk: [] for pk in pks}
    with one_look():
        for repair in repairs_about(about):
            if not pks or repair.about != about or repair.action not in held:
                continue
            for pk, found in repair.find_among(pks=tuple(pks)).items():
                if repair.is_offered(found) and _may(reach, repair, found):
                    made[pk].append(repair)
    return made


def _may(reach: Reach | None, repair: Repair, found: Found) -> bool:
    return reach is None or not refusals(reach=reach, repair=repair, found=found)


def refusals(*, reach: Reach, repair: Repair, found: Found) -> list[str]:
    """Why whoever reaches this far may not do it here, as far as that is known before its
    parameters are: each reason once. Keeps nothing."""
    if repair.is_aimed and repair.action in reach.held:
        return []  # Where it is done is told by its parameters alone.
    answers = (
        reach.answer(action=action, context=context)
        for action in (repair.action, *found.implies)
        for context in found.contexts
    )
    further = (
        reach.answer(action=action, context=context)
        for action in repair.leads_to
        for context in found.contexts
        if not reach.could(action=action, context=context)
    )
    every = (*answers, *further)
    return list(dict.fromkeys(why for is_allowed, why in every if not is_allowed))


def looked_at(*, actor: Actor, request: Request) -> Prepared:
    """An operation to be previewed: the reason and the evidence may come later.

    Raises as `catalog.prepared` does.
    """
    asked = replace(
        request,
        reason=request.reason.strip() or "A preview.",
        evidence=request.evidence.strip() or "None yet.",
    )
    return prepared(actor=actor, request=asked)


def kinds_of_subjects() -> set[str]:
    """Such as `task` and `order`."""
    return {kind for repair in every_repair() for kind in (repair.about, *repair.also_about)}


def title_of(repair: Repair) -> str:
    """In words, as a button says it."""
    return repair.action.words


def help_of(repair: Repair) -> str:
    """What it does, in one paragraph."""
    return " ".join((type(repair).__doc__ or "").split())


def schema_of(repair: Repair) -> dict[str, Any]:
    """The JSON schema of its parameters."""
    return repair.parameters.model_json_schema()


def is_high_risk(repair: Repair) -> bool:
    return repair.action in HIGH_RISK


def approvals_of(repair: Repair) -> Iterator[tuple[str, Action]]:
    """When somebody else has to approve it, in words, and the action whose holder does."""
    plain = approval_for(action=repair.action, context=Context(subject=""))
    if plain is not None:
        yield "always", plain
    for when, context in (
        ("where it charges or bills", Context(subject="", domains=frozenset(MONEY))),
        ("after the activation", Context(subject="", is_activated=True)),
        (
            f"where more than {MATRIX_LIMIT} is at stake",
            Context(subject="", amounts={"": MATRIX_LIMIT + Decimal(1)}),
        ),
    ):
        needs = approval_for(action=repair.action, context=context)
        if needs is not None and needs is not plain:
            yield when, needs


def _needs(repair: Repair, found: Found) -> Action | None:
    actions = (repair.action, *found.implies)
    return strictest(
        approval_for(action=action, context=context)
        for action in actions
        for context in found.contexts
    )
