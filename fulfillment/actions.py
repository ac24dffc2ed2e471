"""Everything that may be done by hand, by its name, and which of it is high-risk (reference §30).

The name of an action is that of its permission as well: `task.waive` is `fulfillment.task_waive`.
"""

from __future__ import annotations

import enum


class Action(enum.StrEnum):
    TASK_RETRY = "task.retry"
    TASK_SKIP = "task.skip"
    TASK_WAIVE = "task.waive"
    TASK_CORRECT = "task.correct"
    """Another payload than the one that its workflow makes."""
    TASK_REFERENCE = "task.reference"
    """A reference of the target system that is missing."""
    TASK_RECONCILE = "task.reconcile"
    """A person has looked up what became of it."""

    PLAN_REGENERATE = "plan.regenerate"
    PLAN_COMPENSATE = "plan.compensate"
    PLAN_TERMINATE = "plan.terminate"
    PLAN_MIGRATE = "plan.migrate"

    ORDER_FORCE_COMPLETE = "order.force_complete"
    ORDER_CANCEL = "order.cancel"
    ORDER_CHANGE = "order.change"
    """An amendment, or a change order."""
    ORDER_EVIDENCE = "order.evidence"

    MANUAL_CLAIM = "manual.claim"
    MANUAL_RELEASE = "manual.release"
    MANUAL_REASSIGN = "manual.reassign"
    MANUAL_RESUME = "manual.resume"
    """The customer, or commerce, has answered."""
    MANUAL_DECIDE = "manual.decide"

    CASE_ASSIGN = "case.assign"
    CASE_ESCALATE = "case.escalate"
    CASE_AWAIT_CUSTOMER = "case.await_customer"
    CASE_CLOSE = "case.close"
    INCIDENT_ASSIGN = "incident.assign"
    INCIDENT_RELEASE = "incident.release"
    INCIDENT_CLOSE = "incident.close"
    ROUTING_EDIT = "routing.edit"

    HOLD_PLACE = "hold.place"
    HOLD_RELEASE = "hold.release"
    TARGET_PAUSE = "target.pause"
    TARGET_RESUME = "target.resume"
    TARGET_EDIT = "target.edit"
    CALENDAR_EDIT = "calendar.edit"
    RESOURCE_EDIT = "resource.edit"
    LOCK_BREAK = "lock.break"
    EVENT_MATCH = "event.match"
    EVENT_REPLAY = "event.replay"
    EVENT_DISMISS = "event.dismiss"
    """It is about nothing of ours."""
    EVENT_RESTORE = "event.restore"
    SIGNAL_SEND = "signal.send"
    WORKFLOW_PUBLISH = "workflow.publish"
    SCHEDULE_RUN = "schedule.run"
    SUBSCRIPTION_EDIT = "subscription.edit"
    DELIVERY_RESEND = "delivery.resend"
    NOTIFICATION_RESEND = "notification.resend"
    KEY_EDIT = "key.edit"

    BULK_START = "bulk.start"
    BULK_CONTROL = "bulk.control"

    APPROVE_OPERATIONS = "approve.operations"
    APPROVE_FINANCE = "approve.finance"
    APPROVE_PAYMENT = "approve.payment"
    APPROVE_SENIOR = "approve.senior"
    GRANT_EDIT = "grant.edit"

    @property
    def codename(self) -> str:
        """Of its Django permission, in the app `fulfillment`."""
        return self.value.replace(".", "_")

    @property
    def words(self) -> str:
        """In words, as permissions and lists name it."""
        return TITLES[self]


