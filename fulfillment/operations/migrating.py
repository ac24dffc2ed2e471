"""Moving orders in flight to another version of a workflow: explicitly, and never by the way."""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.definitions.decomposition import ItemSelection
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.migration import Comparison
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.plans import migrating
from fulfillment.engine.plans.planning import graph_faults
from fulfillment.engine.store import graphs
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import DefinitionInvalid, Fault, FulfillmentError, OrderUnknown
from fulfillment.models import Fulfillment, Plan
from fulfillment.operations.records import log, reason_of
from fulfillment.pinning import graph_of, published, serving, versions_of
from fulfillment.states import PLAN_GOING_ON, PLAN_TERMINAL

logger = logging.getLogger(__name__)
_BATCH = 50
"""Orders in one unit: what one short transaction can carry."""


class Verdict(enum.StrEnum):
    SAFE = "safe"
    """With a dry run: it would be moved."""
    MOVED = "moved"
    UNSAFE = "unsafe"
    UNCONCERNED = "unconcerned"
    """It is there already, it is over, or it does not use the workflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What became of one order, or would."""

    order_reference: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    """Why it was not moved."""
    comparison: Comparison | None = None
    plan_id: int | None = None
    """The new plan."""


def migrate_orders(
    *,
    workflow: str,
    version: int | None,
    orders: Collection[str] | None,
    reason: str,
    actor: Actor,
    dry_run: bool = False,
) -> Iterator[Migration]:
    """Move orders to a published version of a workflow (None: the newest), one batch after another.

    `orders` are references; None means every active order that uses another version. A workflow
    that others use as a sub-process may be named as well. Only the named workflow changes:
    everything else keeps the version that its plan was made with. What is unsafe is refused and
    stays as it is. Running again goes on where it was interrupted. Raises ReasonMissing,
    WorkflowUnknown, Denied and OrderUnknown, each before anything is changed.
    """
    reason = reason_of(reason)
    wanted = published(workflow, version)
    # Of the workflow, and of no single order: a grant for one region does not cover it.
    context = Context(
        subject=f"workflow:{wanted.name}",
        products=frozenset(offering for offering, _ in wanted.selectors),
    )
    authorize(actor=actor, action=Action.PLAN_MIGRATE, context=context)
    rows = _chosen(wanted, orders)

    def batches() -> Iterator[Migration]:
        for first in range(0, len(rows), _BATCH):
            yield from _move(rows[first : first + _BATCH], wanted, reason, actor, dry_run)

    return batches()


def _chosen(wanted: WorkflowDefinition, orders: Collection[str] | None) -> list[Fulfillment]:
    if orders is not None:
        found = {
            row.order_reference: row
            for row in Fulfillment.objects.filter(order_reference__in=list(orders))
        }
        missing = [reference for reference in orders if reference not in found]
        if missing:
            raise OrderUnknown(
                f"There is no order {', '.join(missing[:10])}; nothing was changed. Orders are "
                "named by their reference, such as O-17."
            )
        return [found[reference] for reference in dict.fromkeys(orders)]
    active = Plan.objects.exclude(state__in=PLAN_TERMINAL)
    concerned = [
        graph_id
        for graph_id in active.values_list("graph_id", flat=True).distinct()
        if versions_of(graphs.by_id(graph_id)).get(wanted.name, wanted.version) != wanted.version
    ]
    chosen = Fulfillment.objects.filter(plans__in=active.filter(graph__in=concerned))
    return list(chosen.order_by("pk"))


def _move(
    batch: Sequence[Fulfillment],
    wanted: WorkflowDefinition,
    reason: str,
    actor: Actor,
    dry_run: bool,
) -> list[Migration]:
    failed: list[Migration] = []

    def together(some: Sequence[Fulfillment]) -> list[Migration]:
        return run_unit(
            lambda unit: [_one(unit, row, wanted, reason, dry_run) for row in some],
            fulfillment_ids=[row.pk for row in some],
            actor=actor.name,
        )

    def alone(row: Fulfillment, error: Exception) -> None:
        logger.error("order not migrated", exc_info=error, extra={"order": row.order_reference})
        why = f"It failed, and nothing was changed: {type(error).__name__}: {error}"
        failed.append(
            Migration(order_reference=row.order_reference, verdict=Verdict.UNSAFE, reasons=(why,))
        )

    return [*in_halves(batch, work=together, culprit=alone), *failed]


