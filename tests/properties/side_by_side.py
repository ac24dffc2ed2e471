"""The engine and the model side by side: each step is taken by both, then they are compared."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from adapters.contract import Outcome, OutcomeKind
from fulfillment import operations
from fulfillment.engine.dispatch import callbacks, sending, sweeping
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import scanning
from fulfillment.engine.tasks.outcomes import NOT_SENT
from fulfillment.engine.work import locking
from fulfillment.models import (
    Attempt,
    ClockPolicy,
    Command,
    HoldScope,
    LockRelease,
    Plan,
    Purpose,
    Resource,
    ResourceLock,
    Task,
)
from oms.intake.requests import ItemRequest
from oms.models import Order
from tests import desk
from tests.desk import by
from tests.properties import model
from tests.properties.model import Heard, Told
from tests.properties.model_locks import WHOLE, Place, Shop
from tests.properties.scenarios import (
    CAPACITY,
    KEYS,
    LONG,
    REGION,
    TARGETS,
    Advance,
    Answer,
    Asked,
    Begin,
    CallUp,
    Deliver,
    Drain,
    EndJob,
    Hold,
    Locks,
    Part,
    Pause,
    Scan,
    Scenario,
    Step,
    Submit,
    Sweep,
    expanded,
    locks_of,
)
from tests.properties.world import Ending, Event, Fate, World, new_world

T = TypeVar("T")
SLOTS = 3
AT_ONCE = 2
"""Calls that any target allows, over all workers."""
NOW = timedelta(0)
_COMPARED = (
    *("fulfillment_id", "state", "tasks_open", "mandatory_open", "moving", "selection_due_at"),
    "blocked_reason",
)
"""What the engine keeps of a plan and the model knows as well."""
RETRY = {"initial_interval": "PT2S", "maximum_interval": "PT1M"}


@dataclass(frozen=True)
class Call:
    claim: Claim
    outcome: Outcome


class Run:
    """One scenario: each step is taken by the engine and told to the model, then compared."""

    long = LONG

    def __init__(self, scenario: Scenario) -> None:
        self.world: World = new_world(TARGETS)
        for name, can in TARGETS.items():
            desk.target(
                name,
                adapter="world",
                idempotent=can.idempotent,
                status_query=can.status_query,
                maximum_queries=can.maximum_queries,
                sender_slots=SLOTS,
                concurrency_limit=AT_ONCE,
                lost_leases_limit=model.LOST_LEASES_LIMIT,
                # Every other one is left alone for a while when it does not answer.
                breaker_failures=None if can.idempotent else 2,
                breaker_pause=timedelta(seconds=10),
                reconcile_after=timedelta(seconds=5),
            )
        desk.workflow(
            {
                f"t{i}": {**_spec(i, scenario.workflow), **self.more_of(part)}
                for i, part in enumerate(scenario.workflow)
            },
            fulfils=[{"offering": "thing", "actions": ["add", "modify"]}],
            locks=_locks(scenario.locks),
            **self.more(scenario),
        )
        for name, capacity in CAPACITY.items():
            Resource.objects.filter(name=name).update(capacity=capacity)
        self.scenario = scenario
        self.to_come = list(scenario.orders)
        self.orders: list[Order] = []
        self.shop = Shop(CAPACITY)
        self.plans = self.shop.plans
        self.keys: dict[int, str] = {}
        self.places: dict[int, Place] = {}
        self.calls: list[Call] = []
        self.holds: dict[int, int] = {}
        """Hold of each held order, by fulfillment."""
        self.paused: set[str] = set()
        self.received: set[str] = set()
        self.revisions: dict[int, int] = {}
        self.submit(scenario.at_once)
        self.compare()

    def more(self, scenario: Scenario) -> dict[str, Any]:
        """What else the workflow says."""
        return {}

    def more_of(self, part: Part) -> dict[str, Any]:
        """What else one of its tasks says."""
        return {}

    def more_asked(self, asked: Asked) -> dict[str, Any]:
        """What else an order says."""
        return {}

    def submit(self, count: int) -> None:
        """So many of the orders that are to come, in one batch."""
        asked, self.to_come = self.to_come[:count], self.to_come[count:]
        if not asked:
            return
        submitted = desk.submit_all(
            *(
                desk.request(
                    *(_item(i, asset) for i, asset in enumerate(one.assets, 1)),
                    priority=one.priority,
                    customer_id=one.customer,
                    region=REGION,
                    **self.more_asked(one),
                )
                for one in asked
            )
        )
        for one, answer in zip(asked, submitted, strict=True):
            order = Order.objects.get(reference=answer.reference)
            self.orders.append(order)
            self.plans[order.fulfillment_id] = self.planned(one, desk.plan_of(order))

    def planned(self, asked: Asked, plan: Plan) -> model.Plan:
        """What the model makes of it; only when it came the engine's clock says."""
        at_ms = int(plan.created_at.timestamp() * 1000)
        expected = self.expect(asked, rank=self.shop.rank(customer=asked.customer, at_ms=at_ms))
        for task in plan.tasks.all():
            place = (plan.fulfillment_id, task.key)
            self.keys[task.pk], self.places[task.pk] = task.key, place
            self.shop.targets[place] = task.target_id
            self.shop.numbers[place] = (task.depth, task.pk)
            behind = expected.tasks[task.key].behind
            assert (task.priority, task.rank) == (expected.priority, expected.rank + behind)
        return expected

    def expect(self, asked: Asked, *, rank: int) -> model.Plan:
        return model.Plan(
            tasks=expanded(self.scenario.workflow, order=asked),
            fast_path=self.scenario.fast_path,
            locks=locks_of(self.scenario.locks, order=asked),
            priority=asked.priority,
            rank=rank,
        )

    def take(self, step: Step) -> None:
        match step:
            case Begin(target, fates):
                for name in picked(self.busy_targets(), [target]):
                    self.begin(name, fates)
            case Answer(calls):
                self.answer(picked(self.calls, calls))
            case Drain(target, fates):
                for name in picked(self.busy_targets(), [target]):
                    self.drain(name, fates)
            case EndJob(job, ending):
                for key in picked(self.world.jobs, [job]):
                    self.world.end_job(key, ending)
            case Deliver(event):
                for report in picked(self.world.events, [event]):
                    self.deliver(report)
            case Advance(seconds):
                self.advance(seconds)
                return
            case Sweep():
                self.sweep()
            case Scan():
                noted = self.noted()
                scanning.scan()
                for order, plan in self.plans.items():
                    plan.scan()
                    noted |= self.shop.let_go(order)
                self.shop.call_up(noted=noted)
            case CallUp():
                noted = self.noted()
                locking.wake()
                self.shop.call_up(noted=noted)
            case Submit():
                self.submit(1)
            case Hold(which):
                for order in picked(self.orders, [which]):
                    self.hold_or_release(order)
            case Pause(target):
                for name in picked(sorted(TARGETS), [target]):
                    self.pause_or_resume(name)
        self.compare()

    def advance(self, seconds: float) -> None:
        desk.advance(seconds)

    def hold_or_release(self, order: Order, *, policy: ClockPolicy = ClockPolicy.RUN) -> None:
        plan = self.plans[order.fulfillment_id]
        if plan.held:
            hold_id = self.holds.pop(order.fulfillment_id)
            operations.release_hold(hold_id=hold_id, reason="x", actor=by("a test"))
        else:
            placed = operations.place_hold(
                scope=HoldScope.ORDER,
                name=order.reference,
                reason="x",
                actor=by("a test"),
                clock_policy=policy,
                patience=NOW,
            )
            assert placed.in_flight == self.under_way(fulfillment_id=order.fulfillment_id)
            assert placed.hold_id is not None
            self.holds[order.fulfillment_id] = placed.hold_id
        plan.held = not plan.held

    def pause_or_resume(self, target: str) -> None:
        if target in self.paused:
            operations.resume_target(target=target, reason="x", actor=by("a test"))
        else:
            operations.pause_target(target=target, reason="x", actor=by("a test"), patience=NOW)
        self.paused ^= {target}

    def under_way(self, **where: Any) -> int:
        """Sends that hold a lease."""
        return Attempt.objects.filter(
            finished_at=None, purpose=Purpose.SEND, lease_expires_at__gt=desk.now(), **where
        ).count()

    def busy_targets(self) -> list[str]:
        """Those that have something to claim, now or later."""
        claimable = Task.objects.filter(state__in=model.CLAIMABLE).order_by("target_id")
        return list(claimable.values_list("target_id", flat=True).distinct())

    def begin(self, target: str, fates: Sequence[Fate]) -> None:
        due = self.due(target)
        claims = desk.claim(target, limit=len(fates))
        if not (TARGETS[target].idempotent or TARGETS[target].status_query):
            assert len(claims) <= 1
        assert not claims or target not in self.paused
        questions = [claim.purpose is Purpose.QUERY for claim in claims]
        assert questions == sorted(questions, reverse=True), "questions come first"
        places = [self.places[c.task_id] for c in claims if c.purpose is Purpose.SEND]
        assert places == sorted(places, key=self.shop.turn), "deterministic-selection"
        self.world.fates.extend(fates[: len(claims)])
        for claim in claims:
            query = self.claimed(claim.fulfillment_id, claim.task_id)
            assert query == (claim.purpose is Purpose.QUERY)
            self.calls.append(Call(claim, self.world.request(claim.command, query=query)))
        self.lined_up(everybody=True)
        for place in due - set(places) - self.shop.line.keys() if places else ():
            assert self.shop.turn(place) > self.shop.turn(places[-1]), f"{place} was passed over"

    def due(self, target: str) -> set[Place]:
        """What might be sent to it now, if there is room for it."""
        found = Task.objects.filter(
            target_id=target,
            state__in=["READY", "FAILED_RETRYABLE"],
            not_before__lte=desk.now(),
            waits_for_lock="",
        ).values_list("pk", flat=True)
        places = {self.places[pk] for pk in found}
        return {place for place in places if not self.plans[place[0]].held}

    def noted(self) -> set[str]:
        """Locks of which somebody is to be called up."""
        return set(LockRelease.objects.values_list("name", flat=True))

    def lined_up(self, *, everybody: bool) -> None:
        """Those who have lined up since; of a drain that is over, at the moment they had to."""
        waiting = Task.objects.exclude(waits_for_lock="").values_list("pk", "waits_for_lock")
        for pk, name in waiting:
            place = self.places[pk]
            # What a later unit of a drain has made READY has not lined up yet.
            has_to = self.shop.may_be_sent(place) and name in self.shop.lacks(place)
            if self.shop.line.get(place) != name and (everybody or has_to):
                self.shop.line_up(place, name)

    def claimed(self, fulfillment_id: int, task_id: int) -> bool:
        plan, key = self.plans[fulfillment_id], self.keys[task_id]
        assert plan.runnable(key), f"{key} is claimed before what it depends on succeeded"
        query = self.shop.claim((fulfillment_id, key))
        assert query or not plan.held, f"{key} is sent while its order is held"
        return query

    def answer(self, calls: Sequence[Call]) -> None:
        if not calls:
            return
        desk.settle(*(desk.result(call.claim, call.outcome) for call in calls))
        self.calls = [call for call in self.calls if call not in calls]
        self.heard(
            (
                call.claim.fulfillment_id,
                Heard(
                    self.keys[call.claim.task_id],
                    _told(call.outcome),
                    attempt=call.claim.command.attempt,
                    query=call.claim.purpose is Purpose.QUERY,
                    command=self.revision(call.claim.command.command_id),
                ),
            )
            for call in calls
        )

    def drain(self, target: str, fates: Sequence[Fate] = ()) -> None:
        self.world.fates.extend(fates)
        begun = len(self.world.log)
        settled = sending.drain(target=target)
        self.world.fates.clear()
        log = self.world.log[begun:]
        assert settled == len(log)
        attempts = {
            (attempt.command_id, attempt.number): attempt
            for attempt in Attempt.objects.filter(command_id__in={c.command_id for c, _, _ in log})
        }
        # What one unit settled has one time.
        for _, batch in itertools.groupby(
            log, key=lambda entry: attempts[entry[0].command_id, entry[0].attempt].finished_at
        ):
            heard = []
            for command, query, outcome in batch:
                attempt = attempts[command.command_id, command.attempt]
                assert self.claimed(attempt.fulfillment_id, attempt.task_id) == query
                told = _told(outcome)
                key = self.keys[attempt.task_id]
                revision = self.revision(command.command_id)
                heard.append(
                    (attempt.fulfillment_id, Heard(key, told, command.attempt, query, revision))
                )
            self.lined_up(everybody=False)
            self.heard(heard)
        self.lined_up(everybody=False)

    def deliver(self, event: Event) -> None:
        again = event.event_id in self.received
        self.received.add(event.event_id)
        receipt = callbacks.receive(
            report=callbacks.Report(
                source=event.target,
                event_id=event.event_id,
                idempotency_key=event.key,
                outcome=event.outcome,
                body={},
            )
        )
        assert receipt.duplicate == again
        if not again:
            self.world.deliver(event)
            command = Command.objects.get(idempotency_key=event.key)
            told = _told(event.outcome)
            key = self.keys[command.task_id]
            self.heard([(command.fulfillment_id, Heard(key, told, command=command.revision))])

    def sweep(self) -> None:
        """The engine's clock says what is overdue; the model, what that means."""
        waiting = list(Task.objects.filter(state="ACCEPTED").order_by("not_before"))
        before = desk.now()
        swept = self.swept()
        after = desk.now()
        still = set(Task.objects.filter(state="ACCEPTED").values_list("pk", flat=True))
        for task in waiting:
            assert task.pk not in still or task.not_before >= before
            assert task.pk in still or task.not_before <= after
            if task.pk not in still:
                swept.append((task.fulfillment_id, Heard(task.key, Told("UNKNOWN"))))
        self.heard(swept)

    def swept(self) -> list[tuple[int, Heard]]:
        """The calls of which the engine has given up hope."""
        leases = list(Attempt.objects.filter(finished_at=None).order_by("lease_expires_at"))
        before = desk.now()
        sweeping.sweep()
        after = desk.now()
        lost = set(Attempt.objects.filter(code="lease_lost").values_list("pk", flat=True))
        swept = []
        for attempt in leases:
            assert attempt.pk in lost or attempt.lease_expires_at >= before
            assert attempt.pk not in lost or attempt.lease_expires_at <= after
            if attempt.pk in lost:
                key, query = self.keys[attempt.task_id], attempt.purpose == Purpose.QUERY
                revision = self.revision(attempt.command_id)
                heard = Heard(key, Told("UNKNOWN", lost=True), attempt.number, query, revision)
                swept.append((attempt.fulfillment_id, heard))
        return swept

    def revision(self, command_id: int) -> int:
        """Which of its task's commands this is, counted from 1."""
        if command_id not in self.revisions:
            self.revisions[command_id] = Command.objects.get(pk=command_id).revision
        return self.revisions[command_id]

    def heard(self, heard: Iterable[tuple[int, Heard]]) -> None:
        by_plan: dict[int, list[Heard]] = {}
        for fulfillment_id, one in heard:
            by_plan.setdefault(fulfillment_id, []).append(one)
        for fulfillment_id, ones in by_plan.items():
            self.shop.hear(fulfillment_id, *ones)

    def finish(self) -> None:
        """From now on every target answers; whoever was calling is gone, and nothing is held."""
        self.submit(len(self.to_come))
        for order in self.orders:
            if self.plans[order.fulfillment_id].held:
                self.hold_or_release(order)
        for name in sorted(self.paused):
            self.pause_or_resume(name)
        tasks = sum(len(plan.tasks) for plan in self.plans.values())
        for _ in range(5 * tasks + 20):
            for key in self.world.jobs:
                self.world.end_job(key, Ending.DONE)
            self.advance(self.long)
            self.beat()
            for target in self.busy_targets():
                self.drain(target)
            self.compare()
            moving = {o for o, p in self.plans.items() if p.moving or p.selection_due}
            if moving <= self.shop.waiting_orders:
                self.shop.nobody_waits_in_a_circle()
                return
        raise AssertionError("something moves for ever")

    def beat(self) -> None:
        """What is done by beat."""
        self.sweep()
        self.take(Scan())

    def tell_the_truth_late(self) -> None:
        """What was lost on the way arrives after all: calls long given up, reports again."""
        self.answer(self.calls)
        for event in [*self.world.events, *reversed(self.world.events)]:
            self.deliver(event)
        self.compare()

    # --- what must hold -------------------------------------------------------------------------

    def compare(self) -> None:
        """After every step the engine is where the model is, and the world agrees with both."""
        under_way = Attempt.objects.filter(finished_at=None, lease_expires_at__gt=desk.now())
        calls = Counter(under_way.values_list("target_id", flat=True))
        assert calls.keys() <= TARGETS.keys()
        assert max(calls.values(), default=0) <= AT_ONCE
        plans = {row["fulfillment_id"]: row for row in Plan.objects.values(*_COMPARED)}
        waiting: dict[Place, str] = {}
        found: dict[int, dict[str, Any]] = {fulfillment_id: {} for fulfillment_id in plans}
        rows = Task.objects.order_by("commands__revision").values_list(
            *("fulfillment_id", "key", "state", "attempts", "sends", "waits_for_lock"),
            "commands__idempotency_key",
        )
        for fulfillment_id, name, state, attempts, sends, lock, key in rows:
            if lock:
                waiting[fulfillment_id, name] = lock
            effects = self.world.effects[key]
            assert effects <= 1, f"one-effect-per-key: {name} happened {effects} times"
            # Of its newest command; before that was written nothing had happened.
            found[fulfillment_id][name] = (state, attempts, sends, effects)
        for name, (state, _, _, effects) in (row for of in found.values() for row in of.items()):
            if state == "SUCCEEDED":
                assert effects, f"{name} succeeded and nothing happened"
            elif state in ("PENDING", "SKIPPED_BY_POLICY", "FAILED_FINAL"):
                assert not effects, f"{name} is {state}, and it happened"
        for fulfillment_id, expected in self.plans.items():
            assert {name: row[:3] for name, row in found[fulfillment_id].items()} == {
                name: (task.state, task.attempts, task.sends)
                for name, task in expected.tasks.items()
            }
            plan = plans[fulfillment_id]
            assert (plan["state"], plan["tasks_open"], plan["mandatory_open"], plan["moving"]) == (
                expected.state,
                expected.tasks_open,
                expected.mandatory_open,
                expected.moving,
            )
            assert (plan["selection_due_at"] is not None) == expected.selection_due
            assert bool(plan["blocked_reason"]) == (plan["state"] == "BLOCKED")
        self.compare_locks(waiting)

    def compare_locks(self, waiting: Mapping[Place, str]) -> None:
        kept = ResourceLock.objects.values_list("name", "fulfillment_id", "task_id", "units")
        assert {
            (name, order, self.keys[task_id] if task_id else WHOLE): units
            for name, order, task_id, units in kept
        } == self.shop.kept
        assert waiting == self.shop.line
        self.shop.check(noted=self.noted())