TITLES: dict[Action, str] = {
    Action.TASK_RETRY: "Try a failed task again",
    Action.TASK_SKIP: "Skip a task",
    Action.TASK_WAIVE: "Waive a task",
    Action.TASK_CORRECT: "Correct what a task is sent",
    Action.TASK_REFERENCE: "Enter a missing downstream reference",
    Action.TASK_RECONCILE: "Say what became of a task",
    Action.PLAN_REGENERATE: "Plan the rest of an order anew",
    Action.PLAN_COMPENSATE: "Undo what a task has done",
    Action.PLAN_TERMINATE: "Give an order up",
    Action.PLAN_MIGRATE: "Move orders to another workflow version",
    Action.ORDER_FORCE_COMPLETE: "Complete an order by force",
    Action.ORDER_CANCEL: "Cancel an order",
    Action.ORDER_CHANGE: "Change an order",
    Action.ORDER_EVIDENCE: "Take an order's evidence",
    Action.MANUAL_CLAIM: "Take a manual task",
    Action.MANUAL_RELEASE: "Give a manual task back",
    Action.MANUAL_REASSIGN: "Give a manual task to somebody else",
    Action.MANUAL_RESUME: "Go on with a manual task that awaits an answer",
    Action.MANUAL_DECIDE: "Decide a manual task",
    Action.CASE_ASSIGN: "Assign a case",
    Action.CASE_ESCALATE: "Escalate a case",
    Action.CASE_AWAIT_CUSTOMER: "Stop a case's time while the customer is awaited",
    Action.CASE_CLOSE: "Close a case",
    Action.INCIDENT_ASSIGN: "Assign an incident",
    Action.INCIDENT_RELEASE: "Release the orders of an incident",
    Action.INCIDENT_CLOSE: "Close an incident",
    Action.ROUTING_EDIT: "Say who gets which cases",
    Action.HOLD_PLACE: "Place a hold",
    Action.HOLD_RELEASE: "Release a hold",
    Action.TARGET_PAUSE: "Pause a target system",
    Action.TARGET_RESUME: "Resume a target system",
    Action.TARGET_EDIT: "Edit a target system",
    Action.CALENDAR_EDIT: "Edit a business calendar",
    Action.RESOURCE_EDIT: "Edit the capacity of a resource",
    Action.LOCK_BREAK: "Break a lock",
    Action.EVENT_MATCH: "Say what an unmatched event is about",
    Action.EVENT_REPLAY: "Take an unmatched event in anew",
    Action.EVENT_DISMISS: "Set an unmatched event aside",
    Action.EVENT_RESTORE: "Bring back an event that was set aside",
    Action.SIGNAL_SEND: "Report a milestone or a signal by hand",
    Action.WORKFLOW_PUBLISH: "Publish a workflow",
    Action.SCHEDULE_RUN: "Submit a scheduled job now",
    Action.SUBSCRIPTION_EDIT: "Say who gets which events",
    Action.DELIVERY_RESEND: "Send dead letters again",
    Action.NOTIFICATION_RESEND: "Send messages to customers again",
    Action.KEY_EDIT: "Make and revoke API keys",
    Action.BULK_START: "Start a bulk job",
    Action.BULK_CONTROL: "Stop a bulk job, or let it go on",
    Action.APPROVE_OPERATIONS: "Approve what operations ask for",
    Action.APPROVE_FINANCE: "Approve what costs revenue",
    Action.APPROVE_PAYMENT: "Approve what may charge a customer",
    Action.APPROVE_SENIOR: "Approve what overrules a workflow",
    Action.GRANT_EDIT: "Say who may do what",
}
APPROVALS = frozenset(
    {
        Action.APPROVE_OPERATIONS,
        Action.APPROVE_FINANCE,
        Action.APPROVE_PAYMENT,
        Action.APPROVE_SENIOR,
    }
)
"""What nobody does but a person who has proved who they are."""
HIGH_RISK = APPROVALS | frozenset(
    {
        Action.TASK_SKIP,
        Action.TASK_WAIVE,
        Action.TASK_CORRECT,
        Action.TASK_REFERENCE,
        Action.TASK_RECONCILE,
        Action.PLAN_COMPENSATE,
        Action.PLAN_TERMINATE,
        Action.ORDER_FORCE_COMPLETE,
        Action.LOCK_BREAK,
        Action.GRANT_EDIT,
    }
)
"""What being a superuser, or having a shell on the server, is not enough for."""
