"""Pages that read for too long are given up; what is being done is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse

from fulfillment.actions import Action
from fulfillment.admin import bounded, operating
from fulfillment.admin.boards import Locks


def limit() -> str:
    with connection.cursor() as raw:
        raw.execute("SHOW statement_timeout")
        return str(raw.fetchone()[0])


def reading(work: Callable[[], Any]) -> Callable[..., dict[str, Any]]:
    """A page of the board of locks that does this."""
    return lambda *_: {"found": work()}


def for_ever() -> None:
    with connection.cursor() as raw:
        raw.execute("SELECT pg_sleep(3600)")


@pytest.fixture
def boss(committed_db: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def test_a_page_that_reads_for_too_long_is_given_up(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_SECONDS", 0.05)
    monkeypatch.setattr(Locks, "content", reading(for_ever))
    for headers in ({}, {"HX-Request": "true"}):
        answer = boss.get(reverse("desk_locks"), headers=headers)
        assert answer.status_code == 503
        assert "takes too long" in answer.content.decode()
    assert limit() == "0"  # Whoever has this connection next is not bound by it.


def test_what_only_looks_is_bounded_and_what_does_something_is_not(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    monkeypatch.setattr(Locks, "content", lambda *_: seen.update(page=limit()) or {})

    def holds_here(request: HttpRequest, _: Action) -> bool:
        seen[str(request.method)] = limit()
        return False

    monkeypatch.setattr(operating, "holds_here", holds_here)
    boss.get(reverse("desk_locks"))
    form = reverse("admin:fulfillment_operate", args=["task.retry", "task:1"])
    assert boss.get(form).status_code == boss.post(form, {"reason": "x"}).status_code == 403
    assert seen == {"page": "15s", "GET": "15s", "POST": "0"}
