from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.expressions import compile_condition, compile_expression
from fulfillment.definitions.loading import parse_workflow
from fulfillment.definitions.names import names_under
from fulfillment.definitions.reading import Readable
from fulfillment.definitions.references import Computed, parse, texts_in
from fulfillment.definitions.schema import Interface, Scope, WorkflowDefinition
from fulfillment.definitions.scopes import node_names
from fulfillment.errors import DefinitionInvalid
from tests.unit.test_definitions_references import everything_for

TEMPLATE = """
workflow: readers
version: 1
title: Readers
fulfils: [{offering: thing, actions: [add]}]
billing_trigger: order_submit
tasks:
  extract:
    title: Extract
    target: warehouse
    action: extract
    outputs: {rows: integer, share: number, note: {type: string, optional: true}}
    compensation: {none: Test.}
  load:
    title: Load
    target: warehouse
    action: load
    depends_on: [{output: extract.rows}, {output: extract.note}]
    input: {rows: "${tasks.extract.rows * 2}"}
    outputs: {loaded: integer}
    compensation: {none: Test.}
  report:
    title: Report
    scope: order
    target: warehouse
    action: report
    depends_on: [{output: load.loaded}]
    compensation: {none: Test.}
"""


@pytest.fixture
def definition() -> WorkflowDefinition:
    return parse_workflow(text=TEMPLATE, file="readers.yaml")


class Reports(list[tuple[str, str, str]]):
    def __call__(self, code: str, path: str, message: str) -> None:
        self.append((code, path, message))

    @property
    def codes(self) -> list[str]:
        return [code for code, _, _ in self]


@pytest.mark.parametrize(
    ("task", "condition"),
    [
        ("load", "tasks.extract.rows > 100 && item.quantity > 0"),
        ("load", "tasks.extract.note == null"),
        ("load", "order.total < 1000"),
        ("load", "timestamp(plan.created_at) < timestamp('2027-01-01T00:00:00Z')"),
        ("report", "tasks.load.loaded.exists(one, one == 0)"),
        ("report", "items.all(one, one.quantity > 0)"),
    ],
)
def test_conditions_over_what_is_at_hand_compile(
    definition: WorkflowDefinition, task: str, condition: str
) -> None:
    reports = Reports()
    readable = Readable.for_task(definition=definition, task=task, report=reports)
    compiled = readable.check_condition(condition, f"tasks.{task}.only_if")
    assert reports == []
    assert compiled is not None
    assert compiled.returns == "boolean"


@pytest.mark.parametrize(
    ("task", "condition", "code"),
    [
        ("load", "tasks.extract.rws > 100", "undeclared_output"),
        ("load", "tasks.extract.share > 0.5", "output_without_dependency"),
        ("load", "tasks.transform.rows > 100", "unknown_task"),
        ("load", "tasks.load.loaded > 100", "output_without_dependency"),
        ("load", "items.all(one, one.quantity > 0)", "reference_scope"),
        ("load", "element.id == 1", "expression_invalid"),
        ("load", "inputs.customer == 'C'", "expression_invalid"),
        ("load", "tasks.extract.rows", "expression_invalid"),
        ("load", "tasks.extract.rows >", "expression_invalid"),
        ("report", "item.quantity > 0", "reference_scope"),
        ("report", "tasks.load.loaded > 0", "expression_invalid"),
    ],
)
def test_conditions_over_anything_else_are_reported_with_their_path(
    definition: WorkflowDefinition, task: str, condition: str, code: str
) -> None:
    reports = Reports()
    readable = Readable.for_task(definition=definition, task=task, report=reports)
    assert readable.check_condition(condition, "tasks.it.only_if") is None
    assert [(code, path) for code, path, _ in reports] == [(code, "tasks.it.only_if")]


def test_elements_inputs_and_own_outputs_are_readable_where_they_are(
    definition: WorkflowDefinition,
) -> None:
    reports = Reports()
    limit = {"type": "integer", "optional": True}
    interface = Interface.model_validate({"inputs": {"customer": "object", "limit": limit}})
    readable = Readable.for_task(
        definition=definition.model_copy(update={"subprocess": interface}),
        task="load",
        report=reports,
        own_outputs=True,
        element=True,
    )
    readable.check_mapping(
        {
            "whole": ["${element}", "${element.id}", "${inputs.customer.id}", "${inputs.limit}"],
            "computed": "${element.id + inputs.limit + tasks.load.loaded}",
        },
        "input",
    )
    assert reports == []
    readable.check_mapping({"wrong": "${inputs.custmer}", "sum": "${inputs.custmer + 1}"}, "input")
    assert [(code, path) for code, path, _ in reports] == [
        ("reference_path", "input.wrong"),
        ("expression_invalid", "input.sum"),
    ]
    assert "did you mean inputs.customer?" in reports[1][2]


