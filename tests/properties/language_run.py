"""The engine and the model of its language side by side, step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fulfillment import operations
from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import scanning, signals
from fulfillment.engine.store import graphs
from fulfillment.engine.work import audit
from fulfillment.errors import DefinitionInvalid, NothingToRetry
from fulfillment.models import (
    Fulfillment,
    ManualOrigin,
    ManualTask,
    Plan,
    Purpose,
    Signal,
    Task,
)
from fulfillment.queries.why import why
from fulfillment.states import PLAN_SELECTABLE, TASK_SENDABLE, Cause
from oms.models import Order
from tests import desk
from tests.desk import by
from tests.properties import language_model as model
from tests.properties.language_scenarios import (
    Again,
    Decide,
    Report,
    Retry,
    Scan,
    Scenario,
    Step,
    Sweep,
    Tell,
    Wait,
    Work,
)
from tests.properties.language_setup import (
    HOUR,
    TARGETS,
    VALID_FOR,
    key_of,
    meant,
    nodes_of,
    picked,
    publish_all,
    returned,
    submit_all,
)
from tests.properties.language_world import World, called
from tests.properties.templates import KEYS, SHARED, SIGNAL

LOOKS = 3
"""How often a worker looks when what it has seen could not be sent after all."""


class Run:
    """One scenario: each step is taken by the engine and told to the model, then compared."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World()
        self.hours = 0.0
        self.told: set[str] = set()
        self.noted: set[str] = set()
        self.keys: dict[int, str] = {}
        self.fates = list(scenario.fates)
        self.retries = scenario.retries
        self.reports: dict[str, tuple[Plan, model.Place]] = {}
        self.start = desk.now()
        self.documents = publish_all(scenario.template, start=self.start)
        self.orders = submit_all(scenario.orders, start=self.start)
        reported: list[tuple[str, str, Mapping[str, Any] | None]] = []
        self.plans = {
            order.fulfillment_id: model.Plan(
                nodes=nodes,
                order={
                    "external_id": str(number),
                    "channel": str(1 - number),
                    "priority": priority,
                },
                items=[meant(one) for one in items],
                meanings=scenario.template.meanings,
                reported=reported,
                fast_path=scenario.fast_path,
                shared=scenario.template.shared,
                instant=self.hours_of,
                rank=_ranks(order, nodes),
            )
            for number, (order, (priority, items)) in enumerate(
                zip(self.orders, scenario.orders, strict=True)
            )
            for nodes in [nodes_of(scenario.template, positions=range(1, len(items) + 1))]
        }
        self.reported = reported
        for plan in self.plans.values():
            plan.go_on()
        self.compare()

    def at(self, hours: float) -> str:
        return (self.start + timedelta(hours=hours)).isoformat()

    def hours_of(self, text: str) -> float:
        return (datetime.fromisoformat(text) - self.start).total_seconds() / HOUR

    def reached(self) -> None:
        for plan in self.plans.values():
            plan.reach_milestones()

    # --- steps ----------------------------------------------------------------------------------

    def take(self, step: Step, *, look: bool = True) -> None:
        desk.advance(2)  # Pauses before another attempt are shorter.
        match step:
            case Work(target, limit, together):
                busy = [name for name in TARGETS if self.waiting_for(name)] or TARGETS
                self.work(busy[target % len(busy)], limit, together=together)
            case Report(job, done, value):
                for key in picked(self.world.jobs, job):
                    claim = self.world.jobs[key]
                    self.deliver(
                        self.world.report(key, done=done, outputs=self.outputs(claim, value))
                    )
            case Again(which, same):
                for report in picked(self.world.events, which) if same else ():
                    self.noted.add("a report twice")
                    self.deliver(report)
                for key in () if same else picked(self.world.known, which):
                    self.noted.add("a report twice, as another event")
                    self.deliver(self.world.event(key))
            case Tell():
                self.tell(step)
            case Decide(which, outcome, value):
                for manual in picked(self.open_manual(), which):
                    self.decide(manual, ("yes", "maybe", "no")[outcome], value)
            case Retry(which):
                self.retry(which)
            case Wait(hours):
                desk.advance(hours * HOUR)
                self.hours += hours
                self.noted.add("the clock jumps")
                for plan in self.plans.values():
                    plan.now = self.hours
                return
            case Sweep():
                sweeping.sweep()
                for plan in self.plans.values():
                    plan.sweep()
            case Scan():
                self.scan()
        if look:
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
                plan.tell(about, signal.name, None if signal.will_not_come else signal.payload)
            self.reached()
        signals.apply_new()

    def waiting_for(self, target: str) -> bool:
        return any(plan.questions(target) or plan.sendable(target) for plan in self.plans.values())

    def work(self, target: str, limit: int, *, together: bool = True) -> int:
        claims = desk.claim(target, limit=limit)
        self.are_the_next(target, claims, limit)
        answers = []
        for claim in claims:
            plan, place = self.place(claim.fulfillment_id, claim.task_id)
            fate, value = "done", 1
            if claim.purpose is Purpose.SEND:
                plan.send(place)
                fate, value = self.fates.pop(0) if self.fates else (fate, value)
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
        return len(claims)

    def are_the_next(self, target: str, claims: Sequence[Claim], limit: int) -> None:
        """deterministic-selection: priority, share, depth, id; questions come first."""
        asked = [claim.task_id for claim in claims if claim.purpose is Purpose.QUERY]
        sent = [claim.task_id for claim in claims if claim.purpose is Purpose.SEND]
        rows = Task.objects.filter(round=0).values_list("fulfillment_id", "key", "pk")
        ids = {(fulfillment_id, key): pk for fulfillment_id, key, pk in rows}
        questions = {
            ids[fulfillment_id, key_of(place)]
            for fulfillment_id, plan in self.plans.items()
            for place in plan.questions(target)
        }
        assert len(asked) == min(limit, len(questions))
        assert set(asked) <= questions
        expected: list[int] = []
        for _ in range(LOOKS):
            candidates = sorted(
                (
                    -plan.order["priority"],
                    _share(number, plan, place),
                    plan.rank[place[0]][0],
                    ids[fulfillment_id, key_of(place)],
                    plan,
                    place,
                )
                for number, (fulfillment_id, plan) in enumerate(self.plans.items())
                for place in plan.sendable(target)
            )[: limit - len(asked)]
            expected = [one[3] for one in candidates if not one[4].is_put_off(one[5])]
            for plan in self.plans.values():
                plan.go_on()
            if asked or expected or not candidates:
                break
        assert sent == expected, f"{target} gets {sent}, and should get {expected}"

    def outputs(self, claim: Claim, value: int) -> dict[str, Any]:
        plan, place = self.place(claim.fulfillment_id, claim.task_id)
        return returned(
            self.scenario.template,
            place=place,
            spec=plan.nodes[place[0]].spec,
            value=value,
            until=self.at(self.hours + VALID_FOR[value % 3]),
        )

    def deliver(self, report: callbacks.Report) -> None:
        command_task = Task.objects.get(commands__idempotency_key=report.idempotency_key)
        newest = command_task.commands.latest("revision")
        callbacks.receive(report=report)
        if newest.idempotency_key != report.idempotency_key or command_task.round:
            return  # Another way has been taken since, or it has been done anew.
        plan, place = self.place(command_task.fulfillment_id, command_task.pk)
        if plan.states[place] in model.TERMINAL:
            self.noted.add("a report of what has ended")
        plan.hear(place, called(report.outcome), report.outcome.outputs)
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
            self.noted.add("a signal twice")
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
        """What workflows ask people; what can't go on by itself asks in its own way."""
        asked = ManualTask.objects.filter(state="OPEN", origin=ManualOrigin.WORKFLOW)
        return list(asked.order_by("pk"))

    def decide(self, manual: ManualTask, outcome: str, value: int | None) -> None:
        plan, place = self.place(manual.fulfillment_id, manual.task_id)
        values = {"n": value} if value is not None and manual.fields else {}
        try:
            operations.decide(
                manual_id=manual.pk, outcome=outcome, values=values, actor=by("ann"), reason="so"
            )
        except DefinitionInvalid:
            assert not plan.decide(place, outcome, values)
            self.noted.add("a form not filled in")
        else:
            assert plan.decide(place, outcome, values)

    def retry(self, which: int) -> bool:
        failed = Task.objects.filter(
            state="FAILED_FINAL", plan__state__in=["RUNNING", "BLOCKED"]
        ).order_by("pk")
        for task in picked(list(failed), which):
            plan, place = self.place(task.fulfillment_id, task.pk)
            try:
                again = operations.retry(task_id=task.pk, actor=by("ann"), reason="mended")
            except NothingToRetry:
                again = []
            assert set(again) == {key_of(one) for one in plan.retry(place)}
            if again and plan.nodes[place[0]].kind == "gather":
                self.noted.add("only failed elements run again")
            return bool(again)
        return False

    def finish(self) -> None:
        """From now on everything succeeds, time passes, and people decide what they are asked."""
        for _ in range(60):
            desk.advance(2)
            self.take(Wait(5))
            self.take(Sweep(), look=False)
            self.take(Scan(), look=False)
            for _ in list(self.world.jobs):
                self.take(Report(0, True, 1), look=False)
            moved = sum(self.work(name, 50) for name in TARGETS)
            self.compare()
            waiting = any(plan.moving for plan in self.plans.values())
            due = Plan.objects.exclude(selection_due_at=None).exists()
            if moved or waiting or due:
                continue
            if self.open_manual():
                self.take(Decide(0, 0))
            elif not self.try_again():
                return
        raise AssertionError("something moves for ever")

    def try_again(self) -> bool:
        """Now and then somebody has mended what made tasks fail."""
        self.retries -= 1
        again = self.retries >= 0 and any(self.retry(which) for which in range(4))
        self.compare()
        return again

    # --- what must hold -------------------------------------------------------------------------

    def place(self, fulfillment_id: int, task_id: int) -> tuple[model.Plan, model.Place]:
        plan = self.plans[fulfillment_id]
        if task_id not in self.keys:
            self.keys[task_id] = Task.objects.values_list("key", flat=True).get(pk=task_id)
        return plan, next(place for place in plan.states if key_of(place) == self.keys[task_id])

    def compare(self) -> None:
        self.reached()
        rows = Task.objects.filter(round=0).values("pk", "key", "plan_id", "state", "outputs")
        tasks_of: dict[int, dict[str, Any]] = defaultdict(dict)
        for task in rows:
            tasks_of[task["plan_id"]][task["key"]] = task
        open_manual = ManualTask.objects.filter(state="OPEN", origin=ManualOrigin.WORKFLOW)
        open_now = set(open_manual.values_list("fulfillment_id", "task__key"))
        for row in Plan.objects.all():
            plan = self.plans[row.fulfillment_id]
            tasks = tasks_of[row.pk]
            if row.selection_due_at is None:
                plan.settle_down()
                plan.reach_milestones()
                assert not plan.lags, f"{plan.lags} could begin, and nobody looks"
            _same(
                {key: task["state"] for key, task in tasks.items()},
                {key_of(place): state for place, state in plan.states.items()},
            )
            counts = {
                name: getattr(row, name) for name in ("tasks_open", "mandatory_open", "moving")
            }
            _same(counts, {name: getattr(plan, name) for name in counts})
            if row.selection_due_at is None:
                _same({"plan": str(row.state)}, {"plan": plan.state})
            for place, state in plan.states.items():
                task = tasks[key_of(place)]
                if state == "SUCCEEDED":
                    outputs = task["outputs"] or {}
                    _same({task["key"]: outputs}, {task["key"]: plan.outputs.get(place, {})})
                effects = self.world.effects[task["pk"]]
                assert effects <= 1, f"{task['key']} happened {effects} times"
                assert not effects or state not in ("PENDING", "FAILED_FINAL")
                kind = plan.nodes[place[0]].kind
                assert kind != "command" or state != "SUCCEEDED" or effects == 1
            asked = {key: "asked" for of, key in open_now if of == row.fulfillment_id}
            _same(asked, {key_of(place): "asked" for place in plan.asked})

    def everybody_says_why(self) -> None:
        """No order that is open is silent, and what it names is what its task is about."""
        for order in self.orders:
            plan = desk.plan_of(order)
            if plan.state not in PLAN_SELECTABLE:
                continue
            told = why(fulfillment_id=plan.fulfillment_id)
            if told.cause in (Cause.NONE, Cause.DEPENDENCY):
                going = Task.objects.filter(plan=plan, state__in=["DISPATCHED", *TASK_SENDABLE])
                assert plan.selection_due_at is not None or going.exists(), "it waits silently"
            assert bool(told.sentence) == bool(told.chain)
            asked = {key_of(place) for place in self.plans[plan.fulfillment_id].asked}
            states = dict(Task.objects.filter(plan=plan, round=0).values_list("key", "state"))
            own = [link.wait for link in told.chain if link.order_reference == order.reference]
            for wait in (*own, *told.others):
                state = "asked" if wait.task in asked else states[wait.task]
                assert str(wait.cause) in _CAUSES[state], (state, wait)

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
        shared = Signal.objects.filter(name=SHARED).order_by("pk")
        _same(
            {str((self.subject_of(one), one.name)): one.will_not_come for one in shared},
            {
                str((about, name)): values is None
                for about, name, values in self.reported
                if name == SHARED
            },
        )


