"""Tables of the orchestrator."""

from fulfillment.models.command import Attempt, Command, Purpose
from fulfillment.models.messages import Disposition, InboundEvent, OutboxEvent
from fulfillment.models.plan import Fulfillment, Plan, Task
from fulfillment.models.target import TargetSystem
from fulfillment.models.transition import Transition
from fulfillment.models.workflow import PlanGraph, WorkflowSelector, WorkflowVersion

__all__ = [
    "Attempt",
    "Command",
    "Disposition",
    "Fulfillment",
    "InboundEvent",
    "OutboxEvent",
    "Plan",
    "PlanGraph",
    "Purpose",
    "TargetSystem",
    "Task",
    "Transition",
    "WorkflowSelector",
    "WorkflowVersion",
]
