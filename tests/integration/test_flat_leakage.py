"""The leakage detector reads what is due, however much is billed or still in time beside it."""

from __future__ import annotations

import itertools
import json
import re
from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from fulfillment.engine.store.database import cursor, pin_plans
from oms import leakage
from oms.models import BillingMatch, OrderItem
from tests import desk
from tests.conftest import OWNER_URL, _with_database
from tests.desk import ScriptedSystems
from tests.integration.test_flat_detectors import explained, nodes
from tests.integration.test_plans_by_index import plan_of

COPIES = 5000


@pytest.fixture
def many_matches(committed_db: str, systems: ScriptedSystems) -> None:
    """Thousands that are billed, thousands that are still in time, and one that is due."""
    desk.target("alpha")
    desk.workflow(
        {"activate": desk.task(), "bill": desk.task(after=["activate"])},
        activation="activate",
        billing={"task": "bill", "milestone": "active"},
        milestones={"active": {"title": "Active", "reached_by": "activate"}},
    )
    systems.sends["bill"] = [desk.rejected()] * 3
    desk.order(desk.item(), desk.item(item_id="2"), desk.item(item_id="3"))
    desk.drain()
    desk.advance(5 * 3600)
    due, _, billed = BillingMatch.objects.order_by("pk")
    BillingMatch.objects.exclude(pk=due.pk).update(due_at=desk.now() + timedelta(hours=1))
    BillingMatch.objects.filter(pk=billed.pk).update(billed_at=desk.now(), due_at=None)
    with cursor() as raw:
        for model in (OrderItem, BillingMatch):
            names = [f'"{field.attname}"' for field in model._meta.concrete_fields if field.column]
            moved = {'"id"': "id + n * 3", '"item_id"': "item_id", '"position"': "position + n * 3"}
            if model is BillingMatch:
                moved['"item_id"'] = "item_id + n * 3"
            source = f"{model._meta.db_table} r, generate_series(1, {COPIES}) n"
            key = "id" if model is OrderItem else "item_id"
            values = ", ".join(moved.get(name, name) for name in names)
            raw.execute(
                f"INSERT INTO {model._meta.db_table} ({', '.join(names)}) "
                f"SELECT {values} FROM {source} WHERE {key} <> {due.pk}"
            )
    with psycopg.connect(
        _with_database(OWNER_URL, str(connection.settings_dict["NAME"])), autocommit=True
    ) as owner:
        owner.execute("VACUUM ANALYZE")


@pytest.mark.usefixtures("many_matches")
def test_whoever_is_in_time_or_billed_is_not_even_looked_at() -> None:
    assert BillingMatch.objects.count() == 2 * COPIES + 3
    for pinned in (False, True):
        if pinned:
            pin_plans()
        found = list(nodes(explained(leakage._DUE, ["-infinity", 0])))
        read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in found)
        assert read < 20, (pinned, json.dumps(found[0], indent=1))
        assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    with cursor() as raw:
        numbers = itertools.count(1)
        noting = plan_of(raw, re.sub("%s", lambda _: f"${next(numbers)}", leakage._NOTE))
    assert "Seq Scan" not in noting
    assert "Hash" not in noting
    assert leakage.find_leaks() == 1
    assert leakage.find_leaks() == 0
