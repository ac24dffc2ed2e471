"""Kinds of nodes are told by outlines and words of their own, and conditions stand on arrows."""

from __future__ import annotations

from typing import Any

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.drawing import BOX_HEIGHT, BOX_WIDTH, draw
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.node_parts import NodeKind
from fulfillment.definitions.outlines import MERMAID, outline
from fulfillment.definitions.schema import WorkflowDefinition
from tests import desk

MANUAL = {
    "queue": "approvals",
    "role": "manager",
    "instructions": "Look.",
    "outcomes": {"approved": "proceed", "waved": "proceed", "no": "refuse"},
    "within": "P1D",
    "otherwise": "escalate",
}


def graph_of(**tasks: Any) -> Graph:
    definition = WorkflowDefinition.model_validate(
        {
            "workflow": "thing",
            "version": 1,
            "title": "A workflow",
            "fulfils": [{"offering": "thing", "actions": ["add"]}],
            "billing_trigger": "service_activation",
            "tasks": {
                name: {"action": name, **spec} if "target" in spec else spec
                for name, spec in tasks.items()
            },
        }
    )
    item = ItemSelection(position=1, offering="thing", action="add", definition=definition)
    return decompose(items=[item])


ROUTED = graph_of(
    route=desk.step(
        decide=[{"when": "item.quantity < 5", "create": ["small"]}, {"otherwise": ["ask"]}]
    ),
    small=desk.task(),
    ask=desk.step(manual=MANUAL),
    checked=desk.task(depends_on=[{"human": "ask", "outcomes": ["approved"]}]),
    rest=desk.step(wait={"milestone": "paid", "within": "P1D", "otherwise": "fail"}),
    end=desk.task(
        after=["small", "rest"],
        depends_on=[{"success": "checked", "when": "order.priority > 3"}],
        join="deferred",
    ),
)


def test_no_two_kinds_share_an_outline_but_the_two_ends_of_one_thing() -> None:
    def drawn(kind: NodeKind) -> str:
        return outline(kind, width=BOX_WIDTH, height=BOX_HEIGHT, optional=False)

    ends = {NodeKind.GATHER: NodeKind.SPREAD, NodeKind.LEAVE: NodeKind.ENTER}
    kinds = [kind for kind in NodeKind if kind not in ends]
    assert len({drawn(kind) for kind in kinds}) == len(kinds)
    assert len({MERMAID[kind] for kind in kinds}) == len(kinds)
    for end, begin in ends.items():
        assert (drawn(end), MERMAID[end]) == (drawn(begin), MERMAID[begin])
    optional = outline(NodeKind.COMMAND, width=BOX_WIDTH, height=BOX_HEIGHT, optional=True)
    assert optional != drawn(NodeKind.COMMAND)


def test_a_flowchart_says_what_is_done_without_a_target_and_on_which_condition() -> None:
    lines = [line.strip() for line in mermaid(ROUTED).splitlines()]
    at = {node.task: f"n{node.index}" for node in ROUTED.nodes}
    assert f'{at["route"]}{{"A step<br/>decides by rules"}}' in lines
    assert f'{at["ask"]}[/"A step<br/>manager decides"/]' in lines
    assert f'{at["rest"]}(["A step<br/>waits for paid"])' in lines
    assert f'{at["route"]} -.->|"item.quantity #60; 5"| {at["small"]}' in lines
    assert f'{at["route"]} -.->|"otherwise"| {at["ask"]}' in lines
    assert f'{at["ask"]} -.->|"approved"| {at["checked"]}' in lines
    assert f'{at["checked"]} -.->|"if order.priority #62; 3"| {at["end"]}' in lines
    assert f"{at['rest']} --> {at['end']}" in lines


def test_a_picture_has_room_for_its_conditions() -> None:
    arrows = {(arrow.source, arrow.target): arrow for arrow in draw(ROUTED).arrows}
    told = sorted(arrow.condition for arrow in arrows.values() if arrow.condition)
    assert told == ["approved", "if order.priority > 3", "item.quantity < 5", "otherwise"]
    plain = graph_of(one=desk.task(), two=desk.task(after=["one"]))
    (arrow,) = draw(plain).arrows
    assert arrow.condition == ""
    assert draw(plain).width < 2 * BOX_WIDTH + 100


def test_fan_outs_and_what_each_element_has_are_drawn() -> None:
    graph = graph_of(port=desk.task(for_each={"over": "${item.characteristics.parts}"}))
    drawn = mermaid(graph)
    assert '[["A task<br/>for each element"]]' in drawn
    assert '[["A task<br/>when every element has ended"]]' in drawn
    # Its elements are needed, and so not drawn as optional.
    assert '["A task<br/>alpha: port"]' in drawn
