"""Every way in which somebody changes something asks whether they may, and then does nothing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session

import fulfillment.operations
import oms
from fulfillment import operations, publishing, subscribers
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.definitions.loading import read_template
from fulfillment.errors import Denied
from fulfillment.models import (
    AuthorityDecision,
    BusinessCalendar,
    Delivery,
    Subscription,
    TargetSystem,
)
from oms import mailing, schedules
from oms.environment import CHECKOUT
from oms.models import Notification, Order
from tests import people

_SHOWS = {
    "fulfillment.operations.approving.may_decide",
    "fulfillment.operations.having.user_name_of",
    "fulfillment.operations.having.who_gets",
    "fulfillment.operations.bulk.drafting.offers",
    "fulfillment.operations.bulk.drafting.wanted",
    "fulfillment.subscribers.record",
    "oms.api.approval_documents.approval_document",
}
"""What has an actor and changes nothing, or is called by what has asked."""
_ASKS = re.compile(r"\b(authorize|authority|prepare|prepared|perform|_authorize_decision)\(")
_NOT_OURS = ("migrations", "settings", "wsgi", "celery", "commands")


def modules() -> Iterator[ModuleType]:
    yield subscribers
    yield publishing
    for package in (fulfillment.operations, oms):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part in found.name for part in _NOT_OURS):
                yield importlib.import_module(found.name)


def with_an_actor(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    for name, function in vars(module).items():
        if not inspect.isfunction(function) or function.__module__ != module.__name__:
            continue
        annotations = [one.annotation for one in inspect.signature(function).parameters.values()]
        if "Actor" in annotations and not name.startswith("_"):
            yield name, function


def asks(module: ModuleType, function: FunctionType, seen: frozenset[str] = frozenset()) -> bool:
    """Whether it asks for authority, itself or by what it calls in its module."""
    source = inspect.getsource(function)
    if _ASKS.search(source.partition("\n")[2]):
        return True
    called = set(re.findall(r"\b(\w+)\(", source)) - seen - {function.__name__}
    return any(
        asks(module, other, seen | called | {function.__name__})
        for name in called
        if inspect.isfunction(other := getattr(module, name, None))
        and other.__module__ == module.__name__
    )


def test_whatever_is_done_by_somebody_asks_whether_they_may() -> None:
    found = {
        f"{module.__name__}.{name}": asks(module, function)
        for module in modules()
        for name, function in with_an_actor(module)
    }
    assert len(found) > 30
    taken_back = "fulfillment.operations.approving.withdraw"  # Only whoever has asked may.
    assert {name for name, asked in found.items() if not asked} - {taken_back} <= _SHOWS
    assert found.keys() >= _SHOWS - {"oms.api.approval_documents.approval_document"}


def test_no_page_and_no_address_writes_rows_by_itself() -> None:
    """What is written at an edge has been asked about there; each place is looked at once."""
    writes = re.compile(r"\.(save|delete|bulk_create|bulk_update)\(|objects\.create\(|\)\.update\(")
    found = {
        f"{file.relative_to(CHECKOUT)}: {line.strip()}"
        for folder in ("fulfillment/admin", "oms/admin", "oms/api")
        for file in Path(CHECKOUT, folder).rglob("*.py")
        for line in file.read_text().splitlines()
        if writes.search(line)
    }
    assert found == set()


def rows() -> dict[str, list[Any]]:
    """Everything there is, but the decisions about authority."""
    left_out = (AuthorityDecision, Session)
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in apps.get_models()
        if model not in left_out
    }


def a_failed_letter(order: Order) -> Notification:
    letter = Notification.objects.create(
        order=order,
        order_version=order.version,
        occasion="accepted",
        channel="email",
        recipient="a@example.com",
        subject="s",
        body="b",
        created_at=order.submitted_at,
    )
    letter.give_up()
    letter.save()
    return letter


DOORS: dict[str, Callable[[Actor], Any]] = {
    "calendar": lambda actor: operations.edit_calendar(
        row=BusinessCalendar(name="new", title="New", spec=BusinessCalendar.objects.get().spec),
        actor=actor,
        reason="Why.",
    ),
    "target": lambda actor: operations.edit_target(
        row=TargetSystem(name="gamma", queue="crm", adapter="scripted"), actor=actor
    ),
    "workflow": lambda actor: operations.migrate_orders(
        workflow="thing", version=None, orders=None, reason="Why.", actor=actor
    ),
    "publishing": lambda actor: publishing.publish_files(
        templates=[read_template(path=next(settings.OMS_WORKFLOWS.glob("*/v1.yaml")))],
        actor=actor,
    ),
    "subscribe": lambda actor: subscribers.subscribe(
        name="new", url="https://new.example/hook", actor=actor
    ),
    "switch": lambda actor: subscribers.switch(
        subscription=Subscription.objects.get(), active=False, actor=actor
    ),
    "edit": lambda actor: subscribers.edit(
        subscription=Subscription.objects.get(), actor=actor, changed=["url"]
    ),
    "rotate": lambda actor: subscribers.begin_rotation(
        subscription=Subscription.objects.get(), actor=actor
    ),
    "finish": lambda actor: subscribers.finish_rotation(
        subscription=Subscription.objects.get(), actor=actor
    ),
    "send again": lambda actor: subscribers.send_again(
        deliveries=Delivery.objects.all(), actor=actor
    ),
    "mail again": lambda actor: mailing.queue_again(
        notification_ids=list(Notification.objects.values_list("pk", flat=True)),
        actor=actor,
        reason="Why.",
    ),
    "schedule": lambda actor: schedules.submit_now(
        name=next(iter(schedules.current())), actor=actor
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_whoever_may_not_changes_nothing(halfway: Order, door: str) -> None:
    nobody = people.anybody("nobody")
    a_failed_letter(halfway)
    before = rows()
    with pytest.raises(Denied, match="nobody may not do this"):
        DOORS[door](nobody)
    assert rows() == before
    decision = AuthorityDecision.objects.latest("pk")
    assert (decision.actor, decision.is_allowed) == ("nobody", False)


def test_a_target_becomes_another_kind_of_system_by_two_powers(halfway: Order) -> None:
    """What kind it is says who approves what is done by hand: it is not edited by the way."""
    catalog = people.anybody("cara", Action.TARGET_EDIT)
    row = TargetSystem.objects.get(pk="alpha")
    row.domain = "billing"
    with pytest.raises(Denied, match=r"grant\.edit"):
        operations.edit_target(row=row, actor=catalog)
    row.refresh_from_db()
    row.title = "Another title"
    assert operations.edit_target(row=row, actor=catalog) == {"title": "Another title"}
