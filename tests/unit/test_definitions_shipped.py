"""The shipped workflows and the sample orders."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulfillment.definitions.amounts import amount_of
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.loading import load_workflow
from fulfillment.definitions.references import resolve
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.scopes import node_names, node_scope
from fulfillment.definitions.steps import CommandSpec, Scope
from fulfillment.definitions.undo_specs import CompensationSpec, NoCompensation
from tests.unit.payloads import node_input

ROOT = Path(__file__).parents[2]
TARGETS = dict.fromkeys(
    yaml.safe_load((ROOT / "examples" / "targets" / "sandbox.yaml").read_text())["targets"]
)
TEMPLATES = sorted((ROOT / "templates" / "workflows").glob("*/v*.yaml"))
EXAMPLES = sorted((ROOT / "examples" / "orders").glob("*.json"))
_HOLDS = (
    *("create", "reserve", "assign", "activate", "process", "update"),
    *("authorise", "capture", "record", "set_", "refund"),
)
SAMPLE_VALUES: dict[str, Any] = {"string": "S", "integer": 1, "number": 1.5, "boolean": True}


def shipped(name: str) -> WorkflowDefinition:
    path = ROOT / "templates" / "workflows" / name / "v1.yaml"
    return load_workflow(path=path, targets=TARGETS)


def pairs(definition: WorkflowDefinition) -> set[tuple[str, str]]:
    return {
        (dependency.task, name)
        for name, task in definition.tasks.items()
        for dependency in task.depends_on
    }


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_workflow_is_valid_and_named_like_its_file(path: Path) -> None:
    definition = load_workflow(path=path, targets=TARGETS)
    assert (path.parent.name, path.stem) == (definition.name, f"v{definition.version}")


def test_the_contact_center_has_exactly_the_edges_of_its_design() -> None:
    assert pairs(shipped("cloud-contact-center")) == {
        ("create_tenant", "assign_licenses"),
        ("create_tenant", "configure_recording_retention"),
        ("reserve_phone_numbers", "activate_entitlement"),
        ("assign_licenses", "activate_entitlement"),
        ("configure_recording_retention", "activate_entitlement"),
        ("activate_entitlement", "activate_billing"),
        ("activate_billing", "update_installed_base"),
        ("update_installed_base", "notify_customer"),
    }


def test_billing_on_milestone_the_contact_center_bills_after_activation_only() -> None:
    definition = shipped("cloud-contact-center")
    assert definition.billing_trigger == "service_activation"
    assert definition.milestones["service_active"].reached_by == "activate_entitlement"
    assert ("activate_entitlement", "activate_billing") in pairs(definition)


@pytest.mark.parametrize("name", ["cloud-contact-center", "ecommerce-order"])
def test_billing_on_milestone_is_declared_by_the_newest_version(name: str) -> None:
    newest = max((ROOT / "templates" / "workflows" / name).glob("v*.yaml"), key=_number)
    assert load_workflow(path=newest, targets=TARGETS).billing is not None


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("v"))


def test_the_shop_reserves_and_charges_in_parallel_and_ships_after_both() -> None:
    definition = shipped("ecommerce-order")
    assert pairs(definition) == {
        ("validate_order", "check_inventory"),
        ("check_inventory", "reserve_inventory"),
        ("validate_order", "process_payment"),
        ("reserve_inventory", "ship_order"),
        ("process_payment", "ship_order"),
        ("ship_order", "send_confirmation"),
    }
    once = {name for name, task in definition.tasks.items() if task.scope is Scope.ORDER}
    assert once == {"validate_order", "process_payment", "ship_order", "send_confirmation"}
    assert definition.retry_policy(definition.tasks["ship_order"]).maximum_attempts == 1
    assert definition.tasks["ship_order"].irreversible


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_holds_a_resource_or_money_can_be_undone(path: Path) -> None:
    for name, task in load_workflow(path=path).tasks.items():
        if not isinstance(task, CommandSpec) or task.irreversible:
            continue
        if name.startswith(_HOLDS):
            assert isinstance(task.compensation, CompensationSpec), name
        elif path.parent.name in ("ecommerce-order", "cloud-contact-center"):
            assert isinstance(task.compensation, NoCompensation), name


def planned(order: dict[str, Any]) -> Graph:
    chosen = {
        selector: definition
        for path in TEMPLATES
        for definition in [load_workflow(path=path)]
        for selector in definition.selectors
    }
    return decompose(
        items=[
            ItemSelection(
                position=position,
                offering=item["offering"],
                action=item["action"],
                definition=chosen[item["offering"], item["action"]],
            )
            for position, item in enumerate(order["items"], start=1)
            if item["action"] != "no_change"
        ]
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_input_of_a_sample_order_resolves(path: Path) -> None:
    order = json.loads(path.read_text())
    graph = planned(order)
    assert validate_graph(graph, TARGETS) == []
    absent = {"id": "o-1", "version": 1, "requested_at": None, "promised_at": None}
    snapshot = {**absent, **{name: order[name] for name in order if name != "items"}}
    empty: dict[str, Any] = {"characteristics": {}, "price": {}, "place": {}, "asset": None}
    items = {
        position: {**empty, **item, "position": position}
        for position, item in enumerate(order["items"], start=1)
    }
    outputs = {
        node.index: {name: SAMPLE_VALUES[output.type] for name, output in node.outputs.items()}
        for node in graph.nodes
    }
    for node in graph.nodes:
        payload = node_input(
            graph=graph, index=node.index, order=snapshot, items=items, outputs=outputs
        )
        assert set(payload) == set(node.input)
        assert "${" not in json.dumps(payload)


def amounts(sample: str, task: str) -> list[Decimal]:
    """What the refunds and costs of a task of a sample order come to."""
    order = json.loads((ROOT / "examples" / "orders" / f"{sample}.json").read_text())
    graph = planned(order)
    empty: dict[str, Any] = {"characteristics": {}, "price": {}, "place": {}, "asset": None}
    items = {
        position: {**empty, **item, "position": position}
        for position, item in enumerate(order["items"], start=1)
    }
    found = []
    for node in graph.nodes:
        if node.task == task:
            texts = [undo.refund for undo in node.compensations]
            texts += [node.point_of_no_return.cost] if node.point_of_no_return else []
            scope = node_scope(graph=graph, index=node.index, order=order, items=items, outputs={})
            names = node_names(graph=graph, index=node.index, plan=False)
            found += [amount_of(resolve(text, scope, names=names)) for text in texts if text]
    return found


@pytest.mark.parametrize(
    ("sample", "task", "expected"),
    [
        ("webshop-single", "process_payment", ["258.00"]),
        ("webshop-basket", "process_payment", ["3704.00"]),
        ("contact-center-with-headsets", "process_payment", ["3728.00"]),
        ("payment-pipeline/card", "capture", ["249.90"]),
        ("broadband/with-router", "ship_router", ["9.90"]),
        ("broadband/with-router", "install", ["79.00"]),
    ],
)
def test_what_is_paid_back_and_what_giving_up_costs(
    sample: str, task: str, expected: list[str]
) -> None:
    assert amounts(sample, task) == [Decimal(amount) for amount in expected]


def test_the_sample_orders_cover_one_item_several_items_and_both_workflows() -> None:
    bodies = {path.stem: json.loads(path.read_text()) for path in EXAMPLES}
    assert len({body["external_id"] for body in bodies.values()}) == len(EXAMPLES) >= 6
    shapes = {
        (len(body["items"]) > 1, frozenset(w.name for w in planned(body).workflows))
        for body in bodies.values()
    }
    one, shop = frozenset({"cloud-contact-center"}), frozenset({"ecommerce-order"})
    assert {(False, one), (True, one), (False, shop), (True, shop), (True, one | shop)} <= shapes


def test_the_same_basket_shape_shares_one_graph_whatever_it_costs() -> None:
    order = json.loads((ROOT / "examples" / "orders" / "webshop-basket.json").read_text())
    dearer = json.loads(json.dumps(order).replace("899.00", "999.00"))
    assert dearer != order
    assert planned(dearer).sha256 == planned(order).sha256
