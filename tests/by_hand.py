"""What tests of repairs by hand share: asking, previewing, approving, and that nothing was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import connection

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.work import audit
from fulfillment.models import Approval
from fulfillment.operations.preparing import Preview
from fulfillment.operations.repair import Done, Request
from oms.models import Order
from tests import people

EVIDENCE = "Ticket 4711: looked up in the target's own list."
_ANSWERS = {
    "fulfillment_authoritydecision",
    "auth_user",
    "auth_user_user_permissions",
    "fulfillment_grant",
}
"""What asking leaves behind, and what these tests set up on the way."""


def request(action: Action, subject: str, *, expected: str = "", **parameters: Any) -> Request:
    return Request(
        action=action,
        subject=subject,
        reason="The customer has rung.",
        evidence=EVIDENCE,
        parameters=parameters,
        expected_version=expected,
    )


def expecting(asked: Request, version: str) -> Request:
    """The same, of what was looked at."""
    return replace(asked, expected_version=version)


def of(order: Order) -> str:
    return f"order:{order.reference}"


def previewed(asked: Request, *, actor: Actor) -> Preview:
    return operations.prepared(actor=actor, request=asked).preview()


def asked_for(asked: Request, *, actor: Actor) -> Approval:
    return operations.ask_for_approval(prepared=operations.prepared(actor=actor, request=asked))


def done_by_two(asked: Request, *, actor: Actor, senior: Actor | None = None) -> Done:
    """One asks, another approves, and it is done."""
    approval = asked_for(asked, actor=actor)
    _, done = operations.approve(
        approval_id=approval.pk, actor=senior or people.senior(), reason="Agreed."
    )
    return done


def everything() -> Mapping[str, list[str]]:
    """Every row of every table but what asking leaves behind: to compare before and after."""
    with connection.cursor() as raw:
        raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        tables = sorted({name for (name,) in raw.fetchall()} - _ANSWERS)
        found = {}
        for table in tables:
            raw.execute(f'SELECT t::text FROM "{table}" t ORDER BY 1')
            found[table] = [row for (row,) in raw.fetchall()]
    return found


def differing(before: Mapping[str, list[str]]) -> list[str]:
    """The tables that are not as they were."""
    now = everything()
    return sorted(name for name in now if now[name] != before.get(name))


def is_intact(order: Order) -> bool:
    """Its audit trail verifies."""
    return audit.verify(fulfillment_id=order.fulfillment_id) == []
