"""A plan's graph without an item, or without what can't be done any more. Pure.

What such a graph is for is to be done; what an earlier change has undone is not part of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fulfillment.definitions import topology
from fulfillment.definitions.graph import Graph, arrange
from fulfillment.definitions.nodes import Node


def without_items(graph: Graph, *, items: Collection[int]) -> Graph:
    """What is left when these items are given up: their own tasks go, and what serves several
    serves the others."""
    gone = {
        node.index
        for node in graph.nodes
        if set(node.items) <= set(items) and (node.item is not None or node.items)
    }
    return _pruned(graph, gone | graph.undoing, items)


def without_what_follows(graph: Graph, *, failed: Collection[int], of_item: bool) -> Graph:
    """What is left when these nodes will never be done: all that stands behind them goes as well.

    `of_item`: what serves several items stays for the others.
    """
    behind = topology.descendants(of=sorted(failed), successors=graph.successors)
    items = {position for node in failed for position in graph.nodes[node].items}
    gone = {
        node for node in {*behind, *failed} if not of_item or set(graph.nodes[node].items) <= items
    }
    return _pruned(graph, gone | graph.undoing, ())


def without_nodes(graph: Graph, *, nodes: Collection[int]) -> Graph:
    """What is left without these, where nobody needs what stands behind them either."""
    return _pruned(graph, nodes, ()) if nodes else graph


def _pruned(graph: Graph, gone: Collection[int], items: Collection[int]) -> Graph:
    out = _with_parts(graph, gone)
    left = [node for node in graph.nodes if node.index not in out]
    moved = {node.index: at for at, node in enumerate(left)}
    workflows = [
        replace(one, items=served)
        for one in graph.workflows
        if (served := tuple(at for at in one.items if at not in items))
    ]
    return arrange(
        workflows=workflows,
        nodes=[_renumbered(node, moved, items) for node in left],
        edges=[
            replace(edge, source=moved[edge.source], target=moved[edge.target])
            for edge in graph.edges
            if edge.source in moved and edge.target in moved
        ],
    )


def _with_parts(graph: Graph, gone: Collection[int]) -> set[int]:
    """A fan-out goes as a whole; so does a sub-process with its beginning."""
    found = set(gone)
    for node in graph.nodes:
        if node.fan_out is not None:
            whole = {node.index, node.fan_out.gather, *graph.groups.get(node.index, ())}
            if whole & found:
                found |= whole
    for node in graph.nodes:  # In topological order, so inner ones follow outer ones.
        if node.enter is not None and node.enter in found:
            found.add(node.index)
    return found


def _renumbered(node: Node, moved: dict[int, int], items: Collection[int]) -> Node:
    fan_out = node.fan_out
    if fan_out is not None:
        fan_out = replace(fan_out, gather=moved[fan_out.gather], last=moved[fan_out.last])
    return replace(
        node,
        index=moved[node.index],
        items=tuple(one for one in node.items if one not in items),
        group=None if node.group is None else moved[node.group],
        enter=None if node.enter is None else moved[node.enter],
        fan_out=fan_out,
    )
