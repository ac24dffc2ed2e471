"""The plan that a revised order wants, by the versions that its running plan was made with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from fulfillment.definitions.decomposition import ItemSelection
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.pruning import without_nodes
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.plans.planning import graph_faults
from fulfillment.engine.store import graphs
from fulfillment.errors import DefinitionInvalid, Fault
from fulfillment.models import Plan
from fulfillment.pinning import graph_of, published, serving, versions_of
from fulfillment.published import definition_of
from oms.changes.differing import Difference
from oms.changes.errors import AmendmentError, invalid
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
    version that the plan has of its workflow, or else, by `selectors`, by the newest. What the plan
    has given up of an item that stays is not begun again.
    """
    before, known = graphs.by_id(plan.graph_id), graphs.context_of(plan)
    stay = {position for position, _ in difference.revised.lines()}
    given_up = stay.intersection(known.get("given_up", ()))
    chosen = [
        *_changed_though_given_up(difference, given_up),
        *_selections(before, difference, selectors),
    ]
    faults = [fault for fault in chosen if isinstance(fault, OrderFault)]
    if faults:
        raise invalid(faults)
    items = [one for one in chosen if isinstance(one, ItemSelection)]
    graph = _graph(items, versions_of(before))
    context = _with_what_stays(
        snapshot(order, difference.revised, version=version), known["items"], difference
    )
    if given_up:
        graph = _without_what_was_given_up(graph, before, given_up)
        context = {**context, "given_up": sorted(given_up)}
    return Wanted(
        graph=graph,
        context=context,
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


def _with_what_stays(
    context: Mapping[str, Any], known: Mapping[str, Any], difference: Difference
) -> Mapping[str, Any]:
    """What is not new stands there as tasks have been given it: 9.90 for 9.9000 is no other price,
    and no reason to do anything again."""
    items = dict(context["items"])
    for position, item in items.items():
        was = known.get(position)
        if was is None:
            continue
        if int(position) not in difference.rewritten:
            items[position] = was
        else:
            kept = {
                name: was["price"][name]
                for name in ("one_off", "recurring")
                if _is_same(was["price"][name], item["price"][name])
            }
            items[position] = {**item, "price": {**item["price"], **kept}}
    return {**context, "items": items}


def _is_same(was: str | None, now: str | None) -> bool:
    return was is not None and now is not None and Decimal(was) == Decimal(now)


def _changed_though_given_up(
    difference: Difference, given_up: Collection[int]
) -> Iterator[OrderFault]:
    for place, (position, item) in enumerate(difference.revised.lines()):
        if position in given_up and position in difference.rewritten:
            yield OrderFault(
                code="amendment.item_has_failed",
                path=f"items[{place}]",
                message=f"Item {item.item_id} has failed and is given up. Leave it as it is, or "
                "leave it out and order it anew under another item_id.",
            )


def _without_what_was_given_up(graph: Graph, before: Graph, given_up: Collection[int]) -> Graph:
    known = {node.key for node in before.nodes}
    left = without_nodes(
        graph,
        nodes={
            node.index
            for node in graph.nodes
            if node.key not in known and not set(node.items).isdisjoint(given_up)
        },
    )
    if any(node.required for node in left.nodes):
        return left
    raise AmendmentError(
        "amendment.nothing_left",
        "All that would be left of the order has failed and is given up: cancel the order.",
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
