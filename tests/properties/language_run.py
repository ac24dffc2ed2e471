"""The engine and the model of its language side by side, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st

from adapters.contract import Outcome
from fulfillment import operations
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine import audit, callbacks, scanning, signals, sweeping
from fulfillment.engine.claiming import Claim
from fulfillment.errors import NothingToRetry
from fulfillment.models import Fulfillment, ManualTask, Plan, Purpose, Signal, Task
from fulfillment.publishing import publish
from oms.intake import workflows
from oms.models import Order
from tests import desk
from tests.properties import language_model as model
from tests.properties.language_tree import Expansion
from tests.properties.templates import KEYS, MILESTONES, SHARED, SIGNAL, Template, templates

T = TypeVar("T")
HOUR = 3600.0
TARGETS = ("alpha", "beta")
FATES = ("done", "refused", "busy", "broken", "accepted", "lost", "done, unheard")
"""What becomes of a request; a target that can be asked tells the truth about it."""


@dataclass(frozen=True)
class Work:
    """A worker claims and calls; the answers are settled together or one by one."""

    target: int
    fates: tuple[tuple[str, int], ...]
    together: bool = True


@dataclass(frozen=True)
class Report:
    """A target system reports on a job that it has taken."""

    job: int
    done: bool
    value: int


@dataclass(frozen=True)
class Again:
    """A report comes once more, as the same event or as another."""

    event: int
    same: bool


@dataclass(frozen=True)
class Tell:
    """A milestone of an order, or a signal with a key."""

    name: str
    about: int
    event: int
    value: int | None


@dataclass(frozen=True)
class Decide:
    which: int
    outcome: int


@dataclass(frozen=True)
class Retry:
    which: int


@dataclass(frozen=True)
class Wait:
    hours: int


@dataclass(frozen=True)
class Sweep:
    pass


@dataclass(frozen=True)
class Scan:
    """What beat asks for: select what is due, tell what is to be told."""


Step = Work | Report | Again | Tell | Decide | Retry | Wait | Sweep | Scan


@dataclass(frozen=True)
class Item:
    n: int = 5
    list: tuple[int, ...] = (1, 2)
    soon: float = 2.5


@dataclass(frozen=True)
class Scenario:
    template: Template
    orders: tuple[tuple[int, tuple[Item, ...]], ...]
    """Priority and items of each."""
    fast_path: bool
    steps: tuple[Step, ...]


_which = st.integers(0, 5)
_value = st.integers(0, 9)
_fate = st.tuples(st.sampled_from(("done",) * 6 + FATES + ("lost", "refused")), _value)
_work = st.builds(Work, _which, st.lists(_fate, min_size=1, max_size=4).map(tuple), st.booleans())
_steps = st.one_of(
    *(_work,) * 8,
    *(st.builds(Decide, _which, st.sampled_from((0, 0, 1, 2))),) * 2,
    *(st.builds(Wait, st.sampled_from((1, 2, 4))), st.builds(Sweep), st.builds(Scan)) * 2,
    st.builds(Report, _which, st.sampled_from((True, True, False)), _value),
    st.builds(Again, _which, st.booleans()),
    st.builds(
        Tell,
        st.sampled_from((*MILESTONES, SIGNAL)),
        st.integers(0, 1),
        st.integers(0, 9),
        st.one_of(_value, st.none()),
    ),
    st.builds(Retry, _which),
)
_items = st.builds(
    Item,
    _value,
    st.lists(_value, max_size=5).map(tuple),
    st.sampled_from((2.5, 0.5, -1.5, 6.5)),
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    length = draw(st.integers(0, 30))
    one = st.tuples(st.sampled_from((0, 5)), st.lists(_items, min_size=1, max_size=2).map(tuple))
    return Scenario(
        template=draw(templates()),
        orders=tuple(draw(st.lists(one, min_size=1, max_size=2))),
        fast_path=draw(st.sampled_from((True, True, False))),
        steps=tuple(draw(st.lists(_steps, min_size=length, max_size=length))),
    )


# --- the world outside ----------------------------------------------------------------------------


@dataclass
class World:
    """Target systems that deduplicate, and tell the truth when they are asked."""

    known: dict[str, Outcome] = field(default_factory=dict)
    jobs: dict[str, Claim] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    events: list[callbacks.Report] = field(default_factory=list)
    effects: Counter[int] = field(default_factory=Counter)
    """Of each task."""

    def answer(self, claim: Claim, fate: str, outputs: Mapping[str, Any]) -> tuple[Outcome, str]:
        """What the caller hears, and what the model calls that."""
        key = claim.command.idempotency_key
        known = self.known.get(key)
        if claim.purpose is Purpose.QUERY:
            if known is None:
                working = key in self.jobs
                return (desk.accepted(), "accepted") if working else (_NEVER, "never arrived")
            return known, _called(known)
        if fate.startswith("lost") and self.lost[key] < 3:
            self.lost[key] += 1
            return desk.unknown(), "lost"
        if known is None and key in self.jobs:
            return desk.accepted(), "accepted"
        if known is not None:
            return known, _called(known)
        if fate == "busy":
            return desk.failed(), "busy"
        if fate == "broken":
            return desk.failed("bad_request", retryable=False), "broken"
        if fate == "accepted":
            self.jobs[key] = claim
            return desk.accepted(), "accepted"
        self.known[key] = desk.rejected() if fate == "refused" else self.done(claim, outputs)
        if fate == "done, unheard":
            return desk.unknown(), "lost"
        return self.known[key], _called(self.known[key])

    def done(self, claim: Claim, outputs: Mapping[str, Any]) -> Outcome:
        self.effects[claim.task_id] += 1
        return desk.succeeded(**outputs)

    def report(self, key: str, *, done: bool, outputs: Mapping[str, Any]) -> callbacks.Report:
        claim = self.jobs.pop(key)
        self.known[key] = self.done(claim, outputs) if done else desk.rejected()
        self.events.append(
            callbacks.Report(
                source=claim.command.target,
                event_id=f"E-{len(self.events)}",
                idempotency_key=key,
                outcome=self.known[key],
                body={},
            )
        )
        return self.events[-1]


_NEVER = desk.not_found()


def _called(outcome: Outcome) -> str:
    return "done" if outcome.kind == desk.succeeded().kind else "refused"


# --- side by side -----------------------------------------------------------------------------


class Run:
    """One scenario: each step is taken by the engine and told to the model, then compared."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World()
        self.hours = 0.0
        self.told: set[str] = set()
        self.reports: dict[str, tuple[Plan, model.Place]] = {}
        for name in TARGETS:
            desk.target(
                name,
                status_query=name in model.ASKABLE,
                query_slots=100,
                sender_slots=100,
            )
        for document in scenario.template.documents():
            publish(definition=WorkflowDefinition.model_validate(document), published_by="a test")
        workflows.forget()
        start = desk.now()
        submitted = desk.submit_all(
            *(
                desk.request(
                    *(
                        desk.item(
                            item_id=str(position),
                            characteristics={
                                "n": item.n,
                                "list": list(item.list),
                                "soon": (start + timedelta(hours=item.soon)).isoformat(),
                            },
                        )
                        for position, item in enumerate(items, 1)
                    ),
                    external_id=str(number),
                    channel=str(1 - number),
                    priority=priority,
                )
                for number, (priority, items) in enumerate(scenario.orders)
            )
        )
        self.orders = [Order.objects.get(reference=one.reference) for one in submitted]
        reported: list[tuple[str, str, Mapping[str, Any]]] = []
        self.plans = {
            order.fulfillment_id: model.Plan(
                nodes=_expanded(scenario.template, len(items)),
                order={
                    "external_id": str(number),
                    "channel": str(1 - number),
                    "priority": priority,
                },
                items=[{"n": one.n, "list": list(one.list), "soon": one.soon} for one in items],
                meanings=scenario.template.meanings,
                reported=reported,
                fast_path=scenario.fast_path,
                shared=scenario.template.shared,
            )
            for number, (order, (priority, items)) in enumerate(
                zip(self.orders, scenario.orders, strict=True)
            )
        }
        self.reported = reported
        for plan in self.plans.values():
            plan.go_on()
        self.compare()

    def reached(self) -> None:
        for plan in self.plans.values():
            plan.reach_milestones()

    # --- steps ----------------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        desk.advance(2)  # Pauses before another attempt are shorter.
        match step:
            case Work(target, fates, together):
                self.work(TARGETS[target % 2], fates, together=together)
            case Report(job, done, value):
                for key in _picked(self.world.jobs, job):
                    claim = self.world.jobs[key]
                    self.deliver(
                        self.world.report(key, done=done, outputs=self.outputs(claim, value))
                    )
            case Again(event, same):
                for report in _picked(self.world.events, event):
                    self.deliver(report, again="" if same else "-again")
            case Tell():
                self.tell(step)
            case Decide(which, outcome):
                for manual in _picked(self.open_manual(), which):
                    self.decide(manual, ("yes", "maybe", "no")[outcome])
            case Retry(which):
                self.retry(which)
            case Wait(hours):
                desk.advance(hours * HOUR)
                self.hours += hours
                for plan in self.plans.values():
                    plan.now = self.hours
                return
            case Sweep():
                sweeping.sweep()
                for plan in self.plans.values():
                    plan.sweep()
            case Scan():
                self.scan()
        self.compare()

    def scan(self) -> None:
        due = set(
            Plan.objects.exclude(selection_due_at=None).values_list("fulfillment_id", flat=True)
        )
        scanning.scan()
        for fulfillment_id in due:
            self.plans[fulfillment_id].go_on(select=True)
        self.reached()
        for signal in Signal.objects.filter(applied=False).order_by("pk"):
            about = self.subject_of(signal)
            for plan in self.plans.values():
                plan.tell(about, signal.name, signal.payload)
            self.reached()
        signals.apply_new()

    def work(self, target: str, fates: Sequence[tuple[str, int]], *, together: bool = True) -> int:
        claims = desk.claim(target, limit=len(fates))
        self.are_the_next(target, claims, len(fates))
        answers = []
        for claim, (fate, value) in zip(claims, fates, strict=False):
            plan, place = self.place(claim.fulfillment_id, claim.task_id)
            if claim.purpose is Purpose.SEND:
                plan.send(place)
            assert claim.command.payload == plan.payloads[place]
            answers.append((claim, *self.world.answer(claim, fate, self.outputs(claim, value))))
        batches = [answers] if together else [[one] for one in answers]
        for batch in batches:
            if batch:
                desk.settle(*(desk.result(claim, outcome) for claim, outcome, _ in batch))
            for claim, outcome, told in batch:
                plan, place = self.place(claim.fulfillment_id, claim.task_id)
                plan.hear(place, told, outcome.outputs)
                plan.go_on(select=False)
            for plan in self.plans.values():
                plan.go_on()
            self.reached()
        self.compare()
        return len(claims)

    def are_the_next(self, target: str, claims: Sequence[Claim], limit: int) -> None:
        """deterministic-selection: priority, then depth, then id; questions come first."""
        ids = {(task.fulfillment_id, task.key): task.pk for task in Task.objects.all()}
        questions, sends = [], []
        for fulfillment_id, plan in self.plans.items():
            for place in plan.claimable(target):
                task_id = ids[fulfillment_id, _key(place)]
                rank = (-plan.order["priority"], depth_of(plan.nodes, place[0]), task_id)
                (questions if plan.states[place] == "OUTCOME_UNKNOWN" else sends).append(rank)
        asked = [claim.task_id for claim in claims if claim.purpose is Purpose.QUERY]
        sent = [claim.task_id for claim in claims if claim.purpose is Purpose.SEND]
        assert len(asked) == min(limit, len(questions))
        assert set(asked) <= {rank[-1] for rank in questions}
        assert sent == [rank[-1] for rank in sorted(sends)][: limit - len(asked)]

    def outputs(self, claim: Claim, value: int) -> dict[str, Any]:
        """What the target returns: one number says it all."""
        plan, place = self.place(claim.fulfillment_id, claim.task_id)
        found: dict[str, Any] = {}
        for name in plan.nodes[place[0]].spec.get("outputs", {}):
            if name == "n":
                found[name] = value
            elif name == "parts":
                found[name] = list(range(value % 6))
            else:
                found[name] = _named(self.scenario.template, place[0], value)
        return found

    def deliver(self, report: callbacks.Report, again: str = "") -> None:
        event_id = report.event_id + again
        command_task = Task.objects.get(commands__idempotency_key=report.idempotency_key)
        callbacks.receive(
            report=callbacks.Report(
                source=report.source,
                event_id=event_id,
                idempotency_key=report.idempotency_key,
                outcome=report.outcome,
                body={},
            )
        )
        newest = command_task.commands.order_by("-revision").first()
        if newest.idempotency_key != report.idempotency_key:
            return  # Another way has been taken since.
        plan, place = self.place(command_task.fulfillment_id, command_task.pk)
        plan.hear(place, _called(report.outcome), report.outcome.outputs)
        plan.go_on()

    def tell(self, step: Tell) -> None:
        if step.name == SIGNAL:
            about, subject = (
                f"key {KEYS[step.about]}",
                signals.of_key(owner=self.client, key=KEYS[step.about]),
            )
        else:
            about = f"order {step.about}"
            subject = signals.of_order(business_key=f"{self.client}/{step.about}")
        values = {} if step.value is None else {"n": step.value}
        event_id = f"{step.name}-{step.about}-{step.event}"
        signals.receive(
            source="a test", event_id=event_id, name=step.name, subject=subject, payload=values
        )
        if event_id in self.told:
            return
        self.told.add(event_id)
        self.reported.append((about, step.name, values))
        for plan in self.plans.values():
            plan.tell(about, step.name, values)

    @property
    def client(self) -> str:
        key = Fulfillment.objects.values_list("business_key", flat=True)[0]
        return key.rpartition("/")[0]

    def subject_of(self, signal: Signal) -> str:
        kind, _, key = signal.subject.partition(":")
        return f"{kind} {key.rpartition('/')[2]}"

    def open_manual(self) -> list[ManualTask]:
        return list(ManualTask.objects.filter(state="OPEN").order_by("pk"))

    def decide(self, manual: ManualTask, outcome: str) -> None:
        plan, place = self.place(manual.fulfillment_id, manual.task_id)
        operations.decide(manual_id=manual.pk, outcome=outcome, actor="ann", reason="so")
        plan.decide(place, outcome)

    def retry(self, which: int) -> None:
        failed = Task.objects.filter(
            state="FAILED_FINAL", plan__state__in=["RUNNING", "BLOCKED"]
        ).order_by("pk")
        for task in _picked(list(failed), which):
            plan, place = self.place(task.fulfillment_id, task.pk)
            try:
                again = operations.retry(task_id=task.pk, actor="ann", reason="mended")
            except NothingToRetry:
                again = []
            assert set(again) == {_key(one) for one in plan.retry(place)}

    def finish(self) -> None:
        """From now on everything succeeds, time passes, and people decide what they are asked."""
        for _ in range(60):
            desk.advance(2)
            self.take(Wait(5))
            self.take(Sweep())
            self.take(Scan())
            for _ in list(self.world.jobs):
                self.take(Report(0, True, 1))
            moved = sum(self.work(name, [("done", 1)] * 50) for name in TARGETS)
            waiting = any(plan.moving for plan in self.plans.values())
            due = Plan.objects.exclude(selection_due_at=None).exists()
            if moved or waiting or due:
                continue
            manual = self.open_manual()
            if not manual:
                return
            self.take(Decide(0, 0))
        raise AssertionError("something moves for ever")

    # --- what must hold -------------------------------------------------------------------------

    def place(self, fulfillment_id: int, task_id: int) -> tuple[model.Plan, model.Place]:
        plan = self.plans[fulfillment_id]
        key = Task.objects.values_list("key", flat=True).get(pk=task_id)
        return plan, next(place for place in plan.states if _key(place) == key)

    def compare(self) -> None:
        self.reached()
        rows = list(Task.objects.all())
        for row in Plan.objects.all():
            plan = self.plans[row.fulfillment_id]
            tasks = {task.key: task for task in rows if task.plan_id == row.pk}
            if row.selection_due_at is None:
                plan.settle_down()
                assert not plan.lags, f"{plan.lags} could begin, and nobody looks"
            _same(
                {key: str(task.state) for key, task in tasks.items()},
                {_key(place): state for place, state in plan.states.items()},
            )
            counts = {
                name: getattr(row, name) for name in ("tasks_open", "mandatory_open", "moving")
            }
            _same(counts, {name: getattr(plan, name) for name in counts})
            if row.selection_due_at is None:
                _same({"plan": str(row.state)}, {"plan": plan.state})
            for place, state in plan.states.items():
                task = tasks[_key(place)]
                if state == "SUCCEEDED":
                    _same({task.key: task.outputs or {}}, {task.key: plan.outputs.get(place, {})})
                kind = plan.nodes[place[0]].kind
                effects = self.world.effects[task.pk]
                assert effects <= 1, f"{task.key} happened {effects} times"
                assert not effects or state not in ("PENDING", "FAILED_FINAL")
                assert kind != "command" or state != "SUCCEEDED" or effects == 1
            open_now = ManualTask.objects.filter(fulfillment_id=row.fulfillment_id, state="OPEN")
            asked = dict.fromkeys(open_now.values_list("task__key", flat=True), "asked")
            _same(asked, {_key(place): "asked" for place in plan.asked})

    def everything_ended(self) -> None:
        """Nothing waits silently: it is completed, or a person can see what keeps it."""
        for order in self.orders:
            order.refresh_from_db()
            plan = desk.plan_of(order)
            assert (plan.state, order.state) in {
                ("COMPLETED", "COMPLETED"),
                ("BLOCKED", "IN_PROGRESS"),
            }
            if plan.state == "BLOCKED":
                stuck = plan.tasks.filter(state__in=["FAILED_FINAL", "AWAITING_MANUAL"])
                assert stuck.exists(), "nothing moves, and nobody can tell why"
            assert audit.verify(fulfillment_id=order.fulfillment_id) == []
        shared = Signal.objects.filter(name=SHARED)
        reached = {(about, name) for about, name, _ in self.reported if name == SHARED}
        _same(
            {str((self.subject_of(one), one.name)): "reached" for one in shared},
            {str(one): "reached" for one in reached},
        )


