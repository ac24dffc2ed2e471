"""What a command's payload is, as the engine makes it."""

from __future__ import annotations

from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.references import resolve
from fulfillment.definitions.scopes import node_names, node_scope


def node_input(*, graph: Graph, index: int, **given: Any) -> dict[str, Any]:
    values = node_scope(graph=graph, index=index, **given)
    names = node_names(graph=graph, index=index, plan="plan" in given, element="element" in given)
    found: dict[str, Any] = resolve(graph.nodes[index].input, values, names=names)
    return found