def _one(
    unit: Unit, row: Fulfillment, wanted: WorkflowDefinition, reason: str, dry_run: bool
) -> Migration:
    def answer(verdict: Verdict, *reasons: str) -> Migration:
        return Migration(
            order_reference=row.order_reference, verdict=verdict, reasons=tuple(reasons)
        )

    plan_id = (
        Plan.objects.filter(fulfillment=row)
        .order_by("-order_version", "-version")
        .values_list("pk", flat=True)
        .first()
    )
    if plan_id is None:
        return answer(Verdict.UNCONCERNED, "It has no plan.")
    unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
    plan = unit.plans[plan_id]
    before = graphs.by_id(plan.graph_id)
    versions = versions_of(before)
    if plan.state in PLAN_TERMINAL:
        return answer(Verdict.UNCONCERNED, f"Its plan is {plan.state}.")
    if wanted.name not in versions:
        return answer(Verdict.UNCONCERNED, f"It does not use {wanted.name}.")
    if versions[wanted.name] == wanted.version:
        return answer(Verdict.UNCONCERNED, f"It is at v{wanted.version} already.")
    if plan.state not in PLAN_GOING_ON:
        return answer(Verdict.UNSAFE, f"Its plan is {plan.state}: wait until that is over.")
    if plan.rest_due_at is not None:
        return answer(
            Verdict.UNSAFE, "It is to be given up or changed: wait until that is decided."
        )
    if graphs.context_of(plan).get("given_up"):
        return answer(Verdict.UNSAFE, "A part of it has failed and is given up: it stays as it is.")
    try:
        graph = _graph(plan, before, wanted)
    except FulfillmentError as error:
        return answer(Verdict.UNSAFE, str(error))
    found = migrating.examine(unit, plan=plan, graph=graph)
    if found.unsafe or dry_run:
        return Migration(
            order_reference=row.order_reference,
            verdict=Verdict.UNSAFE if found.unsafe else Verdict.SAFE,
            reasons=found.unsafe,
            comparison=found,
        )
    cause = f"migrated to {wanted.name} v{wanted.version}: {reason}"
    successor = migrating.take_over(unit, plan=plan, graph=graph, comparison=found, reason=cause)
    log(
        kind="migrate_order",
        subject=f"order:{row.order_reference}",
        actor=unit.actor,
        reason=reason,
        before={"plan": plan.pk, "workflows": versions},
        after={"plan": successor.pk, "workflows": versions_of(graph)},
        now=unit.now,
    )
    return Migration(
        order_reference=row.order_reference,
        verdict=Verdict.MOVED,
        comparison=found,
        plan_id=successor.pk,
    )


def _graph(plan: Plan, before: Graph, wanted: WorkflowDefinition) -> Graph:
    """What the same items become with the wanted version. Raises DefinitionInvalid."""
    graph = graph_by(plan=plan, versions={**versions_of(before), wanted.name: wanted.version})
    if versions_of(graph).get(wanted.name) != wanted.version:
        message = f"What uses {wanted.name} names the version of it; migrate that workflow."
        raise DefinitionInvalid([Fault(code="migration.pinned", message=message)])
    return graph


def graph_by(*, plan: Plan, versions: Mapping[str, int]) -> Graph:
    """What the same items become with these versions of their workflows, by name.

    Raises DefinitionInvalid and WorkflowUnknown.
    """
    before = graphs.by_id(plan.graph_id)
    definitions = {
        workflow.name: published(workflow.name, versions[workflow.name])
        for workflow in before.workflows
    }
    served_by = serving(before)
    graph = graph_of(
        items=[
            ItemSelection(
                position=item["position"],
                offering=item["offering"],
                action=item["action"],
                definition=definitions[served_by[item["position"]]],
            )
            for item in graphs.context_of(plan)["items"].values()
            if item["position"] in served_by  # A nested line may come with the one around it.
        ],
        versions=versions,
    )
    faults = graph_faults(graph=graph)
    if faults:
        raise DefinitionInvalid(faults)
    return graph
