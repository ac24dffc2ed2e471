"""What is shown of a target system: on its card on the targets board, and above its settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of
from fulfillment.admin.operating import operate_address
from fulfillment.admin.reading import Badge, list_address
from fulfillment.authority.authorizing import places
from fulfillment.authority.context import Context
from fulfillment.definitions.durations import brief_duration
from fulfillment.definitions.signs import Sign
from fulfillment.models import FalloutCase, Task
from fulfillment.queries.on_the_way import Way
from fulfillment.queries.systems import PERIOD, STEPS, Calls, Health, Level
from fulfillment.waits.conditions import MOST, TargetState, TargetStatus

CONDITION_SIGNS: Mapping[TargetState, Sign] = {
    TargetState.WELL: ("✓", "done"),
    TargetState.PAUSED: ("‖", "trouble"),
    TargetState.HELD: ("⊖", "trouble"),
    TargetState.BREAKER_OPEN: ("✗", "failed"),
    TargetState.PROBING: ("◐", "trouble"),
    TargetState.AT_ITS_LIMIT: ("≡", "moving"),
    TargetState.RAMPING_UP: ("↗", "moving"),
}
_FAILING = Badge(sign="!", tone="failed", words="failing")
_INCIDENT = Badge(sign="!", tone="trouble", words="incident")
_UP, _DOWN = 16, 8
"""Heights of the plot's two halves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The last hour as columns, one a minute: answered calls upwards, those in vain downwards."""

    answered: str
    in_vain: str
    """Outlines in the units of `width` and `height`."""
    told: str
    """The same in words."""
    width: int = STEPS
    height: int = _UP + _DOWN
    middle: int = _UP


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One figure with what it is measured against; `percent` is None where that is nothing."""

    words: str
    figure: str
    of: str
    percent: int | None
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    words: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the board shows of one target system."""

    health: Health
    address: str
    badges: Sequence[Badge]
    plot: Plot
    calls: str
    """How the calls of the last hour went, in words."""
    meters: Sequence[Meter]
    notes: Sequence[str]
    """What else is to be said of its queue."""
    advice: str
    """What helps, beside what is wrong."""
    links: Sequence[Link]
    to_do: Sequence[Link]
    """What may be done to it by whoever looks."""


def badges_of(status: TargetStatus) -> list[Badge]:
    """Everything that is to be said of a target's condition; never nothing."""
    shown = []
    for state in status.states:
        sign, tone = CONDITION_SIGNS[state]
        shown.append(Badge(sign=sign, tone=tone, words=status.in_words(state)))
    return shown


def cards(request: HttpRequest, found: Sequence[Health]) -> list[Card]:
    """Of these target systems, in their order, for whoever looks at them."""
    contexts = [
        Context(
            subject=f"target:{one.name}",
            targets=frozenset({one.name}),
            domains=frozenset({one.status.fitness.row.domain}),
        )
        for one in found
    ]
    allowed = {
        action: places(actor=actor_of(request), action=action, contexts=contexts)
        for action in (Action.TARGET_PAUSE, Action.TARGET_RESUME)
    }
    deepest = max((one.status.waiting + one.status.later for one in found), default=0)
    return [_card(one, deepest, allowed) for one in found]


def _card(one: Health, deepest: int, allowed: Mapping[Action, Collection[str]]) -> Card:
    return Card(
        health=one,
        address=reverse("admin:fulfillment_targetsystem_change", args=[one.name]),
        badges=health_badges(one),
        plot=plot_of(one),
        calls=told_of(one),
        meters=list(_meters(one, deepest)),
        notes=list(_notes(one)),
        advice=_advice(one),
        links=list(_links(one)),
        to_do=list(_to_do(one, allowed)),
    )


def health_badges(one: Health) -> list[Badge]:
    """The same, and that it fails although its condition is well."""
    if one.status.is_well and one.level is Level.FAILING:
        return [_FAILING if one.lately.is_failing else _INCIDENT]
    return badges_of(one.status)


def plot_of(one: Health) -> Plot:
    """In one scale, whatever is drawn: the highest column fills its half."""
    answered = [step.well + step.refused for step in one.course]
    in_vain = [step.in_vain for step in one.course]
    most, worst = max(answered), max(in_vain)
    unit = min(_UP / most if most else 1.0, _DOWN / worst if worst else 1.0)
    told = f"Calls of the last hour, minute by minute: at most {most:,} were answered"
    return Plot(
        answered="".join(
            f"M{place} {_UP}v-{count * unit:.1f}h1V{_UP}z"
            for place, count in enumerate(answered)
            if count
        ),
        in_vain="".join(
            f"M{place} {_UP}v{count * unit:.1f}h1V{_UP}z"
            for place, count in enumerate(in_vain)
            if count
        ),
        told=f"{told} in one minute, and at most {worst:,} were in vain.",
    )


