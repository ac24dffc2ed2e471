"""What templates become: nodes and edges of fan-outs, sub-processes, decisions, and the undo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.node_parts import EdgeType, NodeKind
from fulfillment.definitions.readiness import existence, following
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.validation import validate


def command(*after: str, **spec: Any) -> dict[str, Any]:
    depends_on = [{"success": name} for name in after] + list(spec.pop("depends_on", []))
    return {
        "title": "A task",
        "target": "alpha",
        "action": "do",
        "depends_on": depends_on,
        "compensation": {"none": "Test."},
        **spec,
    }


def undone(*after: str, **spec: Any) -> dict[str, Any]:
    return command(*after, compensation={"action": "undo"}, **spec)


def step(*after: str, **spec: Any) -> dict[str, Any]:
    return {"title": "A step", "depends_on": [{"success": name} for name in after], **spec}


def definition(tasks: Mapping[str, Any], **more: Any) -> WorkflowDefinition:
    fulfils = {"fulfils": [{"offering": "thing", "actions": ["add"]}]}
    given = {"billing_trigger": "order_submit", **fulfils} | more
    return WorkflowDefinition.model_validate(
        {"workflow": "thing", "version": 1, "title": "A workflow", "tasks": tasks, **given}
    )


def sub_process(name: str, tasks: Mapping[str, Any], **interface: Any) -> WorkflowDefinition:
    return WorkflowDefinition.model_validate(
        {
            "workflow": name,
            "version": 1,
            "title": "A sub-process",
            "subprocess": interface,
            "tasks": tasks,
        }
    )


def graph_of(
    tasks: Mapping[str, Any], *used: WorkflowDefinition, items: int = 1, **more: Any
) -> Graph:
    template = definition(tasks, **more)
    graph = decompose(
        items=[
            ItemSelection(position=number, offering="thing", action="add", definition=template)
            for number in range(1, items + 1)
        ],
        library={(one.name, None): one for one in used},
    )
    assert validate_graph(graph) == []
    assert Graph.from_document(graph.document()).sha256 == graph.sha256
    return graph


def edges(graph: Graph) -> set[tuple[str, str, str]]:
    keys = [node.key for node in graph.nodes]
    return {(keys[edge.source], edge.type.value, keys[edge.target]) for edge in graph.edges}


def test_a_fan_out_is_framed_by_two_nodes_of_its_own() -> None:
    graph = graph_of(
        {
            "list": command(outputs={"parts": "list"}),
            "each": command(
                depends_on=[{"output": "list.parts"}],
                for_each={"over": "${tasks.list.parts}", "tolerate": 0.5},
                only_if="item.quantity > 0",
            ),
            "end": command("each"),
        },
        milestones={"all": {"title": "All", "reached_by": "each"}},
    )
    assert edges(graph) == {
        ("list@1", "OUTPUT", "each~each@1"),
        ("list@1", "OUTPUT", "each~element@1"),
        ("each~each@1", "ELEMENT", "each~element@1"),
        ("each~element@1", "ELEMENT", "each@1"),
        ("each@1", "SUCCESS", "end@1"),
    }
    by_key = {node.key: node for node in graph.nodes}
    spread, element, gather = (by_key[f"each{part}@1"] for part in ("~each", "~element", ""))
    assert [one.kind for one in (spread, element, gather)] == [
        NodeKind.SPREAD,
        NodeKind.COMMAND,
        NodeKind.GATHER,
    ]
    assert [one.required for one in (spread, element, gather)] == [True, False, True]
    # Skipped, it is skipped as a whole; and its milestone is reached by its end.
    assert [bool(one.only_if) for one in (spread, element, gather)] == [True, False, False]
    assert [len(one.milestones) for one in (spread, element, gather)] == [0, 0, 1]
    assert following(graph=graph, place=(element.index, 3)) == []
    assert spread.fan_out is not None
    assert (spread.fan_out.gather, spread.fan_out.last) == (gather.index, element.index)


def test_a_sub_process_stands_where_it_is_used() -> None:
    inner = sub_process(
        "account",
        {
            "create": command(input={"n": "${inputs.name}"}, outputs={"id": "string"}),
            "check": command("create"),
            "extra": command("create", required=False),
        },
        inputs={"name": "string"},
        outputs={"id": {"type": "string", "value": "${tasks.create.id}"}},
    )
    graph = graph_of(
        {
            "one": command(),
            "account": step("one", use="account", input={"name": "x"}, outputs={"id": "string"}),
            "two": command(depends_on=[{"output": "account.id"}]),
        },
        inner,
        items=2,
    )
    assert {edge for edge in edges(graph) if "@2" in edge[0]} == {
        ("one@2", "SUCCESS", "account~inputs@2"),
        ("account~inputs@2", "SUCCESS", "account/create@2"),
        ("account/create@2", "SUCCESS", "account/check@2"),
        ("account/create@2", "SUCCESS", "account/extra@2"),
        ("account/create@2", "OUTPUT", "account@2"),
        ("account/create@2", "SUCCESS", "account@2"),
        ("account/check@2", "SUCCESS", "account@2"),
        ("account@2", "OUTPUT", "two@2"),
    }
    by_key = {node.key: node for node in graph.nodes}
    assert by_key["account/create@1"].enter == by_key["account~inputs@1"].index
    assert by_key["account/create@1"].workflow == "account"
    assert not by_key["account/extra@1"].required


def test_waits_in_dependencies_are_tasks_of_their_own() -> None:
    graph = graph_of(
        {
            "one": command(),
            "two": command(
                "one",
                depends_on=[
                    {"milestone": "ready", "within": "P1D", "otherwise": "fail"},
                    {"delay": "PT1H", "after": "one"},
                ],
            ),
        }
    )
    assert edges(graph) == {
        ("one@1", "SUCCESS", "two~ready@1"),
        ("one@1", "SUCCESS", "two~3@1"),
        ("one@1", "SUCCESS", "two@1"),
        ("two~ready@1", "MILESTONE", "two@1"),
        ("two~3@1", "TIME", "two@1"),
    }


def test_existence_follows_the_decisions() -> None:
    graph = graph_of(
        {
            "route": step(
                decide=[{"when": "item.quantity > 1", "create": ["left"]}, {"otherwise": ["right"]}]
            ),
            "left": command(),
            "behind": command("left"),
            "right": command(),
            "join": command("behind", "right", join="deferred"),
        }
    )
    at = {node.task: node.index for node in graph.nodes}

    def named(choices: Any) -> dict[str, bool | None]:
        found = existence(graph=graph, element=0, choices=choices)
        return {name: found[index] for name, index in at.items()}

    always = {"route": True, "join": True}
    assert named({}) == {**always, "left": None, "behind": None, "right": None}
    left = {(at["route"], 0): frozenset({"left"})}
    assert named(left) == {**always, "left": True, "behind": True, "right": False}


def test_undo_goes_in_reverse_order_across_what_can_not_be_undone() -> None:
    graph = graph_of(
        {
            "a": undone(),
            "b": command("a"),
            "c": undone("b"),
            "d": undone("c"),
            "e": undone("a"),
        }
    )
    keys = [node.task for node in graph.nodes]
    found = {(keys[edge.source], keys[edge.target]) for edge in graph.undo_edges}
    assert found == {("c", "a"), ("d", "c"), ("e", "a")}
    assert {edge.type for edge in graph.undo_edges} == {EdgeType.COMPENSATION}


def test_a_graph_of_the_release_before_is_still_read() -> None:
    graph = graph_of({"one": command(outputs={"x": "string"}), "two": command("one")})
    document = graph.document()
    document["format"] = 1
    old = {"index", "key", "task", "title", "item", "items", "workflow", "workflow_version"}
    old |= {"target", "action", "input", "outputs", "required", "irreversible", "retry"}
    old |= {"call_timeout_seconds", "callback_timeout_seconds", "compensation", "milestones"}
    old |= {"no_compensation"}
    document["nodes"] = [
        {name: value for name, value in node.items() if name in old} for node in document["nodes"]
    ]
    for edge in document["edges"]:
        del edge["when"], edge["labels"]
    for node in document["nodes"]:
        for output in node["outputs"].values():
            del output["valid_until"]
    assert Graph.from_document(document) == graph


def with_fallbacks(*fallbacks: dict[str, Any], **spec: Any) -> Graph:
    ways = [{"action": "do_otherwise", **one} for one in fallbacks]
    return graph_of({"one": command(fallback=ways, **spec)})


def undo_by(graph: Graph, route: int) -> tuple[str, str] | str:
    way = graph.nodes[0].by(route)
    if way.compensation is None:
        return way.no_compensation
    return way.compensation.target, way.compensation.action


def test_what_a_fallback_did_is_undone_at_its_target() -> None:
    graph = with_fallbacks({"target": "beta"}, compensation={"action": "undo"})
    assert [undo_by(graph, route) for route in (0, 1)] == [("alpha", "undo"), ("beta", "undo")]


def test_an_undo_that_names_its_target_goes_there_whoever_did_it() -> None:
    undo = {"action": "undo", "target": "gamma"}
    graph = with_fallbacks({"target": "beta"}, compensation=undo)
    assert [undo_by(graph, route) for route in (0, 1)] == [("gamma", "undo")] * 2


def test_a_fallback_may_be_undone_in_its_own_way_or_not_at_all() -> None:
    graph = with_fallbacks(
        {"target": "beta", "compensation": {"action": "reverse", "input": {"a": 1}}},
        {"target": "gamma", "compensation": {"none": "It expires."}},
        compensation={"action": "undo"},
    )
    assert [undo_by(graph, route) for route in (0, 1, 2)] == [
        ("alpha", "undo"),
        ("beta", "reverse"),
        "It expires.",
    ]
    undo = graph.nodes[0].by(1).compensation
    assert undo is not None
    assert undo.input == {"a": 1}
    assert [undo_by(with_fallbacks({"target": "beta"}), route) for route in (0, 1)] == ["Test."] * 2


def test_what_only_a_fallback_can_undo_has_its_place_in_the_order_of_the_undo() -> None:
    other = {"target": "beta", "action": "do", "compensation": {"action": "undo"}}
    graph = graph_of({"a": undone(), "b": command("a", fallback=[other]), "c": undone("b")})
    keys = [node.task for node in graph.nodes]
    found = {(keys[edge.source], keys[edge.target]) for edge in graph.undo_edges}
    assert found == {("c", "b"), ("b", "a")}


def test_the_undo_of_a_fallback_outlives_being_stored() -> None:
    graph = with_fallbacks(
        {"target": "beta"},
        {"target": "gamma", "compensation": {"none": "It expires."}},
        compensation={"action": "undo"},
    )
    assert Graph.from_document(graph.document()) == graph


@pytest.mark.parametrize("target", [None, "gamma"])
def test_in_a_graph_of_the_release_before_a_fallback_is_undone_as_its_task(
    target: str | None,
) -> None:
    undo = {"action": "undo"} | ({"target": target} if target else {})
    graph = with_fallbacks({"target": "beta"}, compensation=undo)
    document = graph.document()
    for other in document["nodes"][0]["fallbacks"]:
        del other["compensation"], other["no_compensation"]
    assert Graph.from_document(document) == graph


def test_every_target_that_may_undo_something_has_to_exist_and_to_know_how() -> None:
    known = {"alpha": frozenset({"do", "undo"}), "beta": frozenset({"do"})}
    way = {"target": "beta", "action": "do"}
    elsewhere = {**way, "compensation": {"action": "undo", "target": "nowhere"}}
    tasks = {"one": undone(fallback=[way, elsewhere])}
    template = definition(tasks)
    assert [(fault.path, fault.code) for fault in validate(template, known)] == [
        ("tasks.one.fallback[0].compensation.action", "definition.unknown_target"),
        ("tasks.one.fallback[1].compensation.target", "definition.unknown_target"),
    ]
    assert [fault.code for fault in validate_graph(graph_of(tasks), known)] == [
        "graph.unknown_target"
    ] * 2


def test_the_undo_of_a_fallback_reads_what_the_task_can_read_and_has_returned() -> None:
    spec = {"outputs": {"x": "string"}, "compensation": {"none": "Test."}}
    undo = {"action": "undo", "input": {"mine": "${tasks.one.x}", "wrong": "${tasks.two.y}"}}
    ways = [{"target": "beta", "action": "do", "compensation": undo}]
    template = definition({"one": command(fallback=ways, **spec), "two": command()})
    (fault,) = validate(template)
    assert fault.path == "tasks.one.fallback[0].compensation.input.wrong"
