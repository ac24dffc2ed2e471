"""What operators may do to the running engine: each with a name, a reason and a record of it.

The admin, the API and `manage.py` come through here. When placing a hold or a pause returns,
nothing more is sent in its scope, and what was on the wire before has been heard of or has
passed the end of its lease.
"""

from fulfillment.operations.approving import (
    approve,
    ask_for_approval,
    expire_approvals,
    refuse,
    withdraw,
)
from fulfillment.operations.bulk import ControlBulkJob, ReleaseIncident, StartBulkJob
from fulfillment.operations.catalog import perform, prepared, register, repair_of, repairs_about
from fulfillment.operations.closing import CloseCase, close_case
from fulfillment.operations.deciding import decide
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
from fulfillment.operations.repair import Done, Prepared, Preview, Repair, Request
from fulfillment.operations.resources import set_capacity
from fulfillment.operations.retrying import RetryTask, retry
from fulfillment.operations.signalling import send_signal

register(RetryTask(), CloseCase())
register(StartBulkJob(), ControlBulkJob(), ReleaseIncident())

__all__ = [
    "BRIEFLY",
    "Done",
    "Migration",
    "Placed",
    "Prepared",
    "Preview",
    "Repair",
    "Request",
    "Verdict",
    "WantedHold",
    "approve",
    "ask_for_approval",
    "await_in_flight",
    "close_case",
    "decide",
    "edit_calendar",
    "edit_target",
    "expire_approvals",
    "fulfillment_of",
    "migrate_orders",
    "pause_target",
    "perform",
    "place_hold",
    "prepared",
    "refuse",
    "release_ended_holds",
    "release_hold",
    "repair_of",
    "repairs_about",
    "resume_target",
    "retry",
    "send_signal",
    "set_capacity",
    "wanted_hold",
    "withdraw",
]
