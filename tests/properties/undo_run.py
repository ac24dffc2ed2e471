"""The engine at random, with orders that are given up and changed; a judge looks on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fulfillment import operations
from fulfillment.definitions.assessment import Assessment
from fulfillment.definitions.concern import ChangeKind
from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import rest, scanning, signals
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.store import graphs
from fulfillment.engine.work import audit, port
from fulfillment.engine.work.port import PlanChange
from fulfillment.errors import DecisionMade, DefinitionInvalid, NothingToRetry
from fulfillment.models import (
    CaseCategory,
    FalloutCase,
    ManualOrigin,
    ManualTask,
    Plan,
    Purpose,
    Task,
    Transition,
)
from oms.intake import workflows
from tests import desk
from tests.desk import by
from tests.properties import language_scenarios as plain
from tests.properties.language_scenarios import Item
from tests.properties.language_setup import (
    HOUR,
    TARGETS,
    picked,
    publish_all,
    returned,
    said,
    submit_all,
)
from tests.properties.undo_desk import Asked, Desk, active
from tests.properties.undo_model import Judge, Wish
from tests.properties.undo_scenarios import Amend, Answer, Begin, GiveUp, Scenario, Step, changed
from tests.properties.undo_world import Ledger

_ENDS = (PlanChange.UNDOING, PlanChange.CANCELLED, PlanChange.FAILED)
POSITIONS = (1, 2)
ROUNDS = 80


@contextmanager
def registered(instead: Desk) -> Iterator[None]:
    before = port.registered()
    port.register(instead)
    try:
        yield
    finally:
        port.register(before)


class Run:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.template = scenario.template
        self.ledger = Ledger(looks_on=lambda sent: self.judge.sent_first(sent))
        self.desk = Desk()
        self.fates = list(scenario.fates)
        self.hours = 0.0
        self.is_finishing = False
        self.noted: set[str] = set()
        self.flying: list[tuple[Claim, Any, str]] = []
        self.claims: dict[str, Claim] = {}
        self.resting: set[int] = set()
        self.failed: dict[int, set[int]] = defaultdict(set)
        """Items that were given up because something of them has failed."""

    def begin(self) -> None:
        self.start = desk.now()
        publish_all(self.template, start=self.start)
        orders = submit_all(self.scenario.orders, start=self.start)
        self.wishes = {
            order.fulfillment_id: Wish(
                order.fulfillment_id, priority, dict(enumerate(items, 1)), set(POSITIONS)
            )
            for order, (priority, items) in zip(orders, self.scenario.orders, strict=True)
        }
        self.judge = Judge(self.template, self.ledger, self.wishes)
        self.look_around()

    def look_around(self) -> None:
        """What tasks there are by now, and what has to come to rest."""
        for pk, order, key in Task.objects.values_list("pk", "fulfillment_id", "key"):
            self.ledger.names[pk] = key
            self.ledger.seen.setdefault((order, key), self.ledger.now)
        due = Plan.objects.exclude(rest_due_at=None).exclude(state__in=["SUPERSEDED", "COMPLETED"])
        self.resting = set(due.values_list("fulfillment_id", flat=True))
        for plan in Plan.objects.exclude(state="SUPERSEDED"):
            for position in (
                set(plan.context.get("given_up", ())) - self.failed[plan.fulfillment_id]
            ):
                self.without_item(plan.fulfillment_id, position)

    def without_item(self, order: int, position: int) -> None:
        """The engine goes on without it, which it may only if something of it has failed."""
        failed = Transition.objects.filter(fulfillment_id=order, to_state="FAILED_FINAL")
        names = [self.ledger.names[int(pk)] for pk in failed.values_list("entity_id", flat=True)]
        assert any(name.endswith(f"@{position}") for name in names), names
        self.noted.add("an item given up")
        self.failed[order].add(position)
        wish = self.wishes[order]
        wish.is_for(self._left(order, wish.items), at=self.ledger.tick())

    # --- steps ----------------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        desk.advance(2)
        match step:
            case plain.Work(target, limit, _):
                self.work(TARGETS[target % len(TARGETS)], limit)
            case Begin(target, limit):
                self.call(TARGETS[target % len(TARGETS)], limit)
            case Answer(count):
                self.answer(count)
            case plain.Report(job, done, value):
                for key in picked(self.ledger.jobs, job):
                    self.report(key, done=done, value=value)
            case plain.Again(which, same):
                for report in picked(self.ledger.events, which) if same else ():
                    callbacks.receive(report=report)
                for key in () if same else picked(self.ledger.known, which):
                    self.tell(key)
            case plain.Tell(name, _, event, value):
                self.milestone(name, f"{name}-{event}", value)
            case plain.Decide(which, outcome, value):
                for manual in picked(self.open_manual(), which):
                    self.decide(manual, outcome, value)
            case plain.Retry(which):
                self.retry(which)
            case plain.Wait(hours):
                desk.advance(hours * HOUR)
                self.hours += hours
            case plain.Sweep():
                sweeping.sweep()
            case plain.Scan():
                self.scan()
            case GiveUp(which):
                for order in picked(self.wishes, which):
                    self.give_up(order)
            case Amend(which, what, position, item):
                for order in picked(self.wishes, which):
                    self.amend(order, what, position, item)
        self.look_around()

    def scan(self) -> None:
        rest.look()
        scanning.scan()
        signals.apply_new()

    def work(self, target: str, limit: int) -> int:
        begun = self.call(target, limit)
        self.answer(begun, newest=True)
        return begun

    def call(self, target: str, limit: int) -> int:
        self.look_around()
        in_doubt = set(self.ledger.in_doubt)
        claims = desk.claim(target, limit=limit)
        for claim in claims:
            key = claim.command.idempotency_key
            fate, value = "done", 1
            if claim.purpose is Purpose.SEND:
                fate, value = self.fates.pop(0) if self.fates else (fate, value)
                if claim.fulfillment_id in self.resting:
                    assert key in in_doubt, f"{claim.command.action} is sent while it has to rest"
            self.claims[key] = claim
            outcome, told = self.ledger.answer(claim, fate, self.outputs(claim, value))
            self.flying.append((claim, outcome, told))
        return len(claims)

    def answer(self, count: int, *, newest: bool = False) -> None:
        if not count:
            return
        told = self.flying[-count:] if newest else self.flying[:count]
        self.flying = self.flying[:-count] if newest else self.flying[count:]
        on_the_wire = self.on_the_wire()
        if told:
            desk.settle(*(desk.result(claim, outcome) for claim, outcome, _ in told))
        flying = {claim.command.idempotency_key for claim, *_ in self.flying}
        for claim, _, heard in told:
            key = claim.command.idempotency_key
            if (claim.task_id, claim.command.attempt) not in on_the_wire or key in flying:
                self.ledger.lost[key] += 1  # Its answer came too late, or is still to come.
            else:
                self.ledger.heard(claim, heard)
        self.look_around()

    def on_the_wire(self) -> set[tuple[int, int]]:
        """Tasks and attempts whose answer is still awaited; any other comes too late."""
        tasks = Task.objects.filter(state__in=["DISPATCHED", "OUTCOME_UNKNOWN"])
        return set(tasks.values_list("pk", "attempts"))

    def outputs(self, claim: Claim, value: int) -> dict[str, Any]:
        if "effect" in claim.command.payload:
            return {}
        spec, _ = self.template.doing(claim.command.action)
        key = self.ledger.names[claim.task_id].partition("[")[0]
        return returned(self.template, place=(key, 0), spec=spec, value=value, until="")

    def report(self, key: str, *, done: bool, value: int) -> None:
        claim = self.ledger.jobs[key]
        report = self.ledger.report(key, done=done, outputs=self.outputs(claim, value))
        callbacks.receive(report=report)
        self.ledger.in_doubt.discard(key)

    def tell(self, key: str) -> None:
        callbacks.receive(report=self.ledger.event(key))
        self.ledger.in_doubt.discard(key)

    def milestone(self, name: str, event_id: str, value: int | None) -> None:
        owner = self.business_key.rpartition("/")[0]
        signals.receive(
            source="a test",
            event_id=event_id,
            name=name,
            subject=signals.of_order(business_key=f"{owner}/0"),
            payload={} if value is None else {"n": value},
        )

    @property
    def business_key(self) -> str:
        plan = Plan.objects.select_related("fulfillment").first()
        assert plan is not None
        return str(plan.fulfillment.business_key)

    def open_manual(self) -> list[ManualTask]:
        asked = ManualTask.objects.filter(state="OPEN", origin=ManualOrigin.WORKFLOW)
        return list(asked.order_by("pk"))

    def decide(self, manual: ManualTask, which: int, value: int | None) -> None:
        outcome = picked(manual.outcomes, which)[0]
        if manual.task.key == "thing/seal" and not self.is_finishing:
            return
        values = {"n": value} if value is not None and manual.fields else {}
        try:
            operations.decide(
                manual_id=manual.pk, outcome=outcome, values=values, actor=by("ann"), reason="so"
            )
        except (DefinitionInvalid, DecisionMade):
            return

    def retry(self, which: int) -> bool:
        # Of a fan-out only all that has failed of it: of one that has ended nobody would hear.
        failed = Task.objects.filter(state="FAILED_FINAL", element=0).order_by("pk")
        mine = failed.filter(plan__state__in=["RUNNING", "BLOCKED", "COMPENSATING"])
        for task in picked(list(mine), which):
            try:
                return bool(operations.retry(task_id=task.pk, actor=by("ann"), reason="mended"))
            except NothingToRetry:
                return False
        return False

    # --- what is asked for ----------------------------------------------------------------------

    def give_up(self, order: int) -> None:
        self.ask(order, None, lambda: None)

    def amend(self, order: int, what: str, position: int, item: Item) -> None:
        wish = self.wishes[order]
        items = dict(wish.items)
        if what == "characteristics" and position in items:
            items[position] = changed(items[position], item, item.n)
            kinds = {position: [ChangeKind.CHARACTERISTICS]}
        elif what == "item comes" and position not in items:
            items[position] = item
            kinds = {0: [ChangeKind.ITEMS]}
        elif what == "item goes" and position in items and len(items) > 1:
            del items[position]
            kinds = {0: [ChangeKind.ITEMS]}
        elif what == "anew":
            kinds = {}
        else:
            return
        if order in self.desk.asked:
            return  # One change at a time.

        def now_wanted() -> None:
            at, left = self.ledger.tick(), self._left(order, items)
            wish.is_for(left, at=at, anew=what == "anew")

        wanted = partial(self._wanted, items=items, kinds=kinds, anew=what == "anew")
        self.ask(order, wanted, now_wanted, what)

    def _wanted(
        self, plan: Plan, *, items: dict[int, Item], kinds: dict[int, Any], anew: bool
    ) -> Wanted:
        selector = workflows.newest_versions(offerings=["thing"])["thing", "add"]
        known = next(iter(plan.context["items"].values()))
        items = self._left(plan.fulfillment_id, items)
        return Wanted(
            graph=workflows.graph_for(
                tuple((at, "thing", "add", selector) for at in sorted(items))
            ),
            context={
                "order": {**plan.context["order"], "version": plan.order_version + 1},
                "items": {
                    str(at): {
                        **known,
                        "item_id": str(at),
                        "position": at,
                        "characteristics": said(item, start=self.start),
                    }
                    for at, item in items.items()
                },
                "given_up": plan.context.get("given_up", []),
            },
            order_version=plan.order_version + 1,
            changed=kinds,
            anew=anew,
        )

    def _left(self, order: int, items: dict[int, Item]) -> dict[int, Item]:
        """Without what has failed, and been given up for that."""
        return {at: item for at, item in items.items() if at not in self.failed[order]}

    def ask(self, order: int, wanted: Any, then: Any, what: str = "given up") -> None:
        plan = active(order)
        if plan is None:
            return

        def carried_out(found: Assessment) -> None:
            self.noted.add(f"carried out: {what}")
            self.noted.update(f"a task is {fate.becomes}" for fate in found.fates)
            if wanted is None:
                final = self.judge.final(order)
                assert not final, f"given up past {final[0].task}, which is final"
                self.wishes[order].given_up_at = self.ledger.tick()
            else:
                then()

        def refused(found: Assessment) -> None:
            codes = {one.code for one in found.refusals}
            self.noted.update(f"refused: {code}" for code in codes)
            if codes & {"point_of_no_return", "irreversible"}:
                assert self.judge.final(order), f"refused, and nothing is final: {found.refusals}"
            elif wanted is None:
                assert codes == {"being_undone"}, found.refusals

        self.desk.asked[order] = Asked(wanted, carried_out, refused)
        self.desk.look(order)
        if order in self.desk.asked:
            self.noted.add(f"awaited: {what}")

    # --- to the end -----------------------------------------------------------------------------

    def finish(self) -> None:
        """From now on everything succeeds, and people do what they are asked."""
        self.is_finishing = True
        self.fates.clear()
        still = 0
        for _ in range(ROUNDS):
            before = self.mark()
            desk.advance(5 * HOUR)
            self.hours += 5
            self.answer(len(self.flying))
            sweeping.sweep()
            self.scan()
            for key in list(self.ledger.jobs):
                self.report(key, done=True, value=1)
            for name in TARGETS:
                self.work(name, 50)
            self.look_around()
            self.scan()
            if self.mark() != before:
                still = 0
                continue
            still += 1
            if still < 2:
                continue
            if not (self.look_up() or self.decide_all() or self.retry_all()):
                return
            still = 0
        raise AssertionError("something moves for ever")

    def mark(self) -> Any:
        states = Task.objects.order_by("pk").values_list("pk", "state", "attempts")
        return list(states), list(Plan.objects.order_by("pk").values_list("pk", "state"))

    def look_up(self) -> bool:
        """What nobody can tell, a person finds out."""
        asked = Task.objects.filter(state="AWAITING_MANUAL", sends__gt=0)
        keys = [task.commands.latest("revision").idempotency_key for task in asked]
        for key in keys:
            self.ledger.settle(key, self.claims[key])
            self.tell(key)
        return bool(keys)

    def decide_all(self) -> bool:
        return self._changes(lambda: [self.decide(manual, 0, 1) for manual in self.open_manual()])

    def retry_all(self) -> bool:
        failed = Task.objects.filter(state="FAILED_FINAL").count()
        return self._changes(lambda: [self.retry(which) for which in range(failed)])

    def _changes(self, what: Any) -> bool:
        before = self.mark()
        what()
        self.look_around()
        return self.mark() != before

    def everything_is_right(self) -> None:
        crashed = FalloutCase.objects.filter(category=CaseCategory.POISON)
        assert not crashed.exists(), crashed.values_list("title", "explanation")
        for order, wish in self.wishes.items():
            assert audit.verify(fulfillment_id=order) == []
            self.judge.reverse_order(order)
            self.everybody_was_told(order)
            plan = Plan.objects.filter(fulfillment_id=order).latest("version")
            assert order not in self.desk.asked, "nobody has decided what was asked for"
            tasks = Task.objects.filter(plan=plan, round=0)
            undone = tasks.filter(key__startswith="undo.").exclude(state="SUCCEEDED")
            self.noted.add(f"plan {plan.state}")
            if undone.exists():
                refused = undone.filter(key__endswith="~approval", state="FAILED_FINAL")
                assert refused.exists(), list(undone.values_list("key", "state", "blocked_reason"))
                self.noted.add("somebody refuses to undo")
            elif plan.state in ("CANCELLED", "FAILED"):
                self.judge.nothing_is_left(order)
            else:
                assert wish.given_up_at is None, f"given up, and {plan.state}"
                self._goes_on_rightly(order, plan)

    def everybody_was_told(self, order: int) -> None:
        """What the order desk has heard: in the right order, and of everything undone."""
        mine = [one for one in self.desk.told if one.fulfillment_id == order]
        changes = [str(one.change) for one in mine if one.change in _ENDS]
        assert changes in ([], ["UNDOING"], ["UNDOING", "CANCELLED"], ["UNDOING", "FAILED"])
        told = {
            graphs.by_id(one.graph_id).nodes[one.node].key for one in mine if one.node is not None
        }
        undone = Task.objects.filter(fulfillment_id=order, state="SUCCEEDED", element=0)
        keys = undone.filter(key__startswith="undo.").exclude(key__endswith="~approval")
        assert set(keys.values_list("key", flat=True)) <= told

    def _goes_on_rightly(self, order: int, plan: Plan) -> None:
        tasks = {task.key: task for task in Task.objects.filter(plan=plan, round=0)}
        engine = {
            key: (str(task.state), task.outputs)
            for key, task in tasks.items()
            if not key.startswith("undo.")
        }
        self.judge.as_a_fresh_order(order, engine, self.hours)
        failed = [key for key, one in tasks.items() if one.required and one.state == "FAILED_FINAL"]
        if failed and self.template.on_failure != "hold" and plan.state != "COMPLETED":
            assert self.judge.final(order), f"{failed} failed, and the order is not given up"