def told_of(one: Health) -> str:
    """How the calls of the last hour went, in a few words."""
    hour = one.hour
    if not hour.ended:
        return "No calls in the last hour"
    calls = "1 call" if hour.ended == 1 else f"{hour.ended:,} calls"
    cut = one.status.fitness.now - one.since < PERIOD
    since = f"Since {one.since:%H:%M}" if cut else "Last hour"
    took = f", {brief_duration(one.median)} each" if one.median is not None else ""
    return f"{since}: {calls}, {share(hour)} in vain{took}"


def share(calls: Calls) -> str:
    """Never “0%” of what there is."""
    if not calls.in_vain:
        return "none"
    return f"{max(0.01, calls.share_in_vain):.0%}"


def _meters(one: Health, deepest: int) -> Iterator[Meter]:
    limit = one.allowed_rate
    queue = one.status.waiting + one.status.later
    yield Meter(
        words="Under way",
        figure=f"{one.under_way:,}",
        of=f"of {one.slots:,}" if one.is_limited else "no limit",
        percent=_percent(one.under_way, one.slots) if one.is_limited else None,
    )
    yield Meter(
        words="Per second",
        figure=_rate(one.rate),
        of="no limit" if limit is None else f"of {limit:.3g}",
        percent=None if limit is None else _percent(one.rate, limit),
    )
    yield Meter(
        words="Waiting",
        figure=f"{queue:,}" if queue < MOST else f"{MOST:,}+",
        of="" if one.waiting_for is None else f"for {brief_duration(one.waiting_for)}",
        percent=_percent(queue, deepest),
        address=tasks_on_the_way(one.name, Way.TO_BE_SENT) if queue else "",
    )


def tasks_on_the_way(target: str, way: Way) -> str:
    """The list of its tasks that are to be sent, or have a call under way."""
    return list_address(Task, target__name__exact=target, way=way.value)


def _rate(rate: float) -> str:
    return "0" if not rate else f"{rate:.1f}" if rate >= 0.1 else "< 0.1"


def _percent(part: float, whole: float) -> int:
    """At least a little where there is anything, and never more than all."""
    if not part or not whole:
        return 0
    return max(2, min(100, round(100 * part / whole)))


def _notes(one: Health) -> Iterator[str]:
    status = one.status
    later = status.later - status.retrying
    for count, words in (
        (status.retrying, "to be tried again"),
        (later, "at a later time"),
        (status.in_doubt, "in doubt"),
        (status.accepted, "accepted, not done yet"),
        (status.held, "held"),
    ):
        if count:
            yield f"{count:,}{'+' if count >= MOST else ''} {words}"


def _advice(one: Health) -> str:
    states = one.status.states
    if TargetState.PAUSED in states:
        return "Resume it when it is well again."
    if TargetState.HELD in states:
        return "Release the hold when its reason is gone."
    if TargetState.BREAKER_OPEN in states or TargetState.PROBING in states:
        return "It is tried by itself: tell its owner, and wait."
    if one.lately.is_failing:
        return "Tell its owner; while it is paused no attempts are used up."
    if one.incidents:
        return "Its incident is fixed once, for all of these orders."
    return ""


def _links(one: Health) -> Iterator[Link]:
    if one.status.called:
        tasks = "1 task" if one.status.called == 1 else f"{one.status.called:,} tasks"
        address = tasks_on_the_way(one.name, Way.CALLED)
        yield Link(words=f"{tasks} being sent or asked for", address=address)
    for incident in one.incidents[:2]:
        address = reverse("admin:fulfillment_incident_change", args=[incident.pk])
        yield Link(words=f"Incident {incident.pk}", address=address)
    if one.open_cases:
        cases = "1 open case" if one.open_cases == 1 else f"{one.open_cases:,} open cases"
        address = list_address(FalloutCase, resolved_at__isempty="1", target__exact=one.name)
        yield Link(words=cases, address=address)


def _to_do(one: Health, allowed: Mapping[Action, Collection[str]]) -> Iterator[Link]:
    subject = f"target:{one.name}"
    ramp = one.status.fitness.row.ramp
    over = f" over {brief_duration(ramp)}" if ramp else ""
    is_paused = one.status.fitness.condition.paused
    action = Action.TARGET_RESUME if is_paused else Action.TARGET_PAUSE
    if subject in allowed[action]:
        words = f"Resume{over}" if is_paused else "Pause"
        yield Link(words=words, address=operate_address(operations.repair_of(action), subject))
