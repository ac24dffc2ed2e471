"""Rules about who gets which cases: written by an operation, used when a case is opened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.store import routing
from fulfillment.errors import CalendarUnknown, Denied, NotPossible, RuleInvalid, SubjectUnknown
from fulfillment.models import CaseCategory, FalloutCase, Operation, RoutingRule, Severity
from tests import desk, people
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    routing.forget()
    yield
    routing.forget()


def edit(name: str = "mapping", **parameters: Any) -> operations.Done:
    return operations.perform(
        actor=people.anybody("rita", Action.ROUTING_EDIT),
        request=operations.Request(
            action=Action.ROUTING_EDIT,
            subject=f"routing:{name}",
            reason="they know it best",
            parameters=parameters,
        ),
    )


def way(reason_code: str = "no_mapping", **values: Any) -> routing.Route:
    return routing.route(
        **{
            "category": CaseCategory.REFUSED,
            "target": "provisioning",
            "action": "create",
            "severity": Severity.MEDIUM,
            **values,
        },
        reason_code=reason_code,
    )


def a_case(systems: ScriptedSystems, code: str) -> FalloutCase:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected(code)]
    order = desk.order()
    desk.drain()
    return FalloutCase.objects.get(fulfillment=order.fulfillment_id)


def test_without_rules_a_case_goes_as_is_usual_for_its_category() -> None:
    assert (way().owner_queue, way().within, way().calendar) == (
        "operations",
        timedelta(hours=4),
        "",
    )


@pytest.mark.parametrize("category", CaseCategory)
def test_every_category_has_somebody_who_sees_to_it(category: CaseCategory) -> None:
    assert way(category=category).owner_queue


def test_a_case_goes_where_the_first_rule_that_fits_says(systems: ScriptedSystems) -> None:
    edit(reason_code="no_map*", owner_queue="catalog-ops", severity="HIGH", sla="PT1H", role="lead")
    case = a_case(systems, "no_mapping")
    assert (case.owner_queue, case.severity, case.role) == ("catalog-ops", "HIGH", "lead")
    assert case.sla_due_at - case.opened_at == timedelta(hours=1)
    assert way("other").owner_queue == "operations"


def test_the_lowest_position_is_looked_at_first() -> None:
    edit("general", position=20, target="prov*", owner_queue="supply")
    edit("special", position=10, target="provisioning", action="create", owner_queue="catalog-ops")
    assert way().owner_queue == "catalog-ops"
    assert way(action="delete").owner_queue == "supply"
    edit("special", position=30, target="provisioning", action="create", owner_queue="catalog-ops")
    assert way().owner_queue == "supply"


def test_a_rule_that_is_removed_counts_no_more() -> None:
    edit(owner_queue="catalog-ops")
    assert way().owner_queue == "catalog-ops"
    edit(remove=True)
    assert way().owner_queue == "operations"
    with pytest.raises(NotPossible, match="no rule"):
        edit(remove=True)


def test_a_change_of_a_rule_leaves_a_record(systems: ScriptedSystems) -> None:
    edit(owner_queue="catalog-ops")
    edit(owner_queue="supply")
    record = Operation.objects.filter(kind="edit_routing").latest("pk")
    assert (record.actor, record.reason) == ("rita", "they know it best")
    assert (record.before["owner_queue"], record.after["owner_queue"]) == ("catalog-ops", "supply")
    with pytest.raises(NotPossible, match="already"):
        edit(owner_queue="supply")


def test_who_may_not_writes_no_rule() -> None:
    with pytest.raises(Denied):
        operations.perform(
            actor=people.anybody("nora", Action.CASE_ASSIGN),
            request=operations.Request(
                action=Action.ROUTING_EDIT,
                subject="routing:mapping",
                reason="x",
                parameters={"owner_queue": "mine"},
            ),
        )
    assert not RoutingRule.objects.exists()
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("name", "parameters", "error"),
    [
        ("Not A Name", {"owner_queue": "q"}, SubjectUnknown),
        ("rule", {}, RuleInvalid),
        ("rule", {"owner_queue": "q", "sla": "PT0S"}, RuleInvalid),
        ("rule", {"owner_queue": "q", "category": "NONE"}, RuleInvalid),
        ("rule", {"owner_queue": "q", "calendar": "none"}, CalendarUnknown),
    ],
)
def test_what_can_not_be_used_is_refused(
    name: str, parameters: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        edit(name, **parameters)
    assert not RoutingRule.objects.exists()


def test_cases_that_are_open_stay_where_they_are(systems: ScriptedSystems) -> None:
    case = a_case(systems, "no_mapping")
    edit(owner_queue="catalog-ops")
    case.refresh_from_db()
    assert case.owner_queue == "operations"
