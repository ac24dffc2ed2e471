"""Where the rows of a job are, so that authority is asked about places and not about rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, ActorKind
from fulfillment.authority.authorizing import Permit, authorize
from fulfillment.authority.context import Context
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import Denied
from fulfillment.models import BulkJob, BulkPlace, Foreseen, RowState

_STORE = """
INSERT INTO fulfillment_bulkplace (job_id, key, context)
SELECT %s, given.key, given.context FROM unnest(%s::text[], %s::jsonb[]) given(key, context)
ON CONFLICT (job_id, key) DO UPDATE SET key = excluded.key
RETURNING key, id
"""


class Remembering:
    """`authorize`, asked and logged once for each place.

    Ten thousand rows in one region are one question. It is thrown away after a few seconds: who
    loses a grant meanwhile does no more.
    """

    def __init__(self, *, job_id: int) -> None:
        self._subject = subject_of(job_id)
        self._answers: dict[tuple[str, str], Permit | Denied] = {}

    def __call__(self, *, actor: Actor, action: Action, context: Context) -> Permit:
        place = somewhere(context, subject=self._subject)
        asked = (action, key_of(place))
        if asked not in self._answers:
            try:
                self._answers[asked] = authorize(actor=actor, action=action, context=place)
            except Denied as error:
                self._answers[asked] = error
        answer = self._answers[asked]
        if isinstance(answer, Denied):
            raise Denied(str(answer))
        return answer


def subject_of(job_id: int) -> str:
    return f"bulk:{job_id}"


def somewhere(context: Context, *, subject: str) -> Context:
    """The same place without the order that it was found with."""
    return replace(context, subject=subject, order_reference="", owner="")


def merged(contexts: Sequence[Context]) -> Context:
    """One context that is covered only by what covers each of these."""
    first = contexts[0]
    if len(contexts) == 1:
        return first
    regions = {one.region for one in contexts}
    amounts: dict[str, Decimal] = {}
    for one in contexts:
        for currency, amount in one.amounts.items():
            amounts[currency] = max(amount, amounts.get(currency, amount))
    return replace(
        first,
        region=regions.pop() if len(regions) == 1 else "",
        targets=frozenset().union(*(one.targets for one in contexts)),
        domains=frozenset().union(*(one.domains for one in contexts)),
        products=frozenset().union(*(one.products for one in contexts)),
        amounts=amounts,
        is_activated=any(one.is_activated for one in contexts),
    )


def key_of(context: Context) -> str:
    """The same text for the same place, whatever is done there."""
    told = somewhere(context, subject="").document()
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def store(unit: Unit, *, job_id: int, contexts: Iterable[Context]) -> Mapping[str, int]:
    """The places' rows by their keys, made where they are new."""
    places = {
        key_of(place): place
        for place in (somewhere(one, subject=subject_of(job_id)) for one in contexts)
    }
    if not places:
        return {}
    keys = sorted(places)
    documents = [json.dumps(places[key].document()) for key in keys]
    unit.raw.execute(_STORE, [job_id, keys, documents])
    return dict(unit.raw.fetchall())


def of_job(job: BulkJob, *, but_denied: bool = False) -> tuple[Context, ...]:
    """Where its rows are that are not left out: one context for each kind of place.

    Of places that differ by the amount only it is the highest that counts.
    """
    rows = job.rows.exclude(state=RowState.LEFT_OUT).exclude(place=None)
    if but_denied:
        rows = rows.exclude(foreseen=Foreseen.DENIED)
    used = BulkPlace.objects.filter(pk__in=rows.order_by().values("place").distinct())
    merged: dict[str, Context] = {}
    for document in used.values_list("context", flat=True):
        context = _of_document(document)
        kind = key_of(replace(context, amounts=dict.fromkeys(context.amounts, Decimal(0))))
        known = merged.setdefault(kind, context)
        highest = {name: max(known.amounts[name], context.amounts[name]) for name in known.amounts}
        merged[kind] = replace(known, amounts=highest)
    return tuple(merged[kind] for kind in sorted(merged))


def actor_of(job: BulkJob) -> Actor:
    """In whose name its rows are done."""
    return Actor(name=job.actor, kind=ActorKind(job.actor_kind), user_id=job.requested_by_id)


def _of_document(document: Mapping[str, Any]) -> Context:
    return Context(
        subject=document["subject"],
        region=document["region"],
        targets=frozenset(document["targets"]),
        domains=frozenset(document["domains"]),
        products=frozenset(document["products"]),
        amounts={name: Decimal(amount) for name, amount in document["amounts"].items()},
        is_activated=document["is_activated"],
    )
