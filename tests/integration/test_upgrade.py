"""Orders in flight go on after the migration to holds, limits and cases."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

from django.conf import settings
from django.db import connection

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.work.audit import verify
from fulfillment.models import Attempt, HoldScope, TargetCondition, Task
from oms.models import Asset, Order, PendingAsset
from tests import desk
from tests.conftest import CHECKOUT, OWNER_URL, _use, _with_database
from tests.desk import ScriptedSystems, by


def migrate(database: str, *what: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0", *what],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "DATABASE_URL": _with_database(OWNER_URL, database),
            "OMS_SECRET_KEY": settings.SECRET_KEY,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_orders_in_flight_survive_the_migration(
    committed_db: str, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    # Its lease has to outlast the migrations.
    one = desk.task(timeouts={"call": "PT5M"})
    desk.workflow({"one": one, "two": desk.task(after=["one"])})
    orders = [desk.order(customer_id="C-9") for _ in range(6)]
    systems.sends["one"] = [desk.succeeded()]
    claims = desk.claim(limit=5)
    desk.settle(desk.result(claims[0], desk.succeeded()))
    desk.settle(desk.result(claims[1], desk.accepted()))
    desk.settle(desk.result(claims[2], desk.unknown()))
    desk.settle(desk.result(claims[3], desk.failed()))
    # claims[4] stays open: its worker is on its own.
    name = str(connection.settings_dict["NAME"])
    _use(name)
    migrate(name, "oms", "0002")
    migrate(name, "fulfillment", "0003")
    migrate(name)
    _use(name)
    assert set(Attempt.objects.values_list("target_id", flat=True)) == {"alpha"}
    assert TargetCondition.objects.get(target_id="alpha").breaker == "CLOSED"
    hold = operations.place_hold(
        scope=HoldScope.CUSTOMER, name="C-9", reason="x", actor=by("x"), patience=timedelta(0)
    )
    assert hold.in_flight == 1
    assert all(claim.purpose == "QUERY" for claim in desk.claim(limit=10))
    assert hold.hold_id is not None
    operations.release_hold(hold_id=hold.hold_id, reason="x", actor=by("x"))
    desk.settle(desk.result(claims[1], desk.succeeded(), attempt_id=None, attempt_number=None))
    with connection.cursor() as raw:
        raw.execute("SELECT set_config('fulfillment.clock_offset', '100000', false)")
    for _ in range(6):
        sweeping.sweep()
        scanning.scan()
        desk.drain()
        desk.advance(600)
    assert {str(o.state) for o in Order.objects.all()} == {"COMPLETED"}, list(
        Task.objects.values_list("key", "state", "blocked_reason")
    )
    # What was under way before there was an installed base is in it as well.
    assert set(Asset.objects.values_list("asset_id", "state")) == {
        (f"{o.reference}-1", "ACTIVE") for o in orders
    }
    assert not PendingAsset.objects.exists()
    for o in orders:
        assert verify(fulfillment_id=o.fulfillment_id) == []
    with connection.cursor() as raw:
        raw.execute("SELECT set_config('fulfillment.clock_offset', '0', false)")
