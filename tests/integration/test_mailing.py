"""E-mail to customers over real SMTP: sent, tried again, given up, and told apart when repeated."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from fulfillment.models import FalloutCase, Operation
from oms import mailing
from oms.mail_settings import mail_settings
from oms.models import Notification
from tests import desk
from tests.desk import ScriptedSystems
from tests.mailbox import Mailbox, mailbox

pytestmark = pytest.mark.django_db


@pytest.fixture
def post(settings: Any) -> Iterator[Mailbox]:
    with mailbox() as made:
        use(settings, f"smtp://127.0.0.1:{made.port}")
        yield made


def use(settings: Any, url: str) -> None:
    for name, value in mail_settings(url=url, home=Path("/nowhere")).items():
        setattr(settings, name, value)
    settings.DEFAULT_FROM_EMAIL = "Orders <orders@shop.example>"


def a_letter() -> Notification:
    """The acceptance of one order, to be sent by e-mail."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order(customer_email="anna@example.org", external_id="SHOP-1")
    return Notification.objects.get(channel="email")


def test_a_message_arrives_with_its_own_id(systems: ScriptedSystems, post: Mailbox) -> None:
    letter = a_letter()
    assert mailing.send_due() == 1
    letter.refresh_from_db()
    assert (letter.state, letter.attempts, letter.next_attempt_at) == ("SENT", 1, None)
    assert letter.sent_at is not None
    (message,) = post.taken
    assert message["To"] == "anna@example.org"
    assert message["From"] == "Orders <orders@shop.example>"
    assert message["Subject"] == "We received your order SHOP-1"
    assert message["Message-ID"] == f"<notification-{letter.pk}@shop.example>"
    assert mailing.send_due() == 0


def test_a_repeated_message_can_be_told_by_its_id(systems: ScriptedSystems, post: Mailbox) -> None:
    letter = a_letter()
    post.answers = [None]
    assert mailing.send_due() == 0
    letter.refresh_from_db()
    assert letter.state == "QUEUED"
    assert "SMTPServerDisconnected" in letter.reason
    assert mailing.send_due() == 0  # Not yet.
    desk.advance(60)
    assert mailing.send_due() == 1
    first, second = post.taken
    assert first["Message-ID"] == second["Message-ID"]


def test_what_is_refused_for_good_is_given_up_with_a_case(
    systems: ScriptedSystems, post: Mailbox
) -> None:
    letter = a_letter()
    post.recipients = ["550 nobody here"]
    assert mailing.send_due() == 0
    letter.refresh_from_db()
    assert letter.state == "FAILED"
    assert "nobody here" in letter.reason
    case = FalloutCase.objects.get(reason_code="notification.failed")
    assert case.state == "OPEN"
    listed = io.StringIO()
    call_command("notifications", "list", stdout=listed)
    assert "FAILED" in listed.getvalue()
    assert "nobody here" in listed.getvalue()

    call_command("notifications", "resend", letter.pk, reason="The address is right now.")
    letter.refresh_from_db()
    assert (letter.state, letter.attempts) == ("QUEUED", 0)
    case.refresh_from_db()
    assert case.state == "RESOLVED"
    assert Operation.objects.get(kind="send_notification_again").reason.startswith("The address")
    assert mailing.send_due() == 1


def test_a_recipient_put_off_is_tried_again(systems: ScriptedSystems, post: Mailbox) -> None:
    letter = a_letter()
    post.recipients = ["450 come back later"]
    assert mailing.send_due() == 0
    letter.refresh_from_db()
    assert letter.state == "QUEUED"
    desk.advance(60)
    assert mailing.send_due() == 1


def test_attempts_have_an_end(systems: ScriptedSystems, settings: Any) -> None:
    with mailbox() as closed:
        use(settings, f"smtp://127.0.0.1:{closed.port}")
    letter = a_letter()
    for _ in range(mailing.POLICY.maximum_attempts):
        letter.refresh_from_db()
        assert letter.state == "QUEUED"
        assert mailing.send_due() == 0
        desk.advance(7200)
    letter.refresh_from_db()
    assert (letter.state, letter.attempts) == ("FAILED", mailing.POLICY.maximum_attempts)
    assert "can't be reached" in letter.reason
    assert FalloutCase.objects.filter(reason_code="notification.failed").count() == 1


def test_one_bad_message_keeps_no_other(systems: ScriptedSystems, post: Mailbox) -> None:
    a_letter()
    desk.order(customer_email="bert@example.org")
    post.answers = ["554 looks like spam"]
    assert mailing.send_due() == 1
    assert sorted(Notification.objects.filter(channel="email").values_list("state", flat=True)) == [
        "FAILED",
        "SENT",
    ]


def test_without_settings_messages_become_files(
    systems: ScriptedSystems, settings: Any, tmp_path: Path
) -> None:
    for name, value in mail_settings(url="", home=tmp_path).items():
        setattr(settings, name, value)
    a_letter()
    assert mailing.send_due() == 1
    (file,) = (tmp_path / "mail").iterdir()
    assert "We received your order SHOP-1" in file.read_text()
