"""What operators may do to the running engine: each with a name, a reason and a record of it.

The admin, the API and `manage.py` come through here. When placing a hold or a pause returns,
nothing more is sent in its scope, and what was on the wire before has been heard of or has
passed the end of its lease.
"""

from fulfillment.operations.approving import (
    approve,
    ask_for_approval,
    look_after_approvals,
    looked_at_again,
    refuse,
    withdraw,
)
from fulfillment.operations.breaking import BreakLock
from fulfillment.operations.bulk import ControlBulkJob, ReleaseIncident, StartBulkJob
from fulfillment.operations.casework import AssignCase, AwaitCustomer, EscalateCase
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
from fulfillment.operations.correcting import CorrectTask
from fulfillment.operations.deciding import DecideManualTask, decide
from fulfillment.operations.editing import edit_calendar, edit_calendars
from fulfillment.operations.escalating import escalate_due
from fulfillment.operations.force_completing import ForceComplete
from fulfillment.operations.granting import EditAccess
from fulfillment.operations.holding import PlaceHold, await_in_flight, hold_request, place_hold
from fulfillment.operations.in_flight import BRIEFLY, Placed, on_the_wire
from fulfillment.operations.incidents import AssignIncident, CloseIncident, group_cases
from fulfillment.operations.manual_work import (
    ClaimManualTask,
    ReassignManualTask,
    ReleaseManualTask,
    ResumeManualTask,
    claim,
    reassign,
    release,
    resume,
)
from fulfillment.operations.matching import MatchEvent, ReplayEvent
from fulfillment.operations.migrating import Migration, Verdict, migrate_orders
from fulfillment.operations.offering import (
    Offer,
    looked_at,
    offers,
    possible,
    possible_among,
)
from fulfillment.operations.pausing import (
    PauseTarget,
    ResumeTarget,
    edit_target,
    edit_targets,
    pause_target,
    resume_target,
)
from fulfillment.operations.preparing import Prepared, Preview
from fulfillment.operations.reconciling import ReconcileTask
from fulfillment.operations.referencing import EnterReference
from fulfillment.operations.regenerating import RegeneratePlan
from fulfillment.operations.releasing import (
    ReleaseHold,
    fulfillment_of,
    release_ended_holds,
    release_hold,
)
from fulfillment.operations.repair import Done, Repair, Request
from fulfillment.operations.resources import SetCapacity, set_capacity
from fulfillment.operations.retrying import RetryTask, retry
from fulfillment.operations.routing import EditRouting
from fulfillment.operations.setting_aside import DismissEvent, RestoreEvent
from fulfillment.operations.signalling import SendSignal, send_signal
from fulfillment.operations.terminating import TerminatePlan
from fulfillment.operations.waiving import SkipTask, WaiveTask

register(
    RetryTask(),
    CorrectTask(),
    EnterReference(),
    ReconcileTask(),
    WaiveTask(),
    SkipTask(),
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
    ForceComplete(),
    MatchEvent(),
    ReplayEvent(),
    DismissEvent(),
    RestoreEvent(),
    BreakLock(),
    EditAccess(),
    AssignCase(),
    EscalateCase(),
    AwaitCustomer(),
    AssignIncident(),
    CloseIncident(),
    EditRouting(),
    StartBulkJob(),
    ControlBulkJob(),
    ReleaseIncident(),
    ClaimManualTask(),
    ReleaseManualTask(),
    ReassignManualTask(),
    ResumeManualTask(),
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
    "claim",
    "close_case",
    "decide",
    "edit_calendar",
    "edit_calendars",
    "edit_target",
    "edit_targets",
    "escalate_due",
    "every_repair",
    "fulfillment_of",
    "group_cases",
    "hold_request",
    "look_after_approvals",
    "looked_at",
    "looked_at_again",
    "migrate_orders",
    "offers",
    "on_the_wire",
    "pause_target",
    "perform",
    "place_hold",
    "possible",
    "possible_among",
    "prepared",
    "reassign",
    "refuse",
    "release",
    "release_ended_holds",
    "release_hold",
    "repair_of",
    "repairs_about",
    "resume",
    "resume_target",
    "retry",
    "send_signal",
    "set_capacity",
    "withdraw",
]
