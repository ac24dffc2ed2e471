"""What subscribers don't take: dead letters, and subscriptions whose address is gone.

Both end at a person's desk, as fallout cases: nothing is left behind in silence.
"""

from __future__ import annotations

import logging

from fulfillment.engine.outbound.envelopes import Letter
from fulfillment.engine.work.cases import Fallout, open_case
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Severity

logger = logging.getLogger(__name__)

_ACTOR = "event delivery"
# Only the latest attempt gives up; a delivery that somebody else has made stands.
_BURY = """
UPDATE fulfillment_delivery SET state = 'DEAD', finished_at = %s, last_answer = %s
WHERE id = %s AND attempts = %s AND state = 'PENDING'
"""
_SWITCH_OFF = "UPDATE fulfillment_subscription SET active = false WHERE name = %s AND active"


def undelivered_subject(*, subscription: str, order_reference: str) -> str:
    """What a case about dead letters is about: one subscriber and one order."""
    return f"undelivered:{subscription}:{order_reference}"


def switched_off_subject(*, subscription: str) -> str:
    return f"subscription:{subscription}"


def bury(*, letter: Letter, answer: str) -> None:
    """Give up on one event; the next of its order goes on."""

    def work(unit: Unit) -> None:
        unit.raw.execute(
            _BURY, [unit.now, answer, letter.delivery_id, letter.attempts], prepare=True
        )
        if not unit.raw.rowcount:
            return
        open_case(
            unit,
            fallout=Fallout(
                subject=undelivered_subject(
                    subscription=letter.subscription, order_reference=letter.order_reference
                ),
                category=CaseCategory.UNDELIVERED,
                severity=Severity.LOW,
                reason_code="event.undelivered",
                title=f"{letter.subscription} did not get events of {letter.order_reference}",
                explanation=(
                    f"{letter.attempts} attempts failed, the last one so: {answer} Later events "
                    "of the order go on without it. Put the receiver right, then send the dead "
                    f"ones again: manage.py subscriptions redeliver {letter.subscription}"
                ),
                facts={
                    letter.message_id: {
                        "event_type": letter.event_type,
                        "attempts": letter.attempts,
                        "answer": answer,
                    }
                },
                fulfillment_id=letter.fulfillment_id,
            ),
        )

    run_unit(work, fulfillment_ids=[letter.fulfillment_id], actor=_ACTOR)
    logger.error(
        "event not delivered; it is a dead letter now",
        extra={"subscription": letter.subscription, "event": letter.message_id},
    )


def switch_off(*, subscription: str) -> None:
    """The receiver said that it is gone for good: it gets nothing until a person looks at it."""

    def work(unit: Unit) -> None:
        unit.raw.execute(_SWITCH_OFF, [subscription], prepare=True)
        if not unit.raw.rowcount:
            return
        open_case(
            unit,
            fallout=Fallout(
                subject=switched_off_subject(subscription=subscription),
                category=CaseCategory.UNDELIVERED,
                reason_code="subscription.gone",
                title=f"{subscription} gets no events any more",
                explanation=(
                    "Its receiver answered 410, which means that it is gone for good, so the "
                    "subscription was switched off. What was on its way waits; what happens "
                    "while it is off is not kept for it. If that was a mistake, switch it on "
                    f"again: manage.py subscriptions resume {subscription}"
                ),
            ),
        )

    run_unit(work, fulfillment_ids=[], actor=_ACTOR)
    logger.error("subscriber is gone; switched off", extra={"subscription": subscription})
