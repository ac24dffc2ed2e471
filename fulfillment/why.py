"""Why an order is not moving: one sentence, the chain down to the root cause, and what helps.

Across orders: who waits for a lock waits for what its keeper waits for; who waits for another
order's milestone waits for what that order waits for. A fixed number of queries per order on the
way, and at most LINKS of those.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fulfillment import queries
from fulfillment.definitions.graph import Graph
from fulfillment.engine import graphs
from fulfillment.models import Fulfillment, Plan, Task
from fulfillment.remedies import Remedy, remedies
from fulfillment.states import TASK_TERMINAL, Cause, TaskState
from fulfillment.waiting import Wait, waiting

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
    is_circle: bool = False
    """The last one waits for one before it."""

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
        return replace(
            self,
            chain=tuple(chain),
            sentence=_sentence(chain, is_circle=self.is_circle and whole) if chain else "",
            others=tuple(hidden(wait, owner_of=owner_of) for wait in self.others),
            remedies=self.remedies if whole else (),
            is_circle=self.is_circle and whole,
        )


def hidden(wait: Wait, *, owner_of: Container[str]) -> Wait:
    """The same wait without the names of orders that belong to somebody else."""
    reason = wait.reason
    for name in wait.names:
        if name.partition(" ")[0] not in owner_of:
            reason = reason.replace(name, "another order")
    return replace(wait, reason=reason)


NOTHING = Why(sentence="", chain=(), others=(), remedies=())


def why(*, fulfillment_id: int) -> Why:
    """Of an order that has a plan; NOTHING when no task of it waits for anything."""
    chain: list[Link] = []
    others: tuple[Wait, ...] = ()
    seen: set[int] = set()
    following: int | None = fulfillment_id
    while following is not None and following not in seen and len(chain) < LINKS:
        seen.add(following)
        waits = waiting(fulfillment_ids=[following]).get(following, [])
        if not waits:
            break
        link, beside = _first(following, waits)
        chain.append(link)
        others = others if len(chain) > 1 else tuple(beside)
        following = next(iter(link.wait.others), None)
    if not chain:
        return NOTHING
    is_circle = following in seen
    return Why(
        sentence=_sentence(chain, is_circle=is_circle),
        chain=tuple(chain),
        others=others,
        remedies=tuple(remedies(wait=chain[-1].wait, order_reference=chain[-1].order_reference)),
        is_circle=is_circle,
    )


def _first(fulfillment_id: int, waits: Sequence[Wait]) -> tuple[Link, list[Wait]]:
    """The wait that counts: of what the order needs before what it can do without."""
    plan = queries.newest_plans(fulfillment_ids=[fulfillment_id])[fulfillment_id]
    graph = graphs.by_id(plan.graph_id)
    nodes = {node.key: node for node in graph.nodes}
    ordered = sorted(
        waits, key=lambda wait: not (node.required if (node := nodes.get(wait.task)) else True)
    )
    first = ordered[0]
    reference = Fulfillment.objects.values_list("order_reference", flat=True).get(pk=fulfillment_id)
    link = Link(order_reference=reference, wait=first, behind=_behind(plan, graph, first))
    return link, ordered[1:]


def _behind(plan: Plan, graph: Graph, wait: Wait) -> int:
    task = Task.objects.filter(pk=wait.task_id).values_list("node", flat=True).first()
    if task is None:
        return 0
    found: set[int] = set()
    ahead = [task]
    while ahead:
        for node in graph.successors[ahead.pop()]:
            if node not in found:
                found.add(node)
                ahead.append(node)
    states: Mapping[int, str] = dict(
        Task.objects.filter(plan=plan, node__in=found, element=0, round=0).values_list(
            "node", "state"
        )
    )
    return sum(TaskState(states[one]) not in TASK_TERMINAL for one in found & states.keys())


def _sentence(chain: Sequence[Link], *, is_circle: bool) -> str:
    first, last = chain[0], chain[-1]
    behind = f" {first.behind} more tasks come after it." if first.behind > 1 else ""
    if len(chain) == 1:
        return f"{last.sentence}{behind}"
    if is_circle:
        names = ", ".join(link.order_reference for link in chain)
        return f"{first.sentence}{behind} These orders wait for each other: {names}."
    return f"{first.sentence}{behind} At the root of it: {last.sentence}"
