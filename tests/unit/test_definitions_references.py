from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.expressions import ExpressionFailed
from fulfillment.definitions.graph import Graph, Output
from fulfillment.definitions.loading import load_workflow
from fulfillment.definitions.outputs import output_faults
from fulfillment.definitions.references import (
    Reference,
    ReferenceMalformed,
    ValueMissing,
    parse,
    resolve,
    texts_in,
)
from fulfillment.errors import ValueUnavailable
from tests.unit.payloads import node_input

SCOPE = {
    "order": {
        "id": 7,
        "region": "EU",
        "version": 3,
        "promised_at": None,
        "customer": {"id": "C-1"},
    },
    "item": {
        "characteristics": {
            "agents": 200,
            "data-rate": 5,
            "lines": [{"n": 1}, {"n": 2}],
            "größe": "L",
        }
    },
    "items": [{"price": "1.00"}, {"price": None}, {}],
}
EVERYTHING = Path(__file__).parent / "definitions" / "good" / "everything.yaml"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${item.characteristics.agents}", 200),
        ("${order.customer}", {"id": "C-1"}),
        ("${order.promised_at}", None),
        ("${item.characteristics.größe}", "L"),
        ("order ${order.id} in ${order.region}", "order 7 in EU"),
        ("${order.id}${order.region}", "7EU"),
        ("all: ${order.customer}", 'all: {"id":"C-1"}'),
        ("$${order.id} is ${order.id}", "${order.id} is 7"),
        ("$${", "${"),
        ("100 $ {x} $$", "100 $ {x} $$"),
        ("${order.customer.tier?}", None),
        ("tier ${order.customer.tier?}, ${order.promised_at?}.", "tier , ."),
        ("${item.characteristics.lines.n}", [1, 2]),
        ("${item.characteristics.lines.1.n}", 2),
        ("${items.price?}", ["1.00", None, None]),
        ({"a": ["${order.id}", 5, True, None]}, {"a": [7, 5, True, None]}),
        ("", ""),
        ("${ order.region }", "EU"),
        ("${order.version + 1}", 4),
        ("v${order.version + 1} of ${order.region}", "v4 of EU"),
        ("${order.region == 'EU' ? 'in' : 'out'}side", "inside"),
        ('${{"region": order.region, "open}": [1]}}', {"region": "EU", "open}": [1]}),
        ("${'}' + order.region + \"{\"}", "}EU{"),
        ("$${order.version + 1}", "${order.version + 1}"),
        ("${item.characteristics.agents / 3}${order.version * 1.0}", "663"),
        ("${items.filter(one, one.?price.orValue(null) != null)}", [{"price": "1.00"}]),
        ("${item.characteristics.data-rate}", 5),
        ("${item.characteristics.agents - 5}", 195),
        ("${order.promised_at == null}", True),
        ("${[order.promised_at]}", [None]),
    ],
)
def test_references_resolve(value: Any, expected: Any) -> None:
    found = resolve(value, SCOPE)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("${order.customer.tier}", "order.customer.tier"),
        ("Dear ${order.customer.name}", "order.customer.name"),
        ("by ${order.promised_at}", "order.promised_at"),
        ("${order.promised_at.day}", "order.promised_at.day"),
        ("${item.characteristics.lines.7}", "item.characteristics.lines.7"),
        ("${items.price}", "items.price"),
        ("${order.region.name}", "order.region.name"),
        ("${tasks.a.b}", "tasks.a.b"),
    ],
)
def test_a_missing_value_is_named(value: str, reference: str) -> None:
    with pytest.raises(ValueMissing, match="has no value") as caught:
        resolve({"deep": [value]}, SCOPE)
    assert caught.value.reference == reference


@pytest.mark.parametrize("text", ["${", "${}", "${ }", "${a", "${{a}", "${a + '}'"])
def test_what_is_not_a_reference_is_refused(text: str) -> None:
    with pytest.raises(ReferenceMalformed, match="is not a reference"):
        resolve(text, SCOPE)


def test_an_expression_without_a_value_fails_with_its_text() -> None:
    with pytest.raises(ExpressionFailed, match="divide by zero"):
        resolve("${order.version / (order.version - 3)}", SCOPE)
    with pytest.raises(ExpressionFailed, match="it is null, and stands within a text"):
        resolve("by ${order.promised_at == '' ? 'x' : order.promised_at}", SCOPE)
    with pytest.raises(ExpressionFailed, match="there is no 'order.vresion' here"):
        resolve("${order.vresion + 1}", SCOPE)


