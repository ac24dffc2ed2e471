"""The language of undo: what a template says becomes part of the nodes, or is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from fulfillment.definitions.amounts import amount_of
from fulfillment.definitions.assembly import Used
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.loading import load_workflow, parse_workflow
from fulfillment.definitions.mermaid import mermaid
from fulfillment.definitions.node_parts import Approval, Compensation, Impact, PointOfNoReturn
from fulfillment.definitions.nodes import Node
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import DefinitionInvalid, Fault

UNDO = (Path(__file__).parent / "definitions" / "good" / "undo.yaml").read_text()
MINIMAL = load_workflow(path=Path(__file__).parent / "definitions" / "good" / "minimal.yaml")


def graph_of(
    definition: WorkflowDefinition, library: dict[Used, WorkflowDefinition] | None = None
) -> Graph:
    offering, action = definition.selectors[0]
    chosen = ItemSelection(position=1, offering=offering, action=action, definition=definition)
    return decompose(items=[chosen], library=library)


def parsed(text: str) -> WorkflowDefinition:
    return parse_workflow(text=text, file="undo.yaml")


def changed(before: str, after: str) -> str:
    assert UNDO.count(before) == 1
    return UNDO.replace(before, after)


def faults_of(text: str) -> list[Fault]:
    try:
        parsed(text)
    except DefinitionInvalid as invalid:
        return list(invalid.faults)
    return []


GRAPH = graph_of(parsed(UNDO))
NODES = {node.task: node for node in GRAPH.nodes}


def test_a_compensation_says_on_what_terms() -> None:
    undo = NODES["charge"].compensation
    assert undo is not None
    assert undo.retry is not None
    assert (undo.retry.initial_interval_seconds, undo.retry.maximum_attempts) == (3, 4)
    assert undo == Compensation(
        target="bank",
        action="refund",
        input={"payment_id": "${tasks.charge.payment_id}"},
        within_seconds=2 * 86400,
        approval=Approval(queue="payments", role="cashier", within_seconds=4 * 3600),
        retry=undo.retry,
        call_timeout_seconds=20,
        callback_timeout_seconds=86400,
        refund="${tasks.charge.paid}",
        customer_impact="The money is back within days.",
        financial_impact="A fee.",
        legal_impact="A credit note.",
    )


def test_a_compensation_that_says_little_has_the_usual_terms() -> None:
    said = "      retry: {maximum_attempts: 1}\n      refund: 12.50\n"
    plain = graph_of(parsed(changed(said, "")))
    (build,) = [node for node in plain.nodes if node.task == "build"]
    assert build.compensation == Compensation(target="workshop", action="demolish", input={})


def test_a_policy_in_place_and_a_plain_amount() -> None:
    undo = NODES["build"].compensation
    assert undo is not None
    assert undo.retry is not None
    assert undo.retry.maximum_attempts == 1
    assert amount_of(undo.refund) == Decimal("12.5")


def test_a_declared_standard_policy_is_that_of_undos_too() -> None:
    text = changed("  gentle: {initial", "  standard: {maximum_attempts: 9}\n  gentle: {initial")
    text = text.replace("      retry: {maximum_attempts: 1}\n", "")
    (build,) = [node for node in graph_of(parsed(text)).nodes if node.task == "build"]
    assert build.compensation is not None
    assert build.compensation.retry is not None
    assert build.compensation.retry.maximum_attempts == 9


def test_what_stays_has_an_impact_of_its_own() -> None:
    assert NODES["ship"].lasting_impact == Impact(customer="You send it back.")
    assert NODES["charge"].lasting_impact is None
    at_the_other = NODES["charge"].by(1)
    assert at_the_other.compensation is None
    assert at_the_other.no_compensation == "It pays back by itself."
    assert at_the_other.lasting_impact == Impact(financial="It keeps its fee.")


def test_points_of_no_return() -> None:
    assert NODES["ship"].point_of_no_return == PointOfNoReturn(
        kind="hard", reason="The parcel has left."
    )
    assert NODES["build"].point_of_no_return == PointOfNoReturn(
        kind="soft",
        reason="Material has been cut.",
        cost="${double(item.price.one_off) * 0.5}",
    )
    assert NODES["charge"].point_of_no_return is None


def test_what_concerns_a_task_in_one_order_however_it_is_written() -> None:
    assert NODES["charge"].affected_by == ("quantity", "price")
    assert NODES["build"].affected_by == ()
    assert NODES["approve"].affected_by == ("items",)
    assert NODES["ship"].affected_by is None


def test_a_wait_that_is_written_in_a_task_is_concerned_by_the_same() -> None:
    assert NODES["build~drawn"].affected_by == ()


def test_deadlines_that_undo() -> None:
    waits = [NODES[name].wait for name in ("build~drawn", "hear")]
    assert [wait.otherwise for wait in waits if wait is not None] == ["undo", "undo"]
    manual = NODES["approve"].manual
    assert manual is not None
    assert manual.outcomes == {"approved": "proceed", "rejected": "refuse", "too_late": "undo"}
    assert manual.otherwise == "too_late"


def test_what_a_failure_leads_to() -> None:
    assert [workflow.on_failure for workflow in GRAPH.workflows] == ["compensate"]
    assert [workflow.on_failure for workflow in graph_of(MINIMAL).workflows] == ["hold"]


def test_the_graph_survives_being_stored() -> None:
    restored = Graph.from_document(GRAPH.document())
    assert restored == GRAPH
    assert restored.sha256 == GRAPH.sha256


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("on_failure: compensate", "on_failure: hold"),
        ("within: P2D", "within: P3D"),
        ("role: cashier", "role: treasurer"),
        ("retry: gentle", "retry: standard"),
        ("callback: P1D", "callback: PT5H"),
        ("refund: 12.50", "refund: 12.51"),
        ("legal: A credit note.", "legal: Nothing."),
        ("financial: It keeps its fee.", "financial: Nothing."),
        ("reason: The parcel has left.", "reason: It has left."),
        ("* 0.5", "* 0.25"),
        ("affected_by: [items]", "affected_by: [items, address]"),
    ],
)
def test_each_of_it_makes_another_graph_and_another_definition(before: str, after: str) -> None:
    other = parsed(changed(before, after))
    assert graph_of(other).sha256 != GRAPH.sha256
    assert other.content_hash != parsed(UNDO).content_hash


def test_the_text_about_a_cancellation_makes_another_definition() -> None:
    assert parsed(UNDO).messages.cancelled is not None
    assert parsed(changed("is off", "is over")).content_hash != parsed(UNDO).content_hash


def test_the_drawing_says_where_there_is_no_way_back() -> None:
    drawn = mermaid(GRAPH)
    assert "Ship<br/>logistics: ship<br/>⛔ no way back" in drawn
    assert "Build<br/>workshop: build<br/>⚠ costs something to give up" in drawn
    assert (drawn.count("no way back"), drawn.count("costs something")) == (1, 1)


SUB_PROCESS = """\
workflow: parts
version: 1
title: Parts
subprocess: {}
tasks:
  cut: {title: Cut, target: workshop, action: cut, compensation: {none: Scrap.}}
  paint:
    title: Paint
    target: workshop
    action: paint
    affected_by: [characteristics]
    compensation: {none: Scrap.}
    point_of_no_return: {kind: hard, reason: The paint is dry.}
