"""E-mail to customers leaves here: claimed with a lease, sent outside any transaction, recorded.

A crash between sending and recording sends once more, under the same Message-ID, by which the
recipient's side can tell. What can't be sent ends as FAILED, with a case for a person.
"""

from __future__ import annotations

import logging
import smtplib
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parseaddr
from functools import partial
from typing import Any

from django.conf import settings
from django.core import mail

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import clean, cursor
from fulfillment.engine.store.retry import RetryPolicy, backoff
from fulfillment.engine.work import cases
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Severity
from fulfillment.operations.records import log, reason_of
from fulfillment.operations.subjects import order_found
from oms.models import Notification, NotificationState

logger = logging.getLogger(__name__)

POLICY = RetryPolicy(
    initial_interval=timedelta(seconds=30),
    backoff_coefficient=3,
    maximum_interval=timedelta(hours=1),
    maximum_attempts=12,
)
_BATCH = 20
_LEASE = timedelta(minutes=5)
_LONGEST_SEND = timedelta(minutes=1)
_sending = threading.Lock()
_CLAIM = """
UPDATE oms_notification n SET attempts = n.attempts + 1, next_attempt_at = fulfillment_now() + %s
FROM oms_order o
WHERE o.id = n.order_id AND n.id IN (
    SELECT id FROM oms_notification
    WHERE state = 'QUEUED' AND channel = 'email' AND next_attempt_at <= (SELECT fulfillment_now())
    ORDER BY next_attempt_at, id LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING n.id, n.attempts, n.occasion, n.recipient, n.subject, n.body, o.reference,
    o.fulfillment_id
"""
# Only the latest claim may say how it went.
_SENT = """
UPDATE oms_notification SET state = %s, reason = '', sent_at = fulfillment_now(),
    next_attempt_at = NULL
WHERE id = %s AND attempts = %s AND state = %s
"""
_POSTPONED = """
UPDATE oms_notification SET reason = %s, next_attempt_at = fulfillment_now() + %s
WHERE id = %s AND attempts = %s AND state = 'QUEUED'
"""
_GIVEN_UP = """
UPDATE oms_notification SET state = %s, reason = %s, next_attempt_at = NULL
WHERE id = %s AND attempts = %s AND state = %s
"""
_QUEUED_AGAIN = """
UPDATE oms_notification SET state = %s, attempts = 0, next_attempt_at = fulfillment_now()
WHERE id = %s AND state = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    notification_id: int
    attempts: int
    """This one included."""
    occasion: str
    recipient: str
    subject: str
    body: str
    order_reference: str
    fulfillment_id: int


class _Refused(Exception):
    """The mail server will never take this message; trying again changes nothing."""


def message_id(notification_id: int) -> str:
    """The same for every repetition of one message."""
    _, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    return f"<notification-{notification_id}@{address.rpartition('@')[2]}>"


def send_due() -> int:
    """Send what is due. Returns how many messages the mail server has taken.

    One batch at a time in a process: a mail server that does not answer must not occupy the
    threads that scan and sweep as well.
    """
    if not _sending.acquire(blocking=False):
        return 0
    try:
        sent = 0
        while True:
            letters = _claimed()
            sent += _send_all(letters)
            if len(letters) < _BATCH:
                return sent
    finally:
        _sending.release()


def queue_again(*, notification_ids: Collection[int], actor: Actor, reason: str) -> int:
    """Give failed messages another round of attempts. Returns how many were failed.

    Raises ReasonMissing, and Denied unless it is allowed for all of them.
    """
    reason = reason_of(reason)
    rows = list(
        Notification.objects.filter(
            pk__in=notification_ids, state=NotificationState.FAILED
        ).select_related("order")
    )
    for reference in sorted({row.order.reference for row in rows}):
        context = order_found(name=reference).context
        authorize(actor=actor, action=Action.NOTIFICATION_RESEND, context=context)
    again = 0
    for row in rows:
        again += run_unit(
            partial(_queue_again, row=row, actor=actor.name, reason=reason),
            fulfillment_ids=[row.order.fulfillment_id],
            actor=actor.name,
        )
    return again


def _queue_again(unit: Unit, row: Notification, actor: str, reason: str) -> int:
    before = Notification.objects.get(pk=row.pk)
    if before.state != NotificationState.FAILED:
        return 0
    before.queue_again()
    unit.raw.execute(_QUEUED_AGAIN, [str(before.state), row.pk, NotificationState.FAILED.value])
    log(
        kind="send_notification_again",
        subject=f"notification:{row.pk}",
        actor=actor,
        reason=reason,
        before={"state": "FAILED", "reason": row.reason},
        after={"state": str(before.state)},
        now=unit.now,
    )
    cases.resolve_cases(
        unit, subjects=[_subject(row.order.reference)], resolution="It is being sent again."
    )
    return int(unit.raw.rowcount)


def _claimed() -> list[_Letter]:
    with cursor() as raw:
        raw.execute(_CLAIM, [_LEASE, _BATCH], prepare=True)
        return [
            _Letter(
                notification_id=row[0],
                attempts=row[1],
                occasion=row[2],
                recipient=row[3],
                subject=row[4],
                body=row[5],
                order_reference=row[6],
                fulfillment_id=row[7],
            )
            for row in sorted(raw.fetchall())
        ]


def _send_all(letters: Sequence[_Letter]) -> int:
    """What is not reached in time is claimed again when its lease has ended."""
    if not letters:
        return 0
    until = time.monotonic() + (_LEASE - _LONGEST_SEND).total_seconds()
    sent, trouble = 0, ""
    connection: Any = mail.get_connection()
    try:
        for letter in letters:
            if time.monotonic() > until:
                break
            if letter.attempts > POLICY.maximum_attempts:
                # Its sender went away every time without a word.
                _give_up(letter, "It was begun too often and never finished.")
                continue
            if not trouble:
                trouble = _opened(connection)
            if trouble:
                # The mail server itself is away: nobody's message is to blame.
                _postpone(letter, trouble)
                continue
            sent += _send(connection, letter)
    finally:
        _close(connection)
    return sent


def _opened(connection: Any) -> str:
    """Empty, or why nothing can be sent at all."""
    try:
        connection.open()
    except (OSError, smtplib.SMTPException) as error:
        logger.warning("the mail server can't be reached", extra={"reason": _why(error)})
        return f"The mail server can't be reached: {_why(error)}"
    return ""


def _send(connection: Any, letter: _Letter) -> int:
    try:
        failpoints.reach("mailing.claimed_before_send")
        _hand_over(connection, letter)
        failpoints.reach("mailing.sent_before_marked")
    except _Refused as error:
        _close(connection)
        _give_up(letter, f"The mail server refused it: {error}")
    except (OSError, smtplib.SMTPException) as error:
        _close(connection)
        _postpone(letter, f"It was not taken: {_why(error)}")
    else:
        _mark_sent(letter)
        return 1
    return 0


def _hand_over(connection: Any, letter: _Letter) -> None:
    """Raises _Refused for what will not change, otherwise what the connection raises."""
    try:
        mail.EmailMessage(
            subject=letter.subject,
            body=letter.body,
            to=[letter.recipient],
            headers={
                "Message-ID": message_id(letter.notification_id),
                "Auto-Submitted": "auto-generated",
                "X-Order": letter.order_reference,
            },
            connection=connection,
        ).send()
    except smtplib.SMTPRecipientsRefused as error:
        if all(code >= 500 for code, _ in error.recipients.values()):
            raise _Refused(_why(error)) from error
        raise
    except smtplib.SMTPDataError as error:
        if error.smtp_code >= 500:
            raise _Refused(_why(error)) from error
        raise
    except ValueError as error:  # An address or a header that can't be written down.
        raise _Refused(_why(error)) from error


def _close(connection: Any) -> None:
    try:
        connection.close()
    except (OSError, smtplib.SMTPException):
        logger.debug("the connection to the mail server ended by itself")


def _mark_sent(letter: _Letter) -> None:
    row = Notification(state=NotificationState.QUEUED)
    row.mark_sent()
    with cursor() as raw:
        raw.execute(
            _SENT,
            [
                str(row.state),
                letter.notification_id,
                letter.attempts,
                NotificationState.QUEUED.value,
            ],
            prepare=True,
        )


def _postpone(letter: _Letter, reason: str) -> None:
    if letter.attempts >= POLICY.maximum_attempts:
        _give_up(letter, reason)
        return
    delay = backoff(
        policy=POLICY, sends=letter.attempts, key=f"notification-{letter.notification_id}"
    )
    with cursor() as raw:
        raw.execute(
            _POSTPONED,
            [clean(reason, 1000), delay, letter.notification_id, letter.attempts],
            prepare=True,
        )


def _give_up(letter: _Letter, reason: str) -> None:
    def work(unit: Unit) -> None:
        row = Notification(state=NotificationState.QUEUED)
        row.give_up()
        unit.raw.execute(
            _GIVEN_UP,
            [
                str(row.state),
                clean(reason, 1000),
                letter.notification_id,
                letter.attempts,
                NotificationState.QUEUED.value,
            ],
        )
        if unit.raw.rowcount:
            cases.open_case(unit, fallout=_fallout(letter, clean(reason, 1000)))

    run_unit(work, fulfillment_ids=[letter.fulfillment_id], actor="mail to customers")
    logger.error(
        "a customer could not be written to", extra={"notification": letter.notification_id}
    )


def _fallout(letter: _Letter, reason: str) -> cases.Fallout:
    return cases.Fallout(
        subject=_subject(letter.order_reference),
        category=CaseCategory.UNDELIVERED,
        severity=Severity.LOW,
        reason_code="notification.failed",
        title=f"{letter.order_reference} · its customer could not be written to",
        explanation=f"{letter.attempts} attempts; the last one: {reason} Look at the address and "
        "the mail server, then send it again: manage.py notifications resend "
        f"{letter.notification_id} --reason …",
        facts={
            f"notification {letter.notification_id}": {
                "occasion": letter.occasion,
                "recipient": letter.recipient,
                "reason": reason,
            }
        },
        fulfillment_id=letter.fulfillment_id,
        customer_impact=f"The customer has not been told: {letter.subject}",
    )


def _subject(order_reference: str) -> str:
    return f"notification:{order_reference}"


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
