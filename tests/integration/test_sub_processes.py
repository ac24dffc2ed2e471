"""Composition: a template uses another as a sub-process."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.errors import DefinitionInvalid
from fulfillment.publishing import publish
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def sub_process(
    tasks: dict[str, Any], name: str = "account", version: int = 1, **face: Any
) -> None:
    publish(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": name,
                "version": version,
                "title": "A sub-process",
                "subprocess": face,
                "tasks": {
                    key: {"action": key, **spec} if "target" in spec else spec
                    for key, spec in tasks.items()
                },
            }
        ),
        published_by="a test",
    )


def account(version: int = 1, action: str = "create") -> None:
    sub_process(
        {
            action: desk.task(input={"name": "${inputs.name}"}, outputs={"id": "string"}),
            "verify": desk.task(
                depends_on=[{"output": f"{action}.id"}], input={"id": f"${{tasks.{action}.id}}"}
            ),
            "extra": desk.task(after=[action], required=False),
        },
        version=version,
        inputs={"name": "string", "note": {"type": "string", "optional": True}},
        outputs={"id": {"type": "string", "value": f"${{tasks.{action}.id}}"}},
    )


def register(**more: Any) -> dict[str, Any]:
    return {
        "check": desk.task(outputs={"name": "string"}),
        "account": desk.step(
            use="account",
            depends_on=[{"output": "check.name"}],
            input={"name": "${tasks.check.name}"},
            outputs={"id": "string"},
            **more,
        ),
        "welcome": desk.task(
            depends_on=[{"output": "account.id"}], input={"id": "${tasks.account.id}"}
        ),
    }


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "scanner"])
def test_a_sub_process_takes_inputs_and_hands_back_outputs(
    systems: ScriptedSystems, settings: Any, fast_path: bool
) -> None:
    settings.OMS_FAST_PATH = fast_path
    desk.target("alpha")
    account()
    desk.workflow(register())
    systems.sends["check"] = [desk.succeeded(name="Ann")]
    systems.sends["create"] = [desk.succeeded(id="A-7")]
    order = desk.order()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    payloads = {command.action: dict(command.payload) for command in systems.sent}
    assert payloads["create"] == {"name": "Ann"}
    assert payloads["verify"] == {"id": "A-7"}
    assert payloads["welcome"] == {"id": "A-7"}
    assert {"account/create@1", "account/verify@1", "account@1"} <= set(desk.states_of(order))


def test_an_optional_task_of_it_that_fails_keeps_nobody(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    account()
    desk.workflow(register())
    systems.sends["check"] = [desk.succeeded(name="Ann")]
    systems.sends["create"] = [desk.succeeded(id="A-7")]
    systems.sends["extra"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_version_pinned_an_order_keeps_the_sub_process_that_it_was_planned_with(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    account()
    desk.workflow(register())
    systems.sends["check"] = [desk.succeeded(name="Ann"), desk.succeeded(name="Bob")]
    systems.sends["create"] = [desk.succeeded(id="A-7")]
    systems.sends["make"] = [desk.succeeded(id="A-8")]
    first = desk.order()
    account(version=2, action="make")
    second = desk.order()
    desk.finish()
    assert "account/create@1" in desk.states_of(first)
    assert "account/make@1" in desk.states_of(second)


def test_it_may_run_for_each_element_of_a_list(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    account()
    tasks = register()
    tasks["check"] = desk.task(outputs={"names": "list"})
    tasks["account"] = desk.step(
        use="account",
        depends_on=[{"output": "check.names"}],
        for_each={"over": "${tasks.check.names}", "at_once": 2, "tolerate": 0.4},
        input={"name": "${element}"},
        outputs={"id": "string"},
    )
    desk.workflow(tasks)
    systems.sends["check"] = [desk.succeeded(names=["a", "b", "c"])]
    systems.sends["create"] = [
        desk.succeeded(id="A-1"),
        desk.rejected(),
        desk.succeeded(id="A-3"),
    ]
    order = desk.order()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    payloads = [dict(one.payload) for one in systems.sent if one.action == "welcome"]
    assert payloads == [{"id": ["A-1", "A-3"]}]
    states = desk.states_of(order)
    assert states["account/create@1[2]"] == "FAILED_FINAL"
    assert states["account/verify@1[2]"] == "SKIPPED_BY_POLICY"


def test_branches_within_an_element_are_its_own(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    sub_process(
        {
            "route": desk.step(
                decide=[{"when": "inputs.size > 5", "create": ["big"]}, {"otherwise": ["small"]}]
            ),
            "big": desk.task(),
            "small": desk.task(),
        },
        inputs={"size": "integer"},
    )
    desk.workflow(
        {
            "each": desk.step(
                use="account",
                for_each={"over": "${item.characteristics.sizes}"},
                input={"size": "${element}"},
            ),
            "end": desk.task(after=["each"]),
        }
    )
    order = desk.order(desk.item(characteristics={"sizes": [1, 9]}))
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    keys = {key for key in desk.states_of(order) if "big" in key or "small" in key}
    assert keys == {"each/small@1[1]", "each/big@1[2]"}


def test_a_sub_process_may_be_a_branch_and_its_joins_exist_only_with_it(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    sub_process(
        {
            "route": desk.step(decide=[{"otherwise": ["small"]}]),
            "small": desk.task(),
            "joined": desk.task(after=["small"], join="deferred", outputs={"id": "string"}),
        },
        outputs={"id": {"type": "string", "value": "${tasks.joined.id}"}},
    )
    desk.workflow(
        {
            "way": desk.step(
                decide=[{"when": "item.quantity > 5", "create": ["sub"]}, {"otherwise": []}]
            ),
            "sub": desk.step(use="account", outputs={"id": "string"}),
            "end": desk.task(
                depends_on=[{"output": "sub.id"}],
                join="deferred",
                input={"id": "${tasks.sub.id?}"},
            ),
        }
    )
    systems.sends["joined"] = [desk.succeeded(id="A-7")]
    for quantity, tasks in ((1, set()), (6, {"sub/joined@1", "sub/small@1", "sub@1"})):
        order = desk.order(desk.item(quantity=quantity))
        desk.finish()
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        inside = {key for key in desk.states_of(order) if key.startswith("sub")}
        assert inside == (tasks | {"sub~inputs@1", "sub/route@1"} if tasks else set())
    assert [command.payload for command in systems.sent if command.action == "end"] == [
        {"id": None},
        {"id": "A-7"},
    ]


def test_a_sub_process_that_nobody_published_is_refused_by_name(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    with pytest.raises(DefinitionInvalid, match="no published sub-process 'account'"):
        desk.workflow(register())


def test_what_does_not_fit_its_interface_is_refused(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    account()
    tasks = register()
    tasks["account"]["input"] = {"nam": "x"}
    tasks["account"]["outputs"] = {"id": "integer", "size": "string"}
    with pytest.raises(DefinitionInvalid) as caught:
        desk.workflow(tasks)
    assert {fault.code for fault in caught.value.faults} >= {
        "definition.unknown_input",
        "definition.input_missing",
        "definition.output_type",
        "definition.undeclared_output",
    }


def test_fan_outs_are_not_nested(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    sub_process({"each": desk.task(for_each={"over": "${inputs.list}"})}, inputs={"list": "list"})
    with pytest.raises(DefinitionInvalid, match="not nested"):
        desk.workflow(
            {
                "all": desk.step(
                    use="account",
                    for_each={"over": "${item.characteristics.lists}"},
                    input={"list": "${element}"},
                )
            }
        )
