"""What belongs to an order: every table that leads to it, and what names it without a key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.db.models import Model, Q, QuerySet

from fulfillment.engine.protection import holds
from fulfillment.models import (
    Approval,
    AuditSeal,
    AuthorityDecision,
    BulkJob,
    BulkRow,
    Command,
    FalloutCase,
    Fulfillment,
    Hold,
    HoldScope,
    InboundEvent,
    Incident,
    ManualTask,
    Operation,
    Plan,
    PlanGraph,
    SealedRow,
    Signal,
    Task,
)
from oms.models import Order

_SECRET = ("secret", "password", "token")
"""In the name of a column, that it never leaves the database."""


def members(order: Order) -> Iterator[tuple[str, QuerySet[Any]]]:
    """Name and rows of each table, sorted by name; rows in the order of their keys."""
    found = {
        model: model._base_manager.filter(**{path: order.fulfillment_id})
        for model, path in paths().items()
    }
    found.update(_named(order))
    for model in sorted(found, key=lambda model: model._meta.db_table):
        yield model._meta.db_table, found[model].order_by("pk")


@cache
def paths() -> dict[type[Model], str]:
    """For every model that leads to an order, the shortest way to its fulfillment."""
    known: dict[type[Model], str] = {Fulfillment: "pk"}
    fresh = dict(known)
    models = [
        model
        for label in ("fulfillment", "oms")
        for model in apps.get_app_config(label).get_models()
    ]
    while fresh:
        ways: dict[type[Model], str] = {}
        for model in models:
            for field in model._meta.concrete_fields:
                towards = field.related_model if field.is_relation else None
                if model in known or model in ways or towards not in fresh:
                    continue
                assert isinstance(towards, type)
                way = fresh[towards]
                ways[model] = field.name if way == "pk" else f"{field.name}__{way}"
        known.update(ways)
        fresh = ways
    return known


def columns(model: type[Model]) -> list[str]:
    """What is told of a row: all but secrets."""
    return [
        field.attname
        for field in model._meta.concrete_fields
        if not any(word in field.attname for word in _SECRET)
    ]


def _named(order: Order) -> dict[type[Model], QuerySet[Any]]:
    fulfillment = order.fulfillment
    subjects = _subjects(order)
    of_customer = holds.subject_of(scope=HoldScope.CUSTOMER, name=order.customer_id)
    seals = SealedRow.objects.filter(
        kind__in=("chain", "commands"), row_id=order.fulfillment_id
    ).values("of_id")
    keys = Command.objects.filter(fulfillment=fulfillment).values("idempotency_key")
    rows = BulkRow.objects.filter(subject__in=subjects)
    jobs = list(rows.values_list("job", flat=True).distinct())
    done = Operation.objects.filter(Q(order_reference=order.reference) | Q(subject__in=subjects))
    return {
        Operation: done,
        # What was done to it as one of many was approved with all of them.
        BulkJob: BulkJob.objects.filter(pk__in=jobs),
        Approval: Approval.objects.filter(
            Q(fulfillment=fulfillment) | Q(pk__in=done.values("approval"))
        ),
        AuthorityDecision: AuthorityDecision.objects.filter(
            subject__in=[*subjects, *(f"bulk:{job}" for job in jobs)]
        ),
        Hold: Hold.objects.filter(
            Q(pk__in=Plan.objects.filter(fulfillment=fulfillment).values("stopped_by"))
            | Q(subject__in=[*subjects, of_customer])
        ),
        InboundEvent: InboundEvent.objects.filter(
            Q(task__fulfillment=fulfillment) | Q(idempotency_key__in=keys)
        ),
        PlanGraph: PlanGraph.objects.filter(plans__fulfillment=fulfillment).distinct(),
        Signal: Signal.objects.filter(
            subject__in=[
                f"order:{name}" for name in (fulfillment.business_key, order.reference) if name
            ]
        ),
        BulkRow: rows,
        Incident: Incident.objects.filter(cases__fulfillment=fulfillment).distinct(),
        AuditSeal: AuditSeal.objects.filter(pk__in=seals),
    }


def _subjects(order: Order) -> list[str]:
    """As operations, decisions and holds name the parts of this order."""
    found = [f"order:{order.reference}"]
    for model in (Plan, Task, FalloutCase, ManualTask, Approval):
        name = {FalloutCase: "case", ManualTask: "manual"}.get(model, model._meta.model_name)
        rows = model._base_manager.filter(fulfillment=order.fulfillment_id)
        found += [f"{name}:{pk}" for pk in rows.values_list("pk", flat=True)]
    return found