_KEPT_BACK = {"BREAKER", "CAPACITY", "HOLD", "LOCK", "PAUSED", "RATE", "TARGET", "WINDOW"}
_CAUSES = {
    "PENDING": {"DEPENDENCY"},
    "READY": _KEPT_BACK | {"RETRY"},
    "FAILED_RETRYABLE": _KEPT_BACK | {"RETRY"},
    "DISPATCHED": {"CALL"},
    "ACCEPTED": {"CUSTOMER", "MILESTONE", "OTHER_ORDER", "REPORT", "SIGNAL", "TIME"},
    "OUTCOME_UNKNOWN": {"UNKNOWN_OUTCOME"},
    "AWAITING_MANUAL": {"REPAIR"},
    "asked": {"CUSTOMER", "HUMAN"},
    "FAILED_FINAL": {"REPAIR"},
}
"""What a task in this state may say of itself; `asked` is the state of one for a person."""


def _share(number: int, plan: model.Plan, place: model.Place) -> int:
    """Milliseconds: the orders of one customer are a second apart, items and elements 20 ms."""
    item = plan.nodes[place[0]].item
    return 1000 * number + 20 * (place[1] or (item or 1) - 1)


def _same(engine: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    differ = {
        key: f"the engine has {engine.get(key)}, the model {expected.get(key)}"
        for key in sorted(engine.keys() | expected.keys())
        if engine.get(key) != expected.get(key)
    }
    assert not differ, differ


def depth_of(nodes: Mapping[str, Any], key: str, known: dict[str, int]) -> int:
    """How many tasks at most stand in front of it."""
    if key not in known:
        node = nodes[key]
        before = [need.source for need in node.needs]
        before += [source for sources in node.reads.values() for source in sources]
        before += [node.enter] if node.enter else []
        before += [node.spread] if node.spread else []
        if node.kind == "gather":
            before += [one.last for one in nodes.values() if one.gather == key]
        known[key] = 1 + max((depth_of(nodes, one, known) for one in before), default=-1)
    return known[key]


def _ranks(order: Order, nodes: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Where its tasks stand: by depth, then as they are numbered."""
    graph = graphs.by_id(desk.plan_of(order).graph_id)
    depths: dict[str, int] = {}
    return {node.key: (depth_of(nodes, node.key, depths), node.index) for node in graph.nodes}
