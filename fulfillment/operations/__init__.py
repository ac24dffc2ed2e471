"""What operators may do to the running engine: each with a name, a reason and a record of it.

The admin, the API and `manage.py` come through here. When placing a hold or a pause returns,
nothing more is sent in its scope, and what was on the wire before has been heard of or has
passed the end of its lease.
"""

from fulfillment.operations.approving import (
    approve,
    ask_for_approval,
    look_after_approvals,
    refuse,
    withdraw,
)
from fulfillment.operations.breaking import BreakLock
from fulfillment.operations.catalog import (
    every_repair,
    perform,
    prepared,
    register,
    repair_of,
    repairs_about,
)
from fulfillment.operations.closing import CloseCase, close_case
from fulfillment.operations.compensating import CompensateTask
from fulfillment.operations.deciding import DecideManualTask, decide
from fulfillment.operations.editing import edit_calendar, edit_calendars
from fulfillment.operations.granting import EditAccess
from fulfillment.operations.holding import PlaceHold, await_in_flight, hold_request, place_hold
from fulfillment.operations.in_flight import BRIEFLY, Placed, on_the_wire
from fulfillment.operations.matching import MatchEvent, ReplayEvent
from fulfillment.operations.migrating import Migration, Verdict, migrate_orders
from fulfillment.operations.offering import Offer, looked_at, offers, possible
from fulfillment.operations.pausing import (
    PauseTarget,
    ResumeTarget,
    edit_target,
    edit_targets,
    pause_target,
    resume_target,
)
from fulfillment.operations.regenerating import RegeneratePlan
from fulfillment.operations.releasing import (
    ReleaseHold,
    fulfillment_of,
    release_ended_holds,
    release_hold,
)
from fulfillment.operations.repair import Done, Prepared, Preview, Repair, Request
from fulfillment.operations.resources import SetCapacity, set_capacity
from fulfillment.operations.retrying import RetryTask, retry
from fulfillment.operations.signalling import SendSignal, send_signal
from fulfillment.operations.terminating import TerminatePlan

register(
    RetryTask(),
    DecideManualTask(),
    PlaceHold(),
    ReleaseHold(),
    PauseTarget(),
    ResumeTarget(),
    CloseCase(),
    SendSignal(),
    SetCapacity(),
    CompensateTask(),
    RegeneratePlan(),
    TerminatePlan(),
    MatchEvent(),
    ReplayEvent(),
    BreakLock(),
    EditAccess(),
)

__all__ = [
    "BRIEFLY",
    "Done",
    "Migration",
    "Offer",
    "Placed",
    "Prepared",
    "Preview",
    "Repair",
    "Request",
    "Verdict",
    "approve",
    "ask_for_approval",
    "await_in_flight",
    "close_case",
    "decide",
    "edit_calendar",
    "edit_calendars",
    "edit_target",
    "edit_targets",
    "every_repair",
    "fulfillment_of",
    "hold_request",
    "look_after_approvals",
    "looked_at",
    "migrate_orders",
    "offers",
    "on_the_wire",
    "pause_target",
    "perform",
    "place_hold",
    "possible",
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
    "withdraw",
]
