"""Why an order is not moving: one sentence, the chain down to the root cause, and what helps.

Across orders: who waits for a lock waits for what the task that keeps it waits for, or the whole
order where that does; who waits for another order's milestone waits for what the tasks before it
wait for. A fixed number of queries per order on the way, and at most LINKS of those.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fulfillment.definitions.graph import Graph
from fulfillment.engine.store import graphs
from fulfillment.models import Plan, Task
from fulfillment.queries import fulfillments
from fulfillment.queries.remedies import Remedy, remedies
from fulfillment.states import TASK_TERMINAL, Cause, TaskState
from fulfillment.waits.waiting import Wait, waiting

LINKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One wait on the way to the root cause."""

    order_reference: str
    wait: Wait
    behind: int
    """Open tasks of the order that come after this one."""

    @property
    def sentence(self) -> str:
        """Such as: O-7: “Ship the goods” (ship@1) …"""
        return f"{self.order_reference}, “{self.wait.title}” ({self.wait.task}): {self.wait.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    sentence: str
    """The root cause, with what it keeps."""
    chain: tuple[Link, ...]
    """From the order itself to the root cause, which is the last; empty when nothing waits."""
    others: tuple[Wait, ...]
    """What the order waits for beside that, the most pressing first."""
    remedies: tuple[Remedy, ...]
    """What may be done about the root cause."""
    circle: int | None = None
    """Where in the chain that stands for which the last one waits, if it does."""
    is_cut: bool = False
    """There is more behind the last one than was looked at."""

    @property
    def is_circle(self) -> bool:
        """The last one waits for one before it."""
        return self.circle is not None

    @property
    def cause(self) -> Cause:
        return self.chain[-1].wait.cause if self.chain else Cause.NONE

    @property
    def until(self) -> datetime | None:
        """When it goes on by itself, if it does."""
        return self.chain[-1].wait.until if self.chain else None

    def told_to(self, *, owner_of: Container[str]) -> Why:
        """What somebody may know to whom only these orders belong: nothing about any other."""
        chain = []
        for link in self.chain:
            if link.order_reference not in owner_of:
                break
            chain.append(replace(link, wait=hidden(link.wait, owner_of=owner_of)))
        whole = len(chain) == len(self.chain)
        circle = self.circle if whole else None
        return replace(
            self,
            chain=tuple(chain),
            sentence=_sentence(chain, circle=circle, is_cut=self.is_cut and whole) if chain else "",
            others=tuple(hidden(wait, owner_of=owner_of) for wait in self.others),
            remedies=self.remedies if whole else (),
            circle=circle,
            is_cut=self.is_cut and whole,
        )


def hidden(wait: Wait, *, owner_of: Container[str]) -> Wait:
    """The same wait without the names of orders that belong to somebody else."""
    reason = wait.reason
    for name in wait.names:
        if name.partition(" ")[0] not in owner_of:
            # O-1 is no part of O-17.
            reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "another order", reason)
    return replace(wait, reason=reason)


NOTHING = Why(sentence="", chain=(), others=(), remedies=())