def picked(among: Sequence[T], which: Iterable[int]) -> list[T]:
    """Those that the numbers point at, each once; every number points at something."""
    return [among[i] for i in sorted({i % len(among) for i in which})] if among else []


def _spec(position: int, workflow: Sequence[Part]) -> dict[str, Any]:
    """A part as a workflow writes it; even ones are waited for by what they return."""
    part = workflow[position]
    return desk.task(
        part.target,
        scope="item" if part.per_item else "order",
        required=part.required,
        outputs={"number": "string"},
        retry={**RETRY, "maximum_attempts": part.maximum_attempts},
        locks=_locks(part.locks),
        depends_on=[
            {"success": f"t{earlier}"} if earlier % 2 else {"output": f"t{earlier}.number"}
            for earlier in sorted(part.after)
        ],
    )


def _locks(locks: Locks) -> list[dict[str, Any]]:
    return [{"resource": name, "key": KEYS[name], "units": units} for name, units in locks]


def _item(number: int, asset: str) -> ItemRequest:
    fields = {"action": "modify", "asset": asset} if asset else {"action": "add"}
    return ItemRequest(item_id=f"{number}", offering="thing", **fields)


def _told(outcome: Outcome) -> Told:
    return Told(
        str(outcome.kind),
        retryable=outcome.retryable,
        not_sent=outcome is NOT_SENT,
        timeout=outcome.kind is OutcomeKind.UNKNOWN and outcome.code == "timeout",
    )
