"""What a task of a running plan may read: the values, and the types of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulfillment.definitions.graph import Graph, Node, NodeKind
from fulfillment.definitions.names import names_under, output_type, roots_of
from fulfillment.definitions.paths import MISSING


def node_scope(
    *,
    graph: Graph,
    index: int,
    order: Mapping[str, Any],
    items: Mapping[int, Mapping[str, Any]],
    outputs: Mapping[int, Mapping[str, Any]],
    plan: Mapping[str, Any] | None = None,
    element: Any = MISSING,
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values under their roots: order, item or items, tasks, and those that are given of
    plan, element and inputs.

    `items` maps positions to item snapshots, `outputs` maps node indexes to what those tasks
    returned; only `graph.output_sources[index]` are looked up.
    """
    node = graph.nodes[index]
    scope: dict[str, Any] = {"order": order}
    # Of an item that is not wanted any more there is nothing to read, and something to be undone.
    if node.item is not None:
        scope["item"] = items.get(node.item, {})
    else:
        scope["items"] = [items[position] for position in node.items if position in items]
    sources = graph.output_sources[index]
    if sources:
        scope["tasks"] = {
            task: (
                [outputs.get(one, {}) for one in source]
                if isinstance(source, tuple)
                else outputs.get(source, {})
            )
            for task, source in sources.items()
        }
    if plan is not None:
        scope["plan"] = plan
    if element is not MISSING:
        scope["element"] = element
    if inputs is not None:
        scope["inputs"] = inputs
    return scope


def node_names(
    *,
    graph: Graph,
    index: int,
    plan: bool = True,
    element: bool = False,
    inputs: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """The types of the names in `node_scope`, as the template's check had them.

    `inputs` maps the declared inputs of the sub-process that the node is part of to types.
    """
    node = graph.nodes[index]
    roots = roots_of(item_level=node.item is not None, plan=plan, element=element)
    names = names_under(roots)
    sources = graph.output_sources[index]
    if not sources and not inputs:
        return names
    more = {f"inputs.{name}": spelled for name, spelled in (inputs or {}).items()}
    certain = {edge.source for edge in graph.incoming[index] if edge.output and not edge.when}
    for task, source in sources.items():
        every = isinstance(source, tuple)
        first = source[0] if isinstance(source, tuple) else source
        upstream = graph.nodes[first]
        may_be_missing = (
            (node.deferred and (node.kind is NodeKind.LEAVE or graph.uncertain[first]))
            or _may_be_skipped(graph, upstream)
            or first not in certain
        )
        for name, output in upstream.outputs.items():
            more[f"tasks.{task}.{name}"] = output_type(
                type_=output.type,
                optional=output.optional or may_be_missing,
                of_every_item=every,
            )
    return {**names, **more}


def task_names(*, graph: Graph, index: int, element: bool) -> Mapping[str, str]:
    """The same for a task at this place, `element` of a fan-out or not."""
    enter = graph.nodes[index].enter
    types = {} if enter is None else graph.nodes[enter].outputs
    return node_names(
        graph=graph,
        index=index,
        element=element,
        inputs={
            name: output_type(type_=output.type, optional=output.optional, of_every_item=False)
            for name, output in types.items()
        },
    )


def _may_be_skipped(graph: Graph, node: Node) -> bool:
    """A fan-out and a sub-process are skipped with their beginning."""
    beginning = node
    if node.kind is NodeKind.LEAVE and node.enter is not None:
        beginning = graph.nodes[node.enter]
    elif node.kind is NodeKind.GATHER:
        spread = graph.nodes[graph.predecessors[node.index][0]].group
        beginning = node if spread is None else graph.nodes[spread]
    return bool(beginning.only_if)
