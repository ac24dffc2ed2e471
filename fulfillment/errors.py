"""Errors of the orchestrator: each has a stable code, and says what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FulfillmentError(Exception):
    """Base of every error that the orchestrator raises on purpose."""

    code = "fulfillment.error"


class ConcurrentChange(FulfillmentError):
    """A row was not in the state that the unit of work had read: the unit is run again."""

    code = "fulfillment.concurrent_change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with a definition or a graph.

    `path` is dotted with list positions (`tasks.create_tenant.depends_on[0].success`); `file`
    and `line` (from 1) are empty when the definition did not come from a file.
    """

    code: str
    message: str
    path: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place = f"{place}:{self.line}"
        return " ".join(part for part in (place, self.path, f"[{self.code}]", self.message) if part)


class DefinitionInvalid(FulfillmentError):
    """A workflow definition or a graph has faults; all that were found are listed."""

    code = "fulfillment.definition_invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ValueUnavailable(FulfillmentError):
    """What a task is to be given, or a question to be decided by, can't be made of the data."""

    code = "fulfillment.value_unavailable"


class UndoUnknown(ValueUnavailable):
    """What an undo is to ask for could not be made of what the undone task has returned."""

    code = "fulfillment.undo_unknown"


class PublishedVersionDiffers(FulfillmentError):
    """This name and version is published with other content; publish it as a new version."""

    code = "fulfillment.published_version_differs"


class UnknownQueue(FulfillmentError):
    """A target system names a queue that no worker consumes; declare it in OMS_TARGET_QUEUES."""

    code = "fulfillment.unknown_queue"


class NeverOpens(FulfillmentError):
    """A window is not open, or a calendar has no working time, within the time to come."""

    code = "fulfillment.never_opens"


class CalendarUnknown(FulfillmentError):
    """No row describes a calendar of this name; `manage.py calendars load` writes one."""

    code = "fulfillment.calendar_unknown"


class CalendarInvalid(FulfillmentError):
    """A calendar's row can't be used; the message says where and why."""

    code = "fulfillment.calendar_invalid"


class RetryPoliciesInvalid(FulfillmentError):
    """A target system's retry policies can't be used; the message says where and why."""

    code = "fulfillment.retry_policies_invalid"


class TargetNamesTooAlike(FulfillmentError):
    """A new target system would share the secret of its callbacks with another; rename it."""

    code = "fulfillment.target_names_too_alike"


class TargetNameReserved(FulfillmentError):
    """The variable of its secret would be that of another one's file; rename it."""

    code = "fulfillment.target_name_reserved"


class SubjectUnknown(FulfillmentError):
    """There is nothing of that name that something could be done to."""

    code = "operation.subject_unknown"


class NotPossible(FulfillmentError):
    """As it stands now, this can't be done to it; the answer says what has changed, if it has."""

    code = "operation.not_possible"


class AlreadySo(NotPossible):
    """It is so already: somebody was quicker, or the same was asked for before."""

    code = "operation.already_so"


class ReasonMissing(FulfillmentError):
    """Whoever does something by hand has to say why."""

    code = "fulfillment.reason_missing"


class NothingToHold(SubjectUnknown):
    """What is to be held or paused does not exist; the message says how it is named."""

    code = "fulfillment.nothing_to_hold"


class HoldUnknown(SubjectUnknown):
    """There is no hold of this number."""

    code = "fulfillment.hold_unknown"


class HoldOfEngine(NotPossible):
    """The engine holds back what is to be given up or changed; it lets go when that is decided."""

    code = "fulfillment.hold_of_engine"


class GateBusy(FulfillmentError):
    """A hold or a pause could not be placed for the moment; nothing was changed."""

    code = "fulfillment.gate_busy"


class HoldWouldBeOver(FulfillmentError):
    """The end of a hold that is to be placed has passed already."""

    code = "fulfillment.hold_would_be_over"


class ResourceUnknown(SubjectUnknown):
    """No published workflow locks this kind of resource, or not in this way."""

    code = "fulfillment.resource_unknown"


class CapacityUnusable(FulfillmentError):
    """Less than orders ask for at once, so that some would wait for ever; or more than can be."""

    code = "fulfillment.capacity_unusable"


class CaseUnknown(SubjectUnknown):
    """There is no fallout case of this number."""

    code = "fulfillment.case_unknown"


class IncidentUnknown(SubjectUnknown):
    """There is no incident of this number."""

    code = "fulfillment.incident_unknown"


class RuleInvalid(FulfillmentError):
    """A rule about who gets which cases can't be used."""

    code = "fulfillment.rule_invalid"


class OrderUnknown(SubjectUnknown):
    """No order has this reference."""

    code = "fulfillment.order_unknown"


class ManualTaskUnknown(SubjectUnknown):
    code = "manual.unknown"


class OutcomeUnknown(FulfillmentError):
    code = "manual.unknown_outcome"


class ManualTaskTaken(NotPossible):
    """Somebody else has claimed it."""

    code = "manual.claimed"


class DecisionMade(NotPossible):
    """Somebody else has decided meanwhile."""

    code = "manual.decided"


class WorkflowUnknown(FulfillmentError):
    """No such version of a workflow is published."""

    code = "workflow.unknown"


class Denied(FulfillmentError):
    """Whoever asked for it may not do it; the answer says what is missing."""

    code = "authority.denied"


class OutcomeInDoubt(NotPossible):
    """It may have had an effect: that has to be settled first."""

    code = "operation.outcome_in_doubt"


class SubjectChanged(NotPossible):
    """It is not as it was when whoever asks has looked at it."""

    code = "operation.subject_changed"


class ParametersInvalid(FulfillmentError):
    """What was given with an operation does not fit; `faults` has everything that is wrong."""

    code = "operation.parameters_invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(" ".join(fault.message for fault in faults))


class ActionUnknown(FulfillmentError):
    """There is no such operation."""

    code = "operation.unknown"


class EvidenceMissing(FulfillmentError):
    """What was done rests on what somebody has found out; say where that can be seen."""

    code = "operation.evidence_missing"


class ApprovalUnknown(SubjectUnknown):
    """There is no approval of that number."""

    code = "approval.unknown"


class ApprovalNotOpen(NotPossible):
    """It was decided, has expired, or is about something that has changed since."""

    code = "approval.not_open"


class ApprovalNeeded(FulfillmentError):
    """One person alone may not do it: it is asked for, and another approves."""

    code = "approval.needed"


class NothingToRetry(NotPossible):
    code = "task.nothing_to_retry"


class BulkJobUnknown(SubjectUnknown):
    """There is no bulk job of that number."""

    code = "bulk.unknown"


class SelectionInvalid(FulfillmentError):
    """What a bulk job is to be about can't be found this way; the message says how."""

    code = "bulk.selection_invalid"


class BulkNotPossible(NotPossible):
    """As the job or its rows stand, this can't be done; the message says what comes first."""

    code = "bulk.not_possible"
