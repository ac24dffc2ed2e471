"""A process dies while it sends e-mail; another one sends what it had in hand."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from oms.models import Notification
from tests import desk
from tests.crash.conftest import Desk
from tests.mailbox import mailbox


@pytest.mark.parametrize(
    ("point", "messages"),
    [("mailing.claimed_before_send", 2), ("mailing.sent_before_marked", 3)],
)
def test_no_customer_is_left_out_and_a_repetition_can_be_told(
    shop: Desk, systems: Any, point: str, messages: int
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    for name in ("anna", "bert"):
        desk.order(customer_email=f"{name}@example.org")
    with mailbox() as post:

        def send(failpoint: str = "") -> int:
            url = f"smtp://127.0.0.1:{post.port}"
            return shop.child("mail", failpoint=failpoint, OMS_EMAIL_URL=url).returncode

        assert send(point) == -signal.SIGKILL
        assert send() == 0
        assert Notification.objects.filter(channel="email", state="SENT").count() == 0
        shop.later(301)
        assert send() == 0
    assert set(Notification.objects.values_list("state", flat=True)) == {"SENT"}
    assert len(post.taken) == messages
    assert len({message["Message-ID"] for message in post.taken}) == 2
