"""Two processes that send e-mail at the same moment."""

from __future__ import annotations

from typing import Any

from oms import mailing
from oms.models import Notification
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_mailing import use
from tests.mailbox import mailbox
from tests.together import together


def test_two_senders_send_each_message_once(
    committed_db: str, systems: ScriptedSystems, settings: Any
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.submit_all(*(desk.request(customer_email=f"c{n}@example.org") for n in range(30)))

    def send() -> int:
        # As another process would: the lock of this one is not in its way.
        return mailing._send_all(mailing._claimed()) + mailing._send_all(mailing._claimed())

    with mailbox() as post:
        use(settings, f"smtp://127.0.0.1:{post.port}")
        assert sum(together(send, send)) == 30
    assert len({message["To"] for message in post.taken}) == len(post.taken) == 30
    states = Notification.objects.filter(channel="email").values_list("state", flat=True)
    assert set(states) == {"SENT"}
