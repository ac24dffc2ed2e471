"""What giving an order up, and changing it, promise. It knows what was sent and what happened.

Nothing of the engine is in here: what depended on what comes from the templates as they are
written, and what an order should have come to in the end is asked of the model of the language:
a fresh order with the same data, whose target systems answer as they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.properties import language_model as model
from tests.properties.language_scenarios import Item
from tests.properties.language_setup import key_of, meant, nodes_of
from tests.properties.language_state import Place
from tests.properties.language_tree import Node
from tests.properties.undo_templates import UndoTemplate, is_final, undo_of
from tests.properties.undo_world import Effect, Ledger, Sent

Engine = Mapping[str, tuple[str, Any]]
"""State and outputs of every task, as the engine has them at the end."""


@dataclass
class Wish:
    """What one order is for, and what was decided about it."""

    order: int
    priority: int
    items: dict[int, Item]
    """By position, as they are wanted now."""
    had: set[int] = field(default_factory=set)
    """Positions of all items that it ever had."""
    changed_at: list[int] = field(default_factory=list)
    anew_at: int = -1
    gone_at: dict[int, int] = field(default_factory=dict)
    """When an item was not wanted any more; it may have come back since."""
    given_up_at: int | None = None

    def is_for(self, items: dict[int, Item], *, at: int, anew: bool = False) -> None:
        """From now on."""
        self.gone_at |= dict.fromkeys(self.items.keys() - items.keys(), at)
        self.items = items
        self.changed_at.append(at)
        self.anew_at = at if anew else self.anew_at

    @property
    def data(self) -> list[dict[str, Any]]:
        return [
            meant(self.items[one]) if one in self.items else {}
            for one in range(1, max(self.items, default=0) + 1)
        ]


@dataclass
class Judge:
    template: UndoTemplate
    ledger: Ledger
    wishes: Mapping[int, Wish]

    def spec(self, effect: Effect) -> tuple[Mapping[str, Any], int]:
        return self.template.doing(effect.command.action)

    def is_undoable(self, effect: Effect) -> bool:
        return "none" not in undo_of(*self.spec(effect))

    def final(self, order: int) -> list[Effect]:
        """What there is no way back from."""
        return [one for one in self.ledger.live(order) if is_final(self.spec(one)[0])]

    # --- while it runs --------------------------------------------------------------------------

    def sent_first(self, sent: Sent) -> None:
        """A command is sent for the first time."""
        wish = self.wishes[sent.order]
        if sent.undoes is not None:
            self._undo_is_right(sent, sent.undoes)
            return
        assert wish.given_up_at is None, f"{sent.task} is sent although its order is given up"
        before = [one for one in self.ledger.of(sent.order) if one.task == sent.task]
        if before:
            assert not self._is_needless(sent, before[-1]), f"{sent.task} is done again needlessly"
        for one in (one for one in before if one.undone_at is None):
            assert not self.is_undoable(one), f"{sent.task} is done again before it is undone"
            assert not is_final(self.spec(one)[0]), f"{sent.task} is done again, and was final"

    def _is_needless(self, sent: Sent, before: Effect) -> bool:
        """The same is asked for as before, and nothing on the way to it is new."""
        wish = self.wishes[sent.order]
        changes = sum(at > before.done_at for at in wish.changed_at)
        if changes != 1:  # What is changed back has been undone meanwhile.
            return not changes
        ways = self.ways(sent.order)
        node = ways.node(sent.task)
        ahead = {ways.node(one).kind for one in ways.before(sent.task)}
        is_plain = ahead <= {"command"} and not {"only_if", "affected_by"} & node.spec.keys()
        is_old = all(
            one.done_at < before.done_at
            for one in self.ledger.of(sent.order)
            if one.task in ways.before(sent.task)
        )
        return (
            is_plain
            and is_old
            and wish.anew_at < before.done_at
            and wish.gone_at.get(node.item or 0, -1) < before.done_at
            and (sent.command.action, sent.command.payload)
            == (before.command.action, before.command.payload)
        )

    def ways(self, order: int) -> Ways:
        known = {task for one, task in self.ledger.seen if one == order}
        return Ways(nodes_of(self.template, positions=sorted(self.wishes[order].had)), known)

    def _undo_is_right(self, sent: Sent, number: int) -> None:
        effect = self.ledger.done_so_far[number - 1]
        spec, route = self.spec(effect)
        undo = undo_of(spec, route)
        assert not is_final(spec), f"{effect.task} is undone, and was final"
        asked = sent.command
        assert (asked.target, asked.action) == (undo.get("target"), undo.get("action"))
        own = not route or "compensation" in spec["fallback"][route - 1]
        if own and "affected_by" not in spec:
            # Its values are those that the task itself was asked with.
            said = {name: value for name, value in asked.payload.items() if name != "effect"}
            assert said == effect.command.payload, f"{asked.action} asks for {said}"

    # --- at the end -----------------------------------------------------------------------------

    def reverse_order(self, order: int) -> None:
        """What depended on an effect was undone before it, if both were to be."""
        sends = {
            one.undoes: one
            for one in sorted(self.ledger.sent.values(), key=lambda one: one.at, reverse=True)
            if one.order == order and one.undoes is not None
        }
        ways = self.ways(order)
        mine = [self.ledger.done_so_far[number - 1] for number in sends if number is not None]
        for first in mine:
            for later in mine:
                sent, undone = sends[first.number], later.undone_at
                both = sends[later.number].known_since <= sent.at and later.done_at < sent.at
                if not both or first.task not in ways.before(later.task):
                    continue
                wrong = f"{first.task} is undone before {later.task}, which has depended on it"
                assert undone is not None, wrong
                assert undone < sent.at, wrong

    def nothing_is_left(self, order: int) -> None:
        left = [one for one in self.ledger.live(order) if self.is_undoable(one)]
        assert not left, f"given up, and still there: {[(one.number, one.task) for one in left]}"

    def as_a_fresh_order(
        self, order: int, engine: Mapping[str, tuple[str, Any]], now: float
    ) -> None:
        """Everything that is there would be there if the order had always been as it is now."""
        wish = self.wishes[order]
        effects: dict[str, Effect] = {}
        for one in self.ledger.live(order):
            known = effects.get(one.task)
            assert known is None or not self.is_undoable(known), f"{one.task} is there twice"
            # What nothing undoes stays there, whatever has become of its task since.
            if self.is_undoable(one) or engine.get(one.task, ("", {}))[0] == "SUCCEEDED":
                effects[one.task] = one
        fresh = Fresh(plan=self._plan(wish, now), effects=effects, engine=engine)
        fresh.play()
        for key, (target, action, payload) in fresh.asked.items():
            effect = effects[key]
            done = effect.command
            assert (done.target, done.action) == (target, action)
            if "affected_by" not in self.spec(effect)[0]:
                assert done.payload == payload, f"{key} asked for {done.payload}, not {payload}"
        for key, effect in effects.items():
            assert key in fresh.asked or not self.is_undoable(effect) or fresh.is_behind(key), (
                f"{key} was done, and would not be in a fresh order: {fresh.states.get(key)}"
            )
        differ = {
            key: f"the engine has {state}, a fresh order {fresh.states.get(key)}"
            for key, (state, _) in engine.items()
            if fresh.states.get(key) != state and not (wish.changed_at and fresh.is_behind(key))
        }
        assert not differ, differ
        assert fresh.states.keys() <= engine.keys(), fresh.states.keys() - engine.keys()

    def _plan(self, wish: Wish, now: float) -> GuardedPlan:
        nodes = nodes_of(self.template, positions=sorted(wish.items))
        return GuardedPlan(
            nodes=nodes,
            order={"external_id": "0", "channel": "1", "priority": wish.priority},
            items=wish.data,
            meanings=self.template.meanings,
            reported=[],
            fast_path=True,
            instant=float,
            rank=dict.fromkeys(nodes, (0, 0)),
            now=now,
        )


@dataclass(kw_only=True)
class GuardedPlan(model.Plan):
    """What there is no way back from comes after everything required before it, on whatever way."""

    met: set[Place] = field(default_factory=set)
    """They have met their preconditions when they began."""

    def _begin(self, place: Place) -> None:
        node = self.nodes[place[0]]
        spec = node.spec
        if place in self.met:
            node.spec = {name: one for name, one in spec.items() if name != "preconditions"}
        super()._begin(place)
        node.spec = spec

    def _can_begin(self, place: Place) -> bool:
        return super()._can_begin(place) and (
            not is_final(self.nodes[place[0]].spec)
            or self._is_left_out(place)
            or all(
                self.states.get(one) in model.SUCCESSFUL or self.exists(*one) is False
                for one in self._ahead(place, set())
                if self.nodes[one[0]].required or self.nodes[one[0]].needed
            )
        )

    def _ahead(self, place: Place, found: set[Place]) -> set[Place]:
        node, element = self.nodes[place[0]], place[1]
        sources = [self.beside(need.source, element) for need in node.needs]
        sources += [self.beside(node.enter, element)] if node.enter else []
        sources += [(node.spread, 0)] if node.spread else []
        for source in sources:
            if source not in found:
                found.add(source)
                self._ahead(source, found)
        return found


@dataclass
class Ways:
    """What depends on what, as the templates say, among the tasks that there were."""

    nodes: Mapping[str, Node]
    known: set[str]

    def before(self, task: str) -> set[str]:
        """Everything that had to be done before it."""
        return {key_of(place) for place in self._all[task]} if task in self._all else set()

    def node(self, task: str) -> Node:
        return self.nodes[self._places[task][0]]

    @cached_property
    def _all(self) -> dict[str, set[Place]]:
        return {key: self._closure(place) for key, place in self._places.items()}

    @cached_property
    def _places(self) -> dict[str, Place]:
        return {
            key_of((key, element)): (key, element)
            for key, node in self.nodes.items()
            for element in (range(1, 10) if node.spread else [0])
            if key_of((key, element)) in self.known
        }

    def _closure(self, place: Place) -> set[Place]:
        found: set[Place] = set()
        ahead = list(self._direct(place))
        while ahead:
            one = ahead.pop()
            if one not in found and key_of(one) in self.known:
                found.add(one)
                ahead += self._direct(one)
        return found

    def _direct(self, place: Place) -> Iterable[Place]:
        node, element = self.nodes[place[0]], place[1]
        for source in [need.source for need in node.needs if not need.when] + [node.enter]:
            if source is not None:
                yield source, element if self.nodes[source].spread else 0
        if node.spread:
            yield node.spread, 0
        for spread in self.nodes.values():
            if spread.gather == node.key:
                yield from ((spread.last, one) for one in range(1, 10))


@dataclass
class Fresh:
    """A fresh order whose target systems, people and waits answer as they have."""

    plan: GuardedPlan
    effects: Mapping[str, Effect]
    engine: Engine
    asked: dict[str, tuple[str, str, Any]] = field(default_factory=dict)
    taken: set[Place] = field(default_factory=set)

    @property
    def states(self) -> dict[str, str]:
        return {key_of(place): state for place, state in self.plan.states.items()}

    def is_behind(self, key: str) -> bool:
        """It waits for what is stuck. What was done before that began anew stays done."""
        place = self._places.get(key)
        if place is None:
            return False
        spread = self.plan.nodes[place[0]].spread
        if spread and place[1] and place not in self.plan.states:
            place = spread, 0
        return self.plan.states.get(place) == "PENDING" or self.plan.exists(*place) is None

    @cached_property
    def _places(self) -> dict[str, Place]:
        return {
            key_of((key, element)): (key, element)
            for key, node in self.plan.nodes.items()
            for element in (range(1, 10) if node.spread else [0])
        }

    def play(self) -> None:
        done = {key for key, (state, _) in self.engine.items() if state == "SUCCEEDED"}
        self.plan.met = {self._places[key] for key in done & self._places.keys()}
        while True:
            self.plan.go_on(select=True)
            begun = [
                place
                for place, state in self.plan.states.items()
                if state in ("READY", "ACCEPTED") or place in self.plan.asked
            ]
            new = [place for place in begun if place not in self.taken]
            if not new:
                break
            self.taken.add(new[0])
            self._end(new[0])
        for place in self.taken:  # What could not be done stays as it is.
            if self.plan.states[place] in ("READY", "ACCEPTED"):
                self.plan.states[place] = self.engine.get(key_of(place), ("", {}))[0]
        self.plan.settle_down()

    def _end(self, place: Place) -> None:
        key = key_of(place)
        state, outputs = self.engine.get(key, ("PENDING", {}))
        effect = self.effects.get(key)
        self.plan.asked.discard(place)
        if self.plan.nodes[place[0]].kind != "command":
            if state == "SUCCEEDED":
                self.plan._succeed(place, **(outputs or {}))
            elif state != "PENDING":
                self.plan.states[place] = state
        elif effect is not None:
            self._take_the_way_of(place, effect)
            spec = self.plan.nodes[place[0]].spec
            route = self.plan.routes[place]
            action = (spec["fallback"][route - 1] if route else spec)["action"]
            self.asked[key] = self.plan.target(place), action, self.plan.payloads[place]
            self.plan.hear(place, "done", effect.outputs)
        elif state != "PENDING":
            assert state != "SUCCEEDED", f"{key} has succeeded, and nothing is there"
            self.plan.states[place] = state

    def _take_the_way_of(self, place: Place, effect: Effect) -> None:
        spec = self.plan.nodes[place[0]].spec
        actions = [
            spec["action"],
            *(one["action"] for one in spec.get("fallback", ())),
        ]
        for _ in range(actions.index(effect.command.action)):
            self.plan._another_way(place, "something else")
            self.plan.states[place] = "READY"