def _same(engine: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    differ = {
        key: f"the engine has {engine.get(key)}, the model {expected.get(key)}"
        for key in sorted(engine.keys() | expected.keys())
        if engine.get(key) != expected.get(key)
    }
    assert not differ, differ


def _expanded(template: Template, items: int) -> dict[str, Any]:
    expansion = Expansion("thing", items, template.parts)
    return expansion.of(template.tasks)


def depth_of(nodes: Mapping[str, Any], key: str) -> int:
    """How many tasks at most stand in front of it."""
    node = nodes[key]
    before = [need.source for need in node.needs]
    before += [source for sources in node.reads.values() for source in sources]
    before += [node.enter] if node.enter else []
    if node.spread:
        before.append(node.spread)
    if node.kind == "gather":
        before += [one.last for one in nodes.values() if one.gather == key]
    return 1 + max((depth_of(nodes, one) for one in before), default=-1)


def _key(place: model.Place) -> str:
    """As operators see it."""
    key, element = place
    return f"{key.replace('~element', '')}[{element}]" if element else key


def _named(template: Template, key: str, value: int) -> list[str]:
    """Some of the branches that the decision behind it may create; now and then a wrong one."""
    name = key.rpartition("@")[0].rpartition("/")[2] or key.rpartition("/")[2]
    for spec in template.every_task():
        decide = spec.get("decide")
        if isinstance(decide, dict) and decide["names"] == f"${{tasks.{name}.names}}":
            if value == 9:
                return ["nobody"]
            return [one for bit, one in enumerate(decide["among"]) if value >> bit & 1]
    return []


def _picked(among: Iterable[T], which: int) -> list[T]:
    found = list(among)
    return [found[which % len(found)]] if found else []
