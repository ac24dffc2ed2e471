"""What the workflows of an order say towards its customer, read once per graph.

Published versions and stored graphs never change, so neither does the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache

from fulfillment.definitions.customer import Entitlement, Provides, TellSpec
from fulfillment.definitions.graph import Node, NodeKind
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.store import graphs
from oms.intake import workflows

STANDARD: Mapping[str, TellSpec] = {
    "accepted": TellSpec(
        subject="We received your order ${order.external_id}",
        message="We received your order ${order.external_id} and have started on it.",
    ),
    "completed": TellSpec(
        subject="Your order ${order.external_id} is complete",
        message="Everything in your order ${order.external_id} is done.",
    ),
    "cancelled": TellSpec(
        subject="Your order ${order.external_id} has been cancelled",
        message="Your order ${order.external_id} has been cancelled.",
    ),
    "delayed": TellSpec(
        subject="Your order ${order.external_id} is delayed",
        message="Your order ${order.external_id} is delayed. We are working on it.",
    ),
}
"""By occasion; a workflow's `messages` go before them."""
_DELAY_AFTER = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Of one graph; items by their position in the order, tasks by their node."""

    messages: Mapping[str, TellSpec]
    milestones: Mapping[str, TellSpec]
    """Those of which the customer is told."""
    planned: frozenset[int]
    """Items that have tasks of their own."""
    providing: frozenset[int]
    """Those of them of which the customer has an asset in the end."""
    activating: Mapping[int, tuple[int, ...]]
    """Node -> items that are active as soon as it has succeeded."""
    active_with_order: frozenset[int]
    """Items that are active as soon as the order is complete."""
    billing: Mapping[int, int]
    """Item -> node that starts its billing."""
    billed_within: Mapping[int, timedelta]
    """Item -> how long it may be active and not billed, or the other way round."""
    entitlement: Mapping[int, Entitlement]
    """Item -> what the customer may use of it while the order is partly fulfilled."""
    delay_after: timedelta
    """How long a plan may be stuck before the customer is told: the most patient decides."""

    @cached_property
    def charging(self) -> Mapping[int, tuple[int, ...]]:
        """Node -> items whose billing it starts."""
        found: dict[int, tuple[int, ...]] = {}
        for item, node in self.billing.items():
            found[node] = (*found.get(node, ()), item)
        return found


NOTHING = Terms(
    messages=STANDARD,
    milestones={},
    planned=frozenset(),
    providing=frozenset(),
    activating={},
    active_with_order=frozenset(),
    billing={},
    billed_within={},
    entitlement={},
    delay_after=_DELAY_AFTER,
)
"""Of an order that has no plan yet."""


@lru_cache(maxsize=4096)
def of_graph(graph_id: int) -> Terms:
    """The terms of every order that runs on this graph."""
    graph = graphs.by_id(graph_id)
    definitions = {
        planned.name: definition
        for planned in graph.workflows
        if (definition := workflows.definition_named(planned.name, planned.version)) is not None
    }
    activating: dict[int, tuple[int, ...]] = {}
    billing: dict[int, int] = {}
    billed_within: dict[int, timedelta] = {}
    providing: set[int] = set()
    entitlement: dict[int, Entitlement] = {}
    for node in graph.nodes:
        # A task may come from a part of a workflow that has a name of its own.
        definition = definitions.get(node.workflow)
        if definition is None:
            continue
        if definition.provides is Provides.NOTHING:
            continue
        providing.update(node.items)
        entitlement.update(dict.fromkeys(node.items, definition.entitlement))
        if not is_work(node):
            continue
        if node.task == _activation_task(definition):
            activating[node.index] = node.items
        if definition.billing is not None and node.task == definition.billing.task:
            billing.update(dict.fromkeys(node.items, node.index))
            billed_within.update(dict.fromkeys(node.items, definition.billing.within))
    told = list(definitions.values())
    planned = frozenset(item for node in graph.nodes for item in node.items)
    waiting = {item for items in activating.values() for item in items}
    return Terms(
        messages={name: _message(name, told) for name in STANDARD},
        milestones={
            name: milestone.tell
            for definition in reversed(told)
            for name, milestone in definition.milestones.items()
            if milestone.tell is not None
        },
        planned=planned,
        providing=frozenset(providing),
        activating=activating,
        active_with_order=frozenset(providing - waiting),
        billing=billing,
        billed_within=billed_within,
        entitlement=entitlement,
        delay_after=max((d.tell_delay_after for d in told), default=_DELAY_AFTER),
    )


def is_work(node: Node) -> bool:
    """Not the beginning of a fan-out or sub-process, and not a part of each element."""
    return node.group is None and node.kind not in (NodeKind.SPREAD, NodeKind.ENTER)


def forget() -> None:
    """For a process that turns to another database."""
    of_graph.cache_clear()


def _activation_task(definition: WorkflowDefinition) -> str | None:
    name = definition.activation
    if name is None or name in definition.tasks:
        return name
    return definition.milestones[name].reached_by


def _message(occasion: str, definitions: list[WorkflowDefinition]) -> TellSpec:
    """The first workflow of the order that has a text of its own decides."""
    standard = STANDARD[occasion]
    for definition in definitions:
        own: TellSpec | None = getattr(definition.messages, occasion)
        if own is not None:
            return own.model_copy(update={"subject": own.subject or standard.subject})
    return standard
