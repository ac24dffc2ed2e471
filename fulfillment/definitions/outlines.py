"""What kinds of nodes look like: an outline and a few words for each, so that none is told apart
by colour alone."""

from __future__ import annotations

from collections.abc import Mapping

from fulfillment.definitions.graph import Edge, EdgeType, Graph, Node, NodeKind

MERMAID: Mapping[NodeKind, tuple[str, str]] = {
    NodeKind.COMMAND: ("[", "]"),
    NodeKind.DECISION: ("{", "}"),
    NodeKind.WAIT: ("([", "])"),
    NodeKind.MANUAL: ("[/", "/]"),
    NodeKind.SPREAD: ("[[", "]]"),
    NodeKind.GATHER: ("[[", "]]"),
    NodeKind.ENTER: (">", "]"),
    NodeKind.LEAVE: (">", "]"),
}
"""Brackets around a node's label."""
_WAITS: Mapping[str, str] = {
    "until": "waits until a time",
    "delay": "waits for some time",
    "milestone": "waits for {name}",
    "signal": "waits for {name}",
}
_INNER: Mapping[NodeKind, str] = {
    NodeKind.DECISION: "decides by rules",
    NodeKind.SPREAD: "for each element",
    NodeKind.GATHER: "when every element has ended",
    NodeKind.ENTER: "a sub-process begins",
    NodeKind.LEAVE: "the sub-process ends",
}


def call(node: Node) -> str:
    """What is done there: `billing: activate`, `manager decides`, `waits for paid`."""
    if node.is_command:
        return f"{node.target}: {node.action}"
    if node.manual is not None:
        return f"{'a person' if '${' in node.manual.role else node.manual.role} decides"
    if node.wait is not None:
        return _WAITS.get(node.wait.kind, "waits").format(name=node.wait.name)
    return _INNER[node.kind]


def outline(
    kind: NodeKind, *, width: int, height: int, optional: bool, undoes: bool = False
) -> str:
    """SVG path data of a box of this kind, whose left upper corner is at 0, 0.

    A command is a rectangle, a decision pointed at both sides, a wait round at both ends, a
    manual task slanted at the top, a fan-out has double sides, a sub-process a point. What undoes
    something points back, to the left.
    """
    middle = height / 2
    if undoes:
        return f"M10 0H{width}V{height}H10L0 {middle:g}z"
    match kind:
        case NodeKind.DECISION:
            return f"M8 0H{width - 8}L{width} {middle:g}L{width - 8} {height}H8L0 {middle:g}z"
        case NodeKind.WAIT:
            return _rounded(width, height, middle)
        case NodeKind.MANUAL:
            return f"M0 8L{width} -4V{height}H0z"
        case NodeKind.SPREAD | NodeKind.GATHER:
            return f"{_rounded(width, height, 0)}M5 0V{height}M{width - 5} 0V{height}"
        case NodeKind.ENTER | NodeKind.LEAVE:
            return f"M0 0H{width - 10}L{width} {middle:g}L{width - 10} {height}H0z"
    return _rounded(width, height, 16 if optional else 4)


def condition(graph: Graph, edge: Edge) -> str:
    """When the target of an edge comes to exist, or the edge does; empty for always."""
    if edge.when:
        return f"if {edge.when}"
    if not graph.is_choice(edge):
        return ""
    if edge.type is EdgeType.HUMAN:
        return " or ".join(edge.labels)
    decision = graph.nodes[edge.source].decision
    rules = [
        rule.when or "otherwise"
        for rule in (decision.rules if decision else ())
        if set(rule.create) & set(edge.labels)
    ]
    return " or ".join(rules) or "if named"


def _rounded(width: int, height: int, radius: float) -> str:
    if not radius:
        return f"M0 0H{width}V{height}H0z"
    arc = f"a{radius:g} {radius:g} 0 0 1"
    across, down = width - 2 * radius, height - 2 * radius
    return (
        f"M{radius:g} 0h{across:g}{arc} {radius:g} {radius:g}v{down:g}{arc} -{radius:g} {radius:g}"
        f"h-{across:g}{arc} -{radius:g} -{radius:g}v-{down:g}{arc} {radius:g} -{radius:g}z"
    )
