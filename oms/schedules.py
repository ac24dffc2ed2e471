"""Scheduled jobs: orders that beat submits when their time has come, each occurrence once.

There is no state beside the orders themselves. The external id of an occurrence's order is made
of the schedule's name and its date, so two beats, a repetition or a clock that goes back submit
nothing twice. Of what was missed meanwhile the last occurrence is made up for, within the
schedule's `catch_up`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.definitions.local_time import wall_clock
from fulfillment.engine.store.database import cursor
from oms.intake.requests import ItemRequest, OrderRequest
from oms.intake.submission import Disposition, Submitted, submit
from oms.models import ApiClient, Order
from oms.occurrences import (
    Occurrence,
    ScheduleSpec,
    content_of,
    following,
    latest,
    load_schedules,
    order_id,
)
from oms.states import ItemAction

logger = logging.getLogger(__name__)

CLIENT = "schedules"
"""The client whose orders they are; orders wait for milestones of their own client's alone."""
_ACTOR = "schedules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One schedule as it stands at a moment."""

    name: str
    spec: ScheduleSpec
    next_at: datetime | None
    last_order: str
    """External id of the last order; empty before the first."""
    last_state: str


def submit_due() -> list[Submitted]:
    """Submit the order of every schedule that is due and has none yet.

    Returns what was created. Raises DefinitionInvalid when the file can't be used.
    """
    now = _now()
    due: dict[str, tuple[ScheduleSpec, Occurrence]] = {}
    for name, spec in current().items():
        occurrence = latest(spec=spec, at=now, since=now - spec.catch_up)
        if occurrence is not None:
            due[order_id(name=name, spec=spec, occurrence=occurrence)] = (spec, occurrence)
    if not due:
        return []
    known = Order.objects.filter(client__name=CLIENT, external_id__in=due)
    for external_id in known.values_list("external_id", flat=True):
        del due[external_id]
    return _submit(due)


def submit_now(*, name: str, actor: Actor) -> Submitted:
    """Submit one schedule's order at once, beside those that are due. Raises KeyError, Denied."""
    spec, now = current()[name], _now()
    authorize(actor=actor, action=Action.SCHEDULE_RUN, context=Context(subject=f"schedule:{name}"))
    occurrence = Occurrence(at=now, clock=wall_clock(timezone=spec.timezone, at=now))
    external_id = f"{name}-{occurrence.clock:%Y-%m-%dT%H%M%S}-by-hand"
    request = _request(external_id, spec, occurrence)
    (answer,) = submit(client=_client(), requests=[request], actor=actor.name)
    return answer


def planned() -> list[Planned]:
    """Every schedule, by name. Raises DefinitionInvalid."""
    now = _now()
    found = []
    for name, spec in sorted(current().items()):
        # Names may begin with one another: what follows is a date.
        last = (
            Order.objects.filter(
                client__name=CLIENT, external_id__regex=rf"^{name}-[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}"
            )
            .order_by("-pk")
            .first()
        )
        coming = following(spec=spec, after=now)
        found.append(
            Planned(
                name=name,
                spec=spec,
                next_at=coming.at if coming is not None else None,
                last_order=last.external_id if last is not None else "",
                last_state=str(last.state) if last is not None else "",
            )
        )
    return found


def current() -> Mapping[str, ScheduleSpec]:
    """The schedules of the file that OMS_SCHEDULES names; none when it is off."""
    path: Path | None = settings.OMS_SCHEDULES
    return {} if path is None else _read(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Mapping[str, ScheduleSpec]:
    return load_schedules(path=path).schedules


def _submit(due: Mapping[str, tuple[ScheduleSpec, Occurrence]]) -> list[Submitted]:
    created = []
    # Each by itself: one that can't be submitted keeps none of the others.
    for external_id, (spec, occurrence) in due.items():
        try:
            request = _request(external_id, spec, occurrence)
            (answer,) = submit(client=_client(), requests=[request], actor=_ACTOR)
        except Exception:
            logger.exception("a scheduled order was not submitted", extra={"order": external_id})
            continue
        if answer.disposition is not Disposition.CREATED:
            continue
        created.append(answer)
        if answer.faults:
            logger.error("a scheduled order was rejected", extra={"order": external_id})
    return created


def _request(external_id: str, spec: ScheduleSpec, occurrence: Occurrence) -> OrderRequest:
    return OrderRequest(
        external_id=external_id,
        customer_id=spec.customer,
        channel="schedule",
        requested_at=occurrence.at,
        priority=spec.priority,
        items=[
            ItemRequest(
                item_id="1",
                action=ItemAction.ADD,
                offering=spec.offering,
                characteristics=content_of(spec=spec, occurrence=occurrence),
            )
        ],
    )


def _client() -> ApiClient:
    return ApiClient.objects.get_or_create(name=CLIENT)[0]


def _now() -> datetime:
    with cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        row = raw.fetchone()
        assert row is not None
        moment: datetime = row[0]
        return moment
