"""billing-on-milestone: a template whose billing could start before its trigger is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.definitions.billing import Step, trigger_fault, upstream
from fulfillment.definitions.schema import BillingTrigger, WorkflowDefinition
from fulfillment.definitions.validation import validate


def definition(after: dict[str, list[str]], **more: Any) -> WorkflowDefinition:
    """Tasks by what each waits for; `bill` bills and `active` is reached by `activate`."""
    return WorkflowDefinition.model_validate(
        {
            "workflow": "w",
            "version": 1,
            "title": "W",
            "fulfils": [{"offering": "thing", "actions": ["add"]}],
            "billing_trigger": "service_activation",
            "billing": {"task": "bill", "milestone": "active"},
            "milestones": {"active": {"title": "Active", "reached_by": "activate"}},
            "tasks": {
                name: {
                    "title": name,
                    "target": "alpha",
                    "action": name,
                    "depends_on": [{"success": one} for one in waits],
                    "compensation": {"none": "A test."},
                }
                for name, waits in after.items()
            },
            **more,
        }
    )


def faults(checked: WorkflowDefinition) -> list[tuple[str, str]]:
    return [(fault.code.removeprefix("definition."), fault.path) for fault in validate(checked)]


def test_billing_on_milestone() -> None:
    behind = {"activate": [], "settle": ["activate"], "bill": ["settle"]}
    assert faults(definition(behind)) == []
    for beside in (
        {"activate": [], "bill": []},
        {"bill": [], "activate": ["bill"]},
        {"start": [], "activate": ["start"], "bill": ["start"]},
    ):
        assert faults(definition(beside)) == [("billing_before_milestone", "billing.task")]


def test_the_billing_task_can_not_reach_its_own_milestone() -> None:
    own = definition({"bill": []}, milestones={"active": {"title": "Active", "reached_by": "bill"}})
    assert faults(own) == [("billing_before_milestone", "billing.task")]


@pytest.mark.parametrize("trigger", ["shipment", "installation_complete", "service_activation"])
def test_these_triggers_need_a_milestone(trigger: str) -> None:
    found = definition(
        {"activate": [], "bill": ["activate"]}, billing_trigger=trigger, billing={"task": "bill"}
    )
    assert faults(found) == [("billing_before_milestone", "billing.milestone")]


def test_at_order_submission_billing_waits_for_nothing() -> None:
    found = definition(
        {"activate": [], "bill": []}, billing_trigger="order_submit", billing={"task": "bill"}
    )
    assert faults(found) == []


def test_a_date_and_a_person_have_to_be_waited_for() -> None:
    tasks = {"activate": [], "bill": ["activate"]}
    for trigger in ("contract_effective_date", "manual_verification"):
        found = definition(tasks, billing_trigger=trigger, billing={"task": "bill"})
        assert faults(found) == [("billing_before_milestone", "billing.task")]


def test_names_have_to_exist() -> None:
    tasks = {"activate": [], "bill": ["activate"]}
    assert faults(definition(tasks, billing={"task": "pay"})) == [("unknown_task", "billing.task")]
    assert faults(definition(tasks, billing={"task": "bill", "milestone": "live"})) == [
        ("unknown_milestone", "billing.milestone")
    ]


STEPS = {
    "sign": Step(is_manual=True),
    "wait": Step(after=frozenset({"sign"}), waits_for_time=True),
    "bill": Step(after=frozenset({"wait"})),
    "alone": Step(),
    "waits": Step(waits_for_time=True),
    "decides": Step(is_manual=True),
}


@pytest.mark.parametrize(
    ("trigger", "task", "right"),
    [
        ("contract_effective_date", "bill", True),
        ("contract_effective_date", "waits", True),
        ("contract_effective_date", "alone", False),
        ("manual_verification", "bill", True),
        ("manual_verification", "alone", False),
        # A person who decides about billing does so before it, not with it.
        ("manual_verification", "decides", False),
        ("order_submit", "alone", True),
    ],
)
def test_what_is_certainly_behind_a_task_decides(trigger: str, task: str, right: bool) -> None:
    member, _ = trigger_fault(
        trigger=trigger, task=task, milestone=None, reached_by="", steps=STEPS
    )
    assert (member == "") is right
    assert trigger in set(BillingTrigger)


def test_what_may_be_skipped_is_not_certain() -> None:
    for skipped in (True, False):
        steps = {
            "activate": Step(may_be_skipped=skipped),
            "bill": Step(after=frozenset({"activate"})),
        }
        member, _ = trigger_fault(
            trigger="service_activation",
            task="bill",
            milestone="active",
            reached_by="activate",
            steps=steps,
        )
        assert (member == "task") is skipped


def test_cycles_and_unknown_tasks_end_the_search() -> None:
    steps = {"a": Step(after=frozenset({"b", "nobody"})), "b": Step(after=frozenset({"a"}))}
    assert upstream(steps=steps, of="a") == {"a", "b"}


def test_activation_names_a_task_or_a_milestone() -> None:
    tasks = {"activate": [], "bill": ["activate"]}
    for name in ("activate", "active"):
        assert faults(definition(tasks, activation=name)) == []
    assert faults(definition(tasks, activation="live")) == [("unknown_task", "activation")]
    twofold = definition(
        tasks,
        activation="bill",
        milestones={
            "active": {"title": "Active", "reached_by": "activate"},
            "bill": {"title": "Bill", "reached_by": "activate"},
        },
    )
    assert faults(twofold) == [("ambiguous_activation", "activation")]
