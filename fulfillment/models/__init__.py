"""Tables of the orchestrator."""

from fulfillment.models.authority import Approval, ApprovalState, AuthorityDecision, Grant
from fulfillment.models.bulk import (
    BULK_RUNNING,
    BULK_TERMINAL,
    BulkJob,
    BulkPlace,
    BulkRow,
    BulkState,
    Foreseen,
    RowState,
)
from fulfillment.models.calendar import BusinessCalendar
from fulfillment.models.case import (
    HIGHEST_LEVEL,
    IS_UNRESOLVED,
    UNRESOLVED,
    CaseCategory,
    CaseState,
    CaseTask,
    FalloutCase,
)
from fulfillment.models.command import Attempt, Command, Purpose
from fulfillment.models.duration import MeasuredDuration
from fulfillment.models.fan_out import FanOut
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.hold import HELD_BY_HAND, ClockPolicy, Hold, HoldScope
from fulfillment.models.incident import Incident, IncidentState, RoutingRule, Severity
from fulfillment.models.lock import KeptBy, LockRelease, Resource, ResourceLock
from fulfillment.models.manual import (
    MANUAL_OPEN,
    MANUAL_TIMED,
    ManualOrigin,
    ManualState,
    ManualTask,
    Trouble,
)
from fulfillment.models.messages import PARKED, Disposition, InboundEvent, OutboxEvent
from fulfillment.models.operation import Operation
from fulfillment.models.plan import Plan
from fulfillment.models.seal import AuditSeal, SealedRow
from fulfillment.models.signal import Signal
from fulfillment.models.subscription import Delivery, DeliveryState, Subscription
from fulfillment.models.target import TargetCondition, TargetSystem
from fulfillment.models.task import Task
from fulfillment.models.transition import Transition
from fulfillment.models.workflow import PlanGraph, WorkflowSelector, WorkflowVersion

__all__ = [
    "BULK_RUNNING",
    "BULK_TERMINAL",
    "HELD_BY_HAND",
    "HIGHEST_LEVEL",
    "IS_UNRESOLVED",
    "MANUAL_OPEN",
    "MANUAL_TIMED",
    "PARKED",
    "UNRESOLVED",
    "Approval",
    "ApprovalState",
    "Attempt",
    "AuditSeal",
    "AuthorityDecision",
    "BulkJob",
    "BulkPlace",
    "BulkRow",
    "BulkState",
    "BusinessCalendar",
    "CaseCategory",
    "CaseState",
    "CaseTask",
    "ClockPolicy",
    "Command",
    "Delivery",
    "DeliveryState",
    "Disposition",
    "FalloutCase",
    "FanOut",
    "Foreseen",
    "Fulfillment",
    "Grant",
    "Hold",
    "HoldScope",
    "InboundEvent",
    "Incident",
    "IncidentState",
    "KeptBy",
    "LockRelease",
    "ManualOrigin",
    "ManualState",
    "ManualTask",
    "MeasuredDuration",
    "Operation",
    "OutboxEvent",
    "Plan",
    "PlanGraph",
    "Purpose",
    "Resource",
    "ResourceLock",
    "RoutingRule",
    "RowState",
    "SealedRow",
    "Severity",
    "Signal",
    "Subscription",
    "TargetCondition",
    "TargetSystem",
    "Task",
    "Transition",
    "Trouble",
    "WorkflowSelector",
    "WorkflowVersion",
]