def test_before_any_task_neither_outputs_nor_the_plan_are_at_hand(
    definition: WorkflowDefinition,
) -> None:
    reports = Reports()
    readable = Readable(
        definition=definition, scope=Scope.ITEM, report=reports, outputs=None, plan=False
    )
    readable.check_mapping({"a": "${tasks.extract.rows}", "b": "${plan.created_at}"}, "input")
    readable.check_mapping({"c": "${tasks.extract.rows + 1}"}, "input")
    assert reports.codes == ["reference_root", "reference_root", "expression_invalid"]


def test_a_misspelt_output_in_an_expression_is_found_with_file_and_line() -> None:
    text = TEMPLATE.replace("tasks.extract.rows * 2", "tasks.extract.rws * 2")
    with pytest.raises(DefinitionInvalid) as caught:
        parse_workflow(text=text, file="readers.yaml")
    (fault,) = caught.value.faults
    line = 1 + text[: text.index("rws")].count("\n")
    assert str(fault).startswith(f"readers.yaml:{line} tasks.load.input.rows ")
    assert "extract declares no output 'rws' (it declares: rows, share, note)" in fault.message


def test_a_running_node_has_the_names_that_its_template_was_checked_with() -> None:
    graph = everything_for(2, 5)
    definition: dict[str, Any] = {node.task: node.index for node in graph.nodes}
    last = node_names(graph=graph, index=definition["last"])
    assert last["tasks.second.serial"].startswith("list(")
    assert last["items"] == "list(object)"
    assert "item.quantity" not in last
    assert node_names(graph=graph, index=definition["second"])["item.quantity"] == "integer"


def test_the_expressions_of_the_documentation_compile() -> None:
    text = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text()
    names = {
        **names_under(frozenset({"order", "item", "items", "plan", "element"})),
        "tasks.survey.slot": "string?",
        "tasks.check.passed": "boolean?",
    }
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    mapping, decisions = (yaml.safe_load(body) for kind, body in blocks if kind == "yaml")
    computed = [
        part.text
        for _, value in texts_in(mapping)
        for part in parse(value)
        if isinstance(part, Computed)
    ]
    conditions = [rule["when"] for rule in decisions["decide"] if "when" in rule]
    plain = [body for kind, body in blocks if not kind and "is not a valid" not in body]
    lines = [line for body in plain for line in body.splitlines()]
    assert (len(computed), len(conditions), len(lines)) == (4, 2, 3)
    for expression in computed + lines:
        compile_expression(text=expression, names=names)
    for condition in conditions:
        compile_condition(text=condition, names=names)


JOINED = """
workflow: joined
version: 1
title: Joined
fulfils: [{offering: thing, actions: [add]}]
billing_trigger: order_submit
tasks:
  sure: &command
    title: A command
    target: warehouse
    action: do
    outputs: {number: integer, checked: boolean}
    compensation: {none: Test.}
  skipped: {<<: *command, only_if: "item.quantity > 1"}
  ask:
    title: Ask
    manual:
      queue: approvals
      role: manager
      instructions: Look.
      outcomes: {"yes": proceed, later: proceed, "no": refuse}
      within: PT1H
      otherwise: "no"
  behind_yes: {<<: *command, depends_on: [{human: ask, outcomes: ["yes"]}]}
  behind_both: {<<: *command, depends_on: [{human: ask, outcomes: ["yes", later]}]}
  route:
    title: Route
    decide: [{when: "item.quantity > 1", create: [branch]}, {otherwise: []}]
  branch: *command
  after_branch: {<<: *command, depends_on: [{success: branch}]}
  first_join: {<<: *command, join: deferred, depends_on: [{success: branch}]}
  join:
    <<: *command
    join: deferred
    depends_on:
      - {output: sure.number}
      - {output: sure.checked}
      - {output: skipped.number}
      - {output: behind_yes.number}
      - {output: behind_both.number}
      - {output: branch.number}
      - {output: after_branch.number}
      - {output: first_join.number}
    only_if: "tasks.sure.checked"
    input:
      plain: ["${tasks.sure.number}", "${tasks.behind_both.number}", "${tasks.first_join.number}"]
      sum: "${tasks.sure.number + tasks.first_join.number}"
"""


def test_a_deferred_join_is_sure_of_what_no_decision_creates() -> None:
    definition = parse_workflow(text=json.dumps(yaml.safe_load(JOINED)), file="joined.yaml")
    readable = Readable.for_task(definition=definition, task="join", report=Reports())
    found = {
        name.split(".")[1]: spelled.endswith("?")
        for name, spelled in readable.names.items()
        if name.startswith("tasks.") and name.endswith(".number")
    }
    assert found == {
        "sure": False,
        "behind_both": False,
        "first_join": False,
        "skipped": True,
        "behind_yes": True,
        "branch": True,
        "after_branch": True,
    }
    graph = decompose(
        items=[ItemSelection(position=1, offering="thing", action="add", definition=definition)]
    )
    (join,) = (node.index for node in graph.nodes if node.task == "join")
    running = node_names(graph=graph, index=join)
    assert {name: running[name] for name in readable.names} == dict(readable.names)
