"""What a template computes is refused when it is published, if it can be known to be of no use."""

from __future__ import annotations

import pytest

from fulfillment.definitions.clocks import seconds_of
from fulfillment.definitions.loading import parse_workflow
from fulfillment.errors import DefinitionInvalid

TEMPLATE = """\
workflow: lamp
version: 1
title: Lamp
fulfils: [{{offering: lamp, actions: [add]}}]
billing_trigger: shipment
{top}
tasks:
  begin:
    title: Begin
    target: alpha
    action: begin
    outputs: {{n: number, o: object, s: string}}
    compensation: {{none: Nothing to undo.}}
  one:
    title: One
    target: alpha
    action: one
    depends_on: [{{output: begin.n}}, {{output: begin.o}}, {{output: begin.s}}]
    compensation: {{none: Nothing to undo.}}
    {task}
"""
DECISION = """\
workflow: lamp
version: 1
title: Lamp
fulfils: [{{offering: lamp, actions: [add]}}]
billing_trigger: shipment
tasks:
  route:
    title: Route
    decide:
      - {{when: {first!r}, create: [one]}}
      - {{when: {second!r}, create: [two]}}
      - {{otherwise: []}}
  one: {{title: One, target: alpha, action: one, compensation: {{none: Nothing.}}}}
  two: {{title: Two, target: alpha, action: two, compensation: {{none: Nothing.}}}}
"""


def faults_of(text: str) -> list[tuple[str, str, int | None]]:
    try:
        parse_workflow(text=text, file="v1.yaml")
    except DefinitionInvalid as invalid:
        return [(fault.code, fault.path, fault.line) for fault in invalid.faults]
    return []


def with_top(text: str) -> list[tuple[str, str, int | None]]:
    return faults_of(TEMPLATE.format(top=text, task=""))


def with_task(text: str) -> list[tuple[str, str, int | None]]:
    return faults_of(TEMPLATE.format(top="", task=text))


@pytest.mark.parametrize(
    "clock",
    [
        "${plan.in_jeopardy}",
        "${order.customer}",
        "${item.place}",
        "${tasks.begin.o}",
        "${[1]}",
        "${'soon'}",
        "${'PT0S'}",
        "${-5 + 0}",
        "${1 - 1}",
        "${0.0001 * 1.0}",
        "${366 * 86400 + 1}",
        "${9223372036854775807 - 1}",
        "${plan.in_jeopardy ? 10 : -5}",
        "${plan.in_jeopardy ? 'P1Y' : 'P1D'}",
        "${timestamp('2026-01-01T00:00:00Z')}",
    ],
)
def test_a_clock_that_comes_to_no_time_is_refused(clock: str) -> None:
    expected = [("definition.clock", "tasks.one.timeouts.call", 20)]
    assert with_task(f'timeouts: {{call: "{clock}"}}') == expected


@pytest.mark.parametrize(
    "clock",
    [
        "${plan.in_jeopardy ? 10 : 30}",
        "${plan.in_jeopardy ? 'PT10S' : 'P1D'}",
        "${0.5 + 0.0}",
        "${order.priority * 2 + 60}",
        "${item.characteristics.patience}",
        "${tasks.begin.n}",
        "${tasks.begin.s}",
        "${item.asset}",
    ],
)
def test_a_clock_that_may_be_a_time_is_not(clock: str) -> None:
    assert with_task(f'timeouts: {{call: "{clock}"}}') == []


@pytest.mark.parametrize(
    "priority",
    [
        "${order.region}",
        "${order.total?}",
        "${order.customer}",
        "${items.quantity}",
        "${items}",
        "${items.0.price.one_off?}",
        "${plan.in_jeopardy}",
        "${double(order.priority)}",
        "p${order.priority}",
    ],
)
def test_a_priority_that_is_no_whole_number_is_refused(priority: str) -> None:
    """Silently ignoring it would make every order of the workflow equal."""
    assert with_top(f'priority: "{priority}"') == [("definition.priority", "priority", 6)]


@pytest.mark.parametrize(
    "priority",
    ["${order.priority}", "${items.0.quantity}", "${items.0.place.rank}", "${size(items)}"],
)
def test_a_priority_that_may_be_one_is_not(priority: str) -> None:
    assert with_top(f'priority: "{priority}"') == []


@pytest.mark.parametrize(
    "key",
    ["${order.total?}", "${order.customer}", "${item}", "${[1]}", "${order.region == 'x'}"],
)
def test_a_lock_on_what_is_no_key_is_refused(key: str) -> None:
    locks = f'locks: [{{resource: r, key: "{key}"}}]'
    assert with_top(locks) == [("definition.lock_key", "locks[0].key", 6)]
    assert with_task(locks) == [("definition.lock_key", "tasks.one.locks[0].key", 20)]


@pytest.mark.parametrize(
    "key",
    ["x", "${item.place.id?}", "${item.asset?}", "${order.id}", "${item.position}", "a${order.id}"],
)
def test_a_lock_on_what_may_be_one_is_not(key: str) -> None:
    locks = f'locks: [{{resource: r, key: "{key}"}}]'
    assert with_top(locks) == []
    assert with_task(locks) == []


@pytest.mark.parametrize(
    ("first", "second", "at"),
    [
        ("true", "order.priority > 1", 0),
        ("1 + 1 == 2", "order.priority > 1", 0),
        ("order.priority > 1", "false", 1),
        ("order.priority > 1", "order.priority > 1", 1),
    ],
)
def test_a_rule_that_hides_another_or_never_decides_is_refused(
    first: str, second: str, at: int
) -> None:
    found = faults_of(DECISION.format(first=first, second=second))
    assert found == [("definition.rule_unreachable", f"tasks.route.decide[{at}].when", 10 + at)]
    assert faults_of(DECISION.format(first="order.priority > 1", second="order.priority > 0")) == []


@pytest.mark.parametrize(
    "value", [0, -1, 1e-9, float("nan"), float("inf"), 10**400, True, None, [], "x", "PT0S"]
)
def test_no_time_is_no_time_while_an_order_runs_either(value: object) -> None:
    with pytest.raises(ValueError, match=r"is no time|is not a duration|must be longer"):
        seconds_of(value)


@pytest.mark.parametrize(("value", "seconds"), [(1, 1.0), (0.001, 0.001), ("PT1M", 60)])
def test_seconds_and_iso_8601_are_times(value: object, seconds: float) -> None:
    assert seconds_of(value) == seconds
