"""What operators may do to the running engine: each with a name, a reason and a record of it.

The admin, the API and `manage.py` come through here. When placing a hold or a pause returns,
nothing more is sent in its scope, and what was on the wire before has been heard of or has
passed the end of its lease.
"""

from fulfillment.operations.closing import close_case
from fulfillment.operations.deciding import decide, retry
from fulfillment.operations.editing import edit_calendar
from fulfillment.operations.holding import (
    WantedHold,
    await_in_flight,
    fulfillment_of,
    place_hold,
    release_ended_holds,
    release_hold,
    wanted_hold,
)
from fulfillment.operations.in_flight import BRIEFLY, Placed
from fulfillment.operations.migrating import Migration, Verdict, migrate_orders
from fulfillment.operations.pausing import edit_target, pause_target, resume_target
from fulfillment.operations.resources import set_capacity
from fulfillment.operations.signalling import send_signal

__all__ = [
    "BRIEFLY",
    "Migration",
    "Placed",
    "Verdict",
    "WantedHold",
    "await_in_flight",
    "close_case",
    "decide",
    "edit_calendar",
    "edit_target",
    "fulfillment_of",
    "migrate_orders",
    "pause_target",
    "place_hold",
    "release_ended_holds",
    "release_hold",
    "resume_target",
    "retry",
    "send_signal",
    "set_capacity",
    "wanted_hold",
]
