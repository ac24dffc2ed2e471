"""What the workflows of an order say towards its customer, read once per graph.

Published versions and stored graphs never change, so neither does the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache

from fulfillment.definitions.customer import Entitlement, Provides, TellSpec
from fulfillment.definitions.graph import Graph, Node, NodeKind
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.undo_graph import PREFIX
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
    "partly_completed": TellSpec(
        subject="Your order ${order.external_id} is done in part",
        message="A part of your order ${order.external_id} is done, and a part of it can't be. "
        "We will be in touch about that part.",
    ),
    "delayed": TellSpec(
        subject="Your order ${order.external_id} is delayed",
        message="Your order ${order.external_id} is delayed. We are working on it.",
    ),
}
"""By occasion; a workflow's `messages` go before them."""
QUESTION_FACT = "order.question"
QUESTION = TellSpec(
    subject="We have a question about your order ${order.external_id}",
    message="Before your order ${order.external_id} can go on, we need to know:\n\n"
    "${order.question}\n\nPlease reply; your order waits for it.",
)
"""What a person has to know from the customer, in the words of that person."""
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
    deactivating: Mapping[int, tuple[int, ...]]
    """Node -> items that are as they were before as soon as it has succeeded."""
    active_with_order: frozenset[int]
    """Items that are active as soon as the order is complete."""
    billing: Mapping[int, int]
    """Item -> node that starts its billing."""
    uncharging: Mapping[int, tuple[int, ...]]
    """Node -> items whose billing it takes back."""
    billed_within: Mapping[int, timedelta]
    """Item -> how long it may be active and not billed, or the other way round; also of one that is
    given up."""
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

    @cached_property
    def watched(self) -> frozenset[int]:
        """The nodes that make something real, or take it back."""
        return frozenset({*self.activating, *self.charging, *self.deactivating, *self.uncharging})


NOTHING = Terms(
    messages=STANDARD,
    milestones={},
    planned=frozenset(),
    providing=frozenset(),
    activating={},
    deactivating={},
    active_with_order=frozenset(),
    billing={},
    uncharging={},
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
    deactivating: dict[int, tuple[int, ...]] = {}
    billing: dict[int, int] = {}
    uncharging: dict[int, tuple[int, ...]] = {}
    billed_within: dict[int, timedelta] = {}
    providing: set[int] = set()
    entitlement: dict[int, Entitlement] = {}
    for planned in graph.workflows:  # Of what is given up nothing may be left to be undone.
        definition = definitions.get(planned.name)
        if definition is not None and definition.billing is not None:
            billed_within.update(dict.fromkeys(planned.items, definition.billing.within))
    undoing = undo_nodes(graph)
    for node in graph.nodes:
        # A task may come from a part of a workflow that has a name of its own.
        definition = definitions.get(node.workflow)
        if definition is None and node.index in undoing:
            # An amendment has left out all that this workflow had fulfilled.
            definition = workflows.definition_named(node.workflow, node.workflow_version)
        if definition is None:
            continue
        if definition.provides is Provides.NOTHING:
            continue
        if node.index in undoing:
            if definition.billing is not None:  # Of what stays when the other is undone.
                billed_within.update(dict.fromkeys(node.items, definition.billing.within))
            if node.task == f"{PREFIX}{_activation_task(definition)}":
                deactivating[node.index] = node.items
            if definition.billing is not None and node.task == f"{PREFIX}{definition.billing.task}":
                uncharging[node.index] = node.items
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
    served = [planned.items for planned in graph.workflows]
    served += [node.items for node in graph.nodes if node.index not in undoing]
    waiting = {item for items in activating.values() for item in items}
    return Terms(
        messages={name: message_for(name, told) for name in STANDARD},
        milestones={
            name: milestone.tell
            for definition in reversed(told)
            for name, milestone in definition.milestones.items()
            if milestone.tell is not None
        },
        planned=frozenset(item for items in served for item in items),
        providing=frozenset(providing),
        activating=activating,
        deactivating=deactivating,
        active_with_order=frozenset(providing - waiting),
        billing=billing,
        uncharging=uncharging,
        billed_within=billed_within,
        entitlement=entitlement,
        delay_after=max((d.tell_delay_after for d in told), default=_DELAY_AFTER),
    )


def is_work(node: Node) -> bool:
    """Not the beginning of a fan-out or sub-process, and not a part of each element."""
    return node.group is None and node.kind not in (NodeKind.SPREAD, NodeKind.ENTER)


def undo_nodes(graph: Graph) -> frozenset[int]:
    """The nodes that undo something, and those where somebody is asked whether they may."""
    return frozenset(
        node.index
        for node in graph.nodes
        if node.undoes
        or (
            node.kind is NodeKind.MANUAL
            and any(graph.nodes[after].undoes for after in graph.successors[node.index])
        )
    )


def forget() -> None:
    """For a process that turns to another database."""
    of_graph.cache_clear()


def _activation_task(definition: WorkflowDefinition) -> str | None:
    name = definition.activation
    if name is None or name in definition.tasks:
        return name
    return definition.milestones[name].reached_by


def message_for(occasion: str, definitions: Sequence[WorkflowDefinition]) -> TellSpec:
    """The first workflow of the order that has a text of its own decides."""
    standard = STANDARD[occasion]
    for definition in definitions:
        own: TellSpec | None = getattr(definition.messages, occasion)
        if own is not None:
            return own.model_copy(update={"subject": own.subject or standard.subject})
    return standard
