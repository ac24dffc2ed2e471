"""What a command's payload is, as the engine makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulfillment.definitions.graph import Graph
from fulfillment.definitions.references import resolve
from fulfillment.definitions.scopes import node_names, node_scope


def node_input(
    *, graph: Graph, index: int, input_types: Mapping[str, str] | None = None, **given: Any
) -> dict[str, Any]:
    values = node_scope(graph=graph, index=index, **given)
    names = node_names(
        graph=graph,
        index=index,
        plan="plan" in given,
        element="element" in given,
        inputs=input_types,
    )
    found: dict[str, Any] = resolve(graph.nodes[index].input, values, names=names)
    return found
