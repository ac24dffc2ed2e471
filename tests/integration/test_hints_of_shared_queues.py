"""Targets that share a queue share its few hints, too."""

from __future__ import annotations

import json

import celery

from fulfillment.engine.plans import scanning
from tests import desk
from tests.desk import ScriptedSystems


def test_no_target_is_always_the_last_to_be_hinted_at(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    names = {"alpha", "beta", "gamma", "delta"}
    for name in names:
        desk.target(name)
    desk.workflow({name: desk.task(name) for name in names})
    desk.order()
    hinted: set[str] = set()
    for _ in range(60):
        with celery.current_app.connection_for_write() as connection:
            client = connection.default_channel.client
            client.delete("crm")
            scanning.scan()
            hinted |= {
                json.loads(raw)["headers"]["kwargsrepr"] for raw in client.lrange("crm", 0, -1)
            }
    assert len(hinted) == len(names)
