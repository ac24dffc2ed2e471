"""What a task of each kind becomes as a node: the fields that only its kind has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from fulfillment.definitions.calendar_specs import window_document
from fulfillment.definitions.clocks import Standing, TimeoutSpec
from fulfillment.definitions.dependencies import DelayWait, InstantWait, MilestoneWait, SignalWait
from fulfillment.definitions.durations import plain_seconds
from fulfillment.definitions.node_parts import (
    Approval,
    Clocks,
    Compensation,
    Decision,
    Fallback,
    Impact,
    Lock,
    Manual,
    Milestone,
    NodeKind,
    Output,
    PointOfNoReturn,
    Retry,
    Rule,
    Wait,
)
from fulfillment.definitions.retry_specs import RetryPolicySpec
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.steps import (
    AnyStep,
    CommandSpec,
    DecisionSpec,
    EscalateTo,
    LockSpec,
    ManualSpec,
    NamedBranches,
    OutputSpec,
    WaitSpec,
)
from fulfillment.definitions.steps import Rule as RuleSpec
from fulfillment.definitions.undo_specs import (
    CompensationSpec,
    NoCompensation,
    PointOfNoReturnSpec,
)

_CALL, _CALLBACK = 10, 300
"""Seconds, of those that are computed; what they come to goes before."""


def fields_of(definition: WorkflowDefinition, task: AnyStep) -> dict[str, Any]:
    match task:
        case CommandSpec():
            return _command(definition, task)
        case DecisionSpec():
            return {"kind": NodeKind.DECISION, "decision": _decision(task)}
        case WaitSpec():
            return {
                "kind": NodeKind.WAIT,
                "wait": _wait(task),
                "stops_clock": task.clock is Standing.STOP,
            }
        case ManualSpec():
            work = task.manual
            return {
                "kind": NodeKind.MANUAL,
                "manual": Manual(
                    queue=work.queue,
                    role=work.role,
                    instructions=work.instructions,
                    outcomes={name: effect.value for name, effect in work.outcomes.items()},
                    within_seconds=plain_seconds(work.within),
                    otherwise=work.otherwise,
                    calendar=work.calendar or "",
                    **_escalation(work.escalate_to),
                ),
                "stops_clock": task.clock is Standing.STOP,
            }
    raise AssertionError(f"{task!r} is not a task by itself")


def _escalation(to: EscalateTo | None) -> dict[str, Any]:
    if to is None:
        return {}
    return {
        "escalate_role": to.role,
        "escalate_queue": to.queue or "",
        "escalate_within_seconds": None if to.within is None else plain_seconds(to.within),
    }


def _command(definition: WorkflowDefinition, task: CommandSpec) -> dict[str, Any]:
    return {
        "target": task.target,
        "action": task.action,
        "input": task.input,
        "irreversible": task.irreversible,
        "retry": _retry(definition.retry_policy(task)),
        "call_timeout_seconds": _seconds(task.timeouts.call) or _CALL,
        "callback_timeout_seconds": _seconds(task.timeouts.callback) or _CALLBACK,
        "clocks": _clocks(task.timeouts),
        "locks": locks_of(task.locks),
        "window": None if task.window is None else window_document(task.window.window()),
        "fallbacks": tuple(
            Fallback(
                target=one.target,
                action=one.action,
                input=one.input,
                unless=one.unless,
                **_undo(definition, one.compensation or task.compensation, by=one.target),
            )
            for one in task.fallback
        ),
        **_undo(definition, task.compensation, by=task.target),
        "point_of_no_return": _point_of_no_return(task.point_of_no_return),
    }


def _seconds(time: timedelta | str | None) -> float | None:
    return plain_seconds(time) if isinstance(time, timedelta) else None


def _clocks(timeouts: TimeoutSpec) -> Clocks | None:
    found = Clocks(
        start_to_close_seconds=_seconds(timeouts.start_to_close),
        schedule_to_start_seconds=_seconds(timeouts.schedule_to_start),
        schedule_to_close_seconds=_seconds(timeouts.schedule_to_close),
        heartbeat_seconds=_seconds(timeouts.heartbeat),
        when_sent=timeouts.when_sent.value,
        when_unsent=timeouts.when_unsent.value,
        computed=tuple(timeouts.computed.items()),
    )
    return None if found == Clocks() else found


def locks_of(declared: Sequence[LockSpec]) -> tuple[Lock, ...]:
    return tuple(Lock(resource=one.resource, key=one.key, units=one.units) for one in declared)


def _undo(
    definition: WorkflowDefinition, declared: CompensationSpec | NoCompensation, *, by: str
) -> dict[str, Any]:
    """What is done by one target is undone there, unless another is named."""
    impact = declared.impact
    if isinstance(declared, NoCompensation):
        lasting = Impact(
            customer=impact.customer or "",
            financial=impact.financial or "",
            legal=impact.legal or "",
        )
        return {
            "compensation": None,
            "no_compensation": declared.none,
            "lasting_impact": None if lasting == Impact() else lasting,
        }
    asked = declared.approval
    undo = Compensation(
        target=declared.target or by,
        action=declared.action,
        input=declared.input,
        within_seconds=None if declared.within is None else plain_seconds(declared.within),
        approval=None
        if asked is None
        else Approval(
            queue=asked.queue, role=asked.role, within_seconds=plain_seconds(asked.within)
        ),
        retry=_retry(definition.retry_policy(declared)),
        call_timeout_seconds=plain_seconds(declared.timeouts.call),
        callback_timeout_seconds=plain_seconds(declared.timeouts.callback),
        refund=declared.refund or "",
        customer_impact=impact.customer or "",
        financial_impact=impact.financial or "",
        legal_impact=impact.legal or "",
    )
    return {"compensation": undo, "no_compensation": ""}


def _point_of_no_return(declared: PointOfNoReturnSpec | None) -> PointOfNoReturn | None:
    if declared is None:
        return None
    return PointOfNoReturn(
        kind=declared.kind.value,
        reason=declared.reason,
        cost=declared.cost or "",
        window_seconds=0 if declared.window is None else plain_seconds(declared.window),
    )


def _decision(task: DecisionSpec) -> Decision:
    if isinstance(task.decide, NamedBranches):
        return Decision(names=task.decide.names, among=task.decide.among)
    return Decision(
        rules=tuple(
            Rule(when=rule.when, create=rule.create)
            if isinstance(rule, RuleSpec)
            else Rule(when="", create=rule.otherwise)
            for rule in task.decide
        )
    )


def _wait(task: WaitSpec) -> Wait:
    match task.wait:
        case MilestoneWait() as wait:
            return Wait(
                kind="milestone",
                name=wait.milestone,
                key=wait.order or "",
                within_seconds=plain_seconds(wait.within),
                otherwise=wait.otherwise.value,
                default=wait.default,
            )
        case SignalWait() as wait:
            return Wait(
                kind="signal",
                name=wait.signal,
                key=wait.key,
                within_seconds=plain_seconds(wait.within),
                otherwise=wait.otherwise.value,
                default=wait.default,
            )
        case InstantWait() as wait:
            return Wait(kind="until", key=wait.until)
        case DelayWait() as wait:
            return Wait(kind="delay", delay_seconds=plain_seconds(wait.delay))
    raise AssertionError(f"{task.wait!r} is no wait")


def outputs_of(declared: Mapping[str, OutputSpec]) -> dict[str, Output]:
    return {
        name: Output(type=spec.type, optional=spec.optional, valid_until=spec.valid_until or "")
        for name, spec in declared.items()
    }


def milestones_of(definition: WorkflowDefinition, name: str) -> tuple[Milestone, ...]:
    return tuple(
        Milestone(name=milestone, title=spec.title, shared=spec.shared)
        for milestone, spec in definition.milestones.items()
        if spec.reached_by == name
    )


def _retry(policy: RetryPolicySpec | None) -> Retry | None:
    if policy is None:
        return None
    return Retry(
        initial_interval_seconds=plain_seconds(policy.initial_interval),
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval_seconds=plain_seconds(policy.maximum_interval),
        maximum_attempts=policy.maximum_attempts,
        retryable=policy.retryable,
        non_retryable=policy.non_retryable,
        reconcile_first=policy.reconcile_first,
        escalate_after=policy.escalate_after,
    )
