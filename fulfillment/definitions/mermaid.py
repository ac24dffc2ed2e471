"""Graphs as Mermaid flowcharts: every colour is doubled by a sign and a word, every kind of
task by its outline, so that nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Mapping

from fulfillment.definitions.decomposition import sketch
from fulfillment.definitions.graph import EdgeType, Graph, Node
from fulfillment.definitions.outlines import MERMAID, call, condition
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.signs import TASK_SIGNS
from fulfillment.states import TaskState

# Okabe and Ito's palette, which stays distinct for the usual kinds of colour blindness.
_CLASSES: Mapping[str, str] = {
    "waiting": "fill:#ffffff,stroke:#777777,color:#000000",
    "moving": "fill:#56b4e9,stroke:#0072b2,color:#000000,stroke-width:3px",
    "trouble": "fill:#f0e442,stroke:#e69f00,color:#000000,stroke-width:3px,stroke-dasharray:6 3",
    "done": "fill:#009e73,stroke:#004d38,color:#ffffff",
    "failed": "fill:#d55e00,stroke:#6b2f00,color:#ffffff,stroke-width:4px",
}
_ENTITIES = str.maketrans({character: f"#{ord(character)};" for character in '#&<>"`'})


def mermaid(
    source: Graph | WorkflowDefinition, states: Mapping[int, TaskState] | None = None
) -> str:
    """A flowchart of a plan's graph, or of a definition that uses no sub-process, for one item.

    Rectangles are required commands, rounded ones optional, hexagons irreversible; decisions,
    waits, manual tasks, fan-outs and sub-processes have outlines of their own. A labelled arrow
    hands over outputs, or exists on a condition; a dotted one leads to a branch. Where giving up
    is refused, or costs something, is said in words. `states`, by node index, adds sign, word and
    colour.
    """
    if isinstance(source, WorkflowDefinition):
        source = sketch(source, library={})
    lines = ["flowchart TD"]
    by_item: dict[int | None, list[Node]] = {}
    for node in source.nodes:
        by_item.setdefault(node.item, []).append(node)
    many = sum(item is not None for item in by_item) > 1
    for item, nodes in sorted(by_item.items(), key=lambda entry: entry[0] or 0):
        boxed = many and item is not None
        if boxed:
            lines.append(f'  subgraph item{item}["Item {item}"]')
        indent = "    " if boxed else "  "
        lines.extend(indent + _node(node, states) for node in nodes)
        if boxed:
            lines.append("  end")
    arrows: dict[tuple[int, int], list[str]] = {}
    branches: set[tuple[int, int]] = set()
    for edge in source.edges:
        labels = arrows.setdefault((edge.source, edge.target), [])
        if edge.type is EdgeType.OUTPUT and edge.output is not None:
            labels.append(edge.output)
        if told := condition(source, edge):
            labels.append(told)
            branches.add((edge.source, edge.target))
    for ends, labels in arrows.items():
        label = f'|"{_text(", ".join(labels))}"|' if labels else ""
        lines.append(f"  n{ends[0]} {'-.->' if ends in branches else '-->'}{label} n{ends[1]}")
    if states is not None:
        used = {TASK_SIGNS[TaskState(state)][1] for state in states.values()}
        lines.extend(
            f"  classDef {name} {style}" for name, style in _CLASSES.items() if name in used
        )
    return "\n".join(lines) + "\n"


def _node(node: Node, states: Mapping[int, TaskState] | None) -> str:
    label = f"{_text(node.title)}<br/>{_text(call(node))}"
    for milestone in node.milestones:
        label += f"<br/>⚑ {_text(milestone.title)}"
    if node.point_of_no_return is not None:
        hard = node.point_of_no_return.kind == "hard"
        label += "<br/>⛔ no way back" if hard else "<br/>⚠ costs something to give up"
    css = ""
    if states is not None and node.index in states:
        state = TaskState(states[node.index])
        sign, name = TASK_SIGNS[state]
        label = f"{sign} {label}<br/>{state.value.replace('_', ' ').lower()}"
        css = f":::{name}"
    opening, closing = MERMAID[node.kind]
    if node.irreversible:
        opening, closing = "{{", "}}"
    elif node.is_command and not (node.required or node.needed):
        opening, closing = "(", ")"
    return f'n{node.index}{opening}"{label}"{closing}{css}'


def _text(text: str) -> str:
    """Nothing in a title may end the label or become markup."""
    return " ".join(text.translate(_ENTITIES).split())