def why(
    *, fulfillment_id: int, plan: Plan | None = None, waits: Sequence[Wait] | None = None
) -> Why:
    """Of an order that has a plan; NOTHING when no task of it waits for anything.

    `plan` is its newest, and `waits` what `waits.waiting` tells of it, if they are at hand.
    """
    at_hand = {} if plan is None else {fulfillment_id: plan}
    known = {} if waits is None else {fulfillment_id: waits}
    chain: list[Link] = []
    others: list[Wait] = []
    at: dict[int, int] = {}
    """Where each task stands in the chain."""
    following: int | None = fulfillment_id
    circle: int | None = None
    while following is not None and len(chain) < LINKS:
        own = known if following in known else waiting(fulfillment_ids=[following])
        waits = _in_need(own.get(following, []))
        if not waits:
            break
        if following not in at_hand:
            at_hand |= fulfillments.newest_plans(fulfillment_ids=[following])
        plan = at_hand[following]
        graph = graphs.by_id(plan.graph_id)
        ordered = _ordered(waits, graph)
        if chain:
            ordered = _in_the_way(ordered, of=chain[-1].wait, graph=graph, graph_id=plan.graph_id)
            if not ordered:
                break
        else:
            others = ordered[1:]
        first = ordered[0]
        circle = at.get(first.task_id)
        if circle is not None:
            break
        at[first.task_id] = len(chain)
        chain.append(
            Link(
                order_reference=plan.fulfillment.order_reference,
                wait=first,
                behind=_behind(plan, graph, first),
            )
        )
        following = next(iter(first.others), None)
    if not chain:
        return NOTHING
    is_cut = len(chain) == LINKS and following is not None and circle is None
    return Why(
        sentence=_sentence(chain, circle=circle, is_cut=is_cut),
        chain=tuple(chain),
        others=tuple(wait for wait in others if wait.task_id not in at),
        remedies=tuple(remedies(wait=chain[-1].wait, order_reference=chain[-1].order_reference)),
        circle=circle,
        is_cut=is_cut,
    )


def _in_need(waits: Sequence[Wait]) -> list[Wait]:
    """Without what has failed and need not be repaired: nothing waits for that."""
    return [
        wait
        for wait in waits
        if not (wait.state is TaskState.FAILED_FINAL and wait.cause is Cause.NONE)
    ]


def _ordered(waits: Sequence[Wait], graph: Graph) -> list[Wait]:
    """The one that counts first: of what the order needs before what it can do without.

    What somebody holds on purpose comes last: the other branches were to go on.
    """
    return sorted(
        waits,
        key=lambda wait: (
            not _is_needed(graph, wait.node),
            wait.cause is Cause.HOLD,
        ),
    )


def _is_needed(graph: Graph, node: int) -> bool:
    """Of an element, whether its fan-out is."""
    group = graph.nodes[node].group
    return graph.nodes[node if group is None else group].required


def _in_the_way(waits: Sequence[Wait], *, of: Wait, graph: Graph, graph_id: int) -> list[Wait]:
    """Those that have to end before the other order's wait does."""
    if of.report:
        carriers = graphs.milestone_carriers(graph_id).get(of.report, frozenset())
        before = _reached(carriers, graph.predecessors)
        return [wait for wait in waits if wait.node in before]
    if of.kept_by_task is None:  # The order keeps the lock to its end.
        return list(waits)
    keeper = [wait for wait in waits if wait.task_id == of.kept_by_task]
    if keeper:
        return keeper
    nodes = Task.objects.filter(pk=of.kept_by_task).values_list("node", flat=True)
    before = _reached(nodes, graph.predecessors)
    return [wait for wait in waits if wait.node in before]


def _reached(nodes: Collection[int], ways: Sequence[Sequence[int]]) -> set[int]:
    """These nodes, and all that a way leads to."""
    found = set(nodes)
    ahead = list(found)
    while ahead:
        for node in ways[ahead.pop()]:
            if node not in found:
                found.add(node)
                ahead.append(node)
    return found


def _behind(plan: Plan, graph: Graph, wait: Wait) -> int:
    found = _reached([wait.node], graph.successors) - {wait.node}
    states: Mapping[int, str] = dict(
        Task.objects.filter(plan=plan, node__in=found, element=0, round=0).values_list(
            "node", "state"
        )
    )
    return sum(TaskState(states[one]) not in TASK_TERMINAL for one in found & states.keys())


def _sentence(chain: Sequence[Link], *, circle: int | None, is_cut: bool) -> str:
    first, last = chain[0], chain[-1]
    behind = f" {first.behind} more tasks come after it." if first.behind > 1 else ""
    if circle is not None:
        names = ", ".join(dict.fromkeys(link.order_reference for link in chain[circle:]))
        return f"{first.sentence}{behind} These orders wait for each other: {names}."
    if len(chain) == 1:
        return f"{last.sentence}{behind}"
    how = f"{len(chain)} waits further on, and not at the end" if is_cut else "At the root of it"
    return f"{first.sentence}{behind} {how}: {last.sentence}"