def test_plan_element_and_inputs_reach_the_task_that_has_them() -> None:
    graph = everything_for(2)
    node = next(node for node in graph.nodes if node.task == "first")
    mapping = {
        "whole": "${element}",
        "next": "${element.position + 1}",
        "half": "${inputs.limit / 2}",
        "version": "${plan.order_version * 10}",
        "since": "${timestamp(plan.created_at)}",
    }
    nodes = tuple(
        replace(one, input=mapping) if one.index == node.index else one for one in graph.nodes
    )
    found = node_input(
        graph=replace(graph, nodes=nodes),
        index=node.index,
        order={},
        items={2: {}},
        outputs={},
        plan={"created_at": "2026-01-01T00:00:00+00:00", "order_version": 2},
        element={"position": 4},
        inputs={"limit": 3},
        input_types={"limit": "number"},
    )
    assert found == {
        "whole": {"position": 4},
        "next": 5,
        "half": 1.5,
        "version": 20,
        "since": "2026-01-01T00:00:00Z",
    }


def test_references_are_listed_with_their_place() -> None:
    value = {"a": ["x", "${order.id} ${tasks.b.c?}"], "d": {"e": "${item.place}"}}
    found = [
        (path, str(part), part.optional)
        for path, text in texts_in(value, path="input")
        for part in parse(text)
        if isinstance(part, Reference)
    ]
    assert found == [
        ("input.a[1]", "order.id", False),
        ("input.a[1]", "tasks.b.c", True),
        ("input.d.e", "item.place", False),
    ]


@given(st.text())
def test_escaped_text_comes_out_as_it_went_in(text: str) -> None:
    assert resolve(text.replace("${", "$${"), {}) == text


@given(st.text(alphabet="${}.?ab "))
def test_any_text_resolves_or_is_refused_in_a_known_way(text: str) -> None:
    try:
        resolve(text, {"a": {"b": 1}})
    except (ReferenceMalformed, ValueUnavailable) as error:
        assert str(error)


def everything_for(*positions: int) -> Graph:
    definition = load_workflow(path=EVERYTHING)
    return decompose(
        items=[
            ItemSelection(
                position=position, offering="bundle-2.0", action="add", definition=definition
            )
            for position in positions
        ]
    )


def input_of(graph: Graph, key: str, outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    indexes = {node.key: node.index for node in graph.nodes}
    return node_input(
        graph=graph,
        index=indexes[key],
        order={"region": "EU", "external_id": "X-1", "customer": {"id": "C-1"}},
        items={
            2: {"characteristics": {"colour": "red"}, "place": {"id": "S2"}, "price": {}},
            5: {"characteristics": {"colour": "blue"}, "place": {"id": "S5"}, "price": {}},
        },
        outputs={indexes[name]: value for name, value in outputs.items()},
    )


def test_an_item_level_task_reads_its_own_item_and_the_order_level_output() -> None:
    graph = everything_for(2, 5)
    outputs = {"everything/first": {"case_id": "K-9"}}
    assert input_of(graph, "second@5", outputs) == {
        "case": "case K-9 of X-1",
        "note": None,
        "deep": {"list": [1, 2.5, True, None, "blue"]},
    }


@pytest.mark.parametrize(("positions", "serials"), [((5,), [["b"]]), ((5, 2), [["a"], ["b"]])])
def test_an_order_level_task_gets_item_level_outputs_as_a_list_in_item_order(
    positions: tuple[int, ...], serials: list[list[str]]
) -> None:
    returned = {"second@2": {"serial": ["a"]}, "second@5": {"serial": ["b"]}}
    outputs = {f"second@{position}": returned[f"second@{position}"] for position in positions}
    found = input_of(everything_for(*positions), "everything/last", outputs)
    assert found["serials"] == serials
    assert found["places"] == [{"id": f"S{position}"} for position in sorted(positions)]


def test_an_escaped_reference_reaches_the_target_as_text() -> None:
    found = input_of(everything_for(2), "everything/first", {})
    assert found["regions"] == ["EU", "literal ${order.region}"]
    assert found["tier"] is None


def test_outputs_are_checked_against_their_declaration() -> None:
    declared = {
        "text": Output(type="string"),
        "count": Output(type="integer"),
        "size": Output(type="number"),
        "note": Output(type="string", optional=True),
    }
    good = {"text": "a", "count": 1, "size": 1, "undeclared": object()}
    assert output_faults(declared=declared, returned=good) == []
    bad = {"text": None, "count": True, "size": "1", "note": 5}
    found = output_faults(declared=declared, returned=bad)
    assert [(fault.code, fault.path) for fault in found] == [
        ("output.missing", "outputs.text"),
        ("output.type", "outputs.count"),
        ("output.type", "outputs.size"),
        ("output.type", "outputs.note"),
    ]