"""
USER = """\
workflow: user
version: 1
title: User
fulfils: [{offering: thing, actions: [add]}]
billing_trigger: order_submit
tasks:
  each:
    title: Each
    target: workshop
    action: begin
    affected_by: [quantity]
    for_each: {over: "${item.characteristics.parts}"}
    point_of_no_return: {kind: soft, reason: It has begun., cost: "${element.price}"}
    compensation: {action: stop, refund: "${element.paid}"}
  parts:
    title: Parts
    use: parts
    affected_by: [items]
"""


def test_elements_and_sub_processes_keep_what_is_said() -> None:
    library = {("parts", None): parsed(SUB_PROCESS)}
    nodes: dict[str, Node] = {node.key: node for node in graph_of(parsed(USER), library).nodes}
    assert {key: node.affected_by for key, node in nodes.items()} == {
        "each~each@1": ("quantity",),
        "each~element@1": ("quantity",),
        "each@1": ("quantity",),
        "parts~inputs@1": ("items",),
        "parts/cut@1": ("items",),
        "parts/paint@1": ("characteristics",),
        "parts@1": ("items",),
    }
    pointed = {key for key, node in nodes.items() if node.point_of_no_return is not None}
    assert pointed == {"each~element@1", "parts/paint@1"}
    undone = nodes["each~element@1"].compensation
    assert undone is not None
    assert undone.refund == "${element.paid}"


def test_a_sub_process_does_not_say_what_a_failure_leads_to() -> None:
    text = SUB_PROCESS.replace("subprocess: {}", "subprocess: {}\non_failure: compensate")
    (fault,) = faults_of(text)
    assert (fault.code, fault.line) == ("definition.on_failure_of_subprocess", 5)


@pytest.mark.parametrize(
    ("before", "after", "code", "path"),
    [
        ("on_failure: compensate", "on_failure: forget", "enum", "on_failure"),
        ("[price, quantity]", "[price, colour]", "enum", "tasks.charge.affected_by[1]"),
        (
            "role: cashier",
            "role: The cashier",
            "string_pattern_mismatch",
            "tasks.charge.compensation.approval.role",
        ),
        (
            "queue: payments",
            "queue: '${order.region}'",
            "string_pattern_mismatch",
            "tasks.charge.compensation.approval.queue",
        ),
        (
            "call: PT20S",
            "heartbeat: PT20S",
            "extra_forbidden",
            "tasks.charge.compensation.timeouts.heartbeat",
        ),
        (
            "refund: 12.50",
            "refund: true",
            "string_type",
            "tasks.build.compensation.refund",
        ),
        ("kind: soft", "kind: gentle", "enum", "tasks.build.point_of_no_return.kind"),
        (
            "      reason: Material has been cut.\n",
            "",
            "missing",
            "tasks.build.point_of_no_return.reason",
        ),
        (
            "affected_by: [items]",
            "point_of_no_return: {kind: hard, reason: x}",
            "extra_forbidden",
            "tasks.approve.point_of_no_return",
        ),
        (
            "too_late: undo",
            "too_late: forget",
            "enum",
            "tasks.approve.manual.outcomes.too_late",
        ),
    ],
)
def test_a_shape_that_is_not_of_the_language(before: str, after: str, code: str, path: str) -> None:
    found = {(fault.code, fault.path) for fault in faults_of(changed(before, after))}
    assert found == {(f"shape.{code}", path)}


@pytest.mark.parametrize(
    "amount",
    [
        "12.50",
        "0",
        "'7.1234'",
        "${item.price.one_off?}",
        "${order.total?}",
        "${item.quantity * 2}",
        "${tasks.charge.paid}",
        "${item.characteristics.fee}",
        "'${item.price.one_off == null ? null : item.price.one_off}'",
    ],
)
def test_an_amount_that_can_be_one(amount: str) -> None:
    assert faults_of(changed('refund: "${tasks.charge.paid}"', f"refund: {amount}")) == []


@pytest.mark.parametrize(
    "amount",
    [
        "-1",
        "0.00001",
        "'12,50'",
        "ten",
        "'1000000000000'",
        "${order.customer}",
        "${plan.in_jeopardy}",
        "${[1, 2]}",
        "${0 - 5}",
        "${'much'}",
        "EUR ${order.total?}",
        "${order.total?} ${order.total?}",
    ],
)
def test_an_amount_that_never_is_one(amount: str) -> None:
    (fault,) = faults_of(changed('refund: "${tasks.charge.paid}"', f'refund: "{amount}"'))
    assert (fault.code, fault.path) == (
        "definition.amount",
        "tasks.charge.compensation.refund",
    )


def test_what_a_mapping_of_an_amount_comes_to() -> None:
    assert amount_of("12.5") == Decimal("12.5000")
    assert amount_of(0.1 + 0.2) == Decimal("0.3000")
    assert amount_of(7) == Decimal(7)
    for wrong in (True, None, -0.01, float("nan"), float("inf"), 10**12, "", "1e3", " 1", [1]):
        with pytest.raises(ValueError, match="is no amount of money"):
            amount_of(wrong)
