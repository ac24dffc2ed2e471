"""The plan that a revised order wants, by the versions that its running plan was made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fulfillment.definitions.decomposition import ItemSelection
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.plans.planning import graph_faults
from fulfillment.engine.store import graphs
from fulfillment.errors import DefinitionInvalid, Fault
from fulfillment.models import Plan
from fulfillment.pinning import graph_of, published, serving, versions_of
from fulfillment.published import definition_of
from oms.changes.differing import Difference
from oms.changes.errors import invalid
from oms.intake.plans import snapshot
from oms.intake.requests import OrderFault
from oms.models import Order
from oms.states import ItemAction

Selectors = Mapping[tuple[str, str], int]


def wanted_by(
    *,
    plan: Plan,
    order: Order,
    difference: Difference,
    version: int,
    selectors: Selectors,
    anew: bool,
) -> Wanted:
    """Raises AmendmentError when no plan can fulfil the revised order.

    An item that stays is fulfilled by what has fulfilled it. One that comes is fulfilled by the
    version that the plan has of its workflow, or else, by `selectors`, by the newest.
    """
    before = graphs.by_id(plan.graph_id)
    chosen = list(_selections(before, difference, selectors))
    faults = [fault for fault in chosen if isinstance(fault, OrderFault)]
    if faults:
        raise invalid(faults)
    items = [one for one in chosen if isinstance(one, ItemSelection)]
    return Wanted(
        graph=_graph(items, versions_of(before)),
        context=snapshot(order, difference.revised, version=version),
        order_version=version,
        changed=difference.changed,
        anew=anew,
    )


def _selections(
    before: Graph, difference: Difference, selectors: Selectors
) -> Iterator[ItemSelection | OrderFault]:
    served, versions = serving(before), versions_of(before)
    for place, (position, item) in enumerate(difference.revised.lines()):
        definition: WorkflowDefinition | None = None
        if position in difference.come and item.action != ItemAction.NO_CHANGE:
            workflow_id = selectors.get((item.offering, item.action))
            definition = None if workflow_id is None else definition_of(workflow_id)
        elif position in served:
            definition = published(served[position], versions[served[position]])
        if definition is None:
            continue  # A nested line comes with the one around it.
        pinned = versions.get(definition.name, definition.version)
        if pinned != definition.version:
            definition = published(definition.name, pinned)
        if (item.offering, item.action) not in definition.selectors:
            yield OrderFault(
                code="amendment.other_workflow_version",
                path=f"items[{place}].offering",
                message=f"{item.action} {item.offering} needs a newer {definition.name} than v"
                f"{pinned}, by which this order is fulfilled. Have the order migrated first, or "
                "order the item apart.",
            )
            continue
        yield ItemSelection(
            position=position, offering=item.offering, action=item.action, definition=definition
        )


def _graph(items: list[ItemSelection], versions: Mapping[str, int]) -> Graph:
    try:
        graph = graph_of(items=items, versions=versions)
        faults: list[Fault] | tuple[Fault, ...] = graph_faults(graph=graph)
    except DefinitionInvalid as error:
        faults = error.faults
    if faults:
        raise invalid(
            [
                OrderFault(
                    code="offering.not_plannable",
                    path="items",
                    message=f"Its workflows can't fulfil it as they are: {fault.message}",
                )
                for fault in faults
            ]
        )
    return graph
