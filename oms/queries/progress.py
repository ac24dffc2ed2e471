"""Structured progress (reference §15, §16): computed from the task graph, never set by hand.

Five kinds of partial fulfilment stand side by side, each with what is there and what is missing,
so that none of them hides behind the order's one state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fulfillment.definitions.customer import Entitlement
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.readiness import Place, chosen_by, existence
from fulfillment.engine.store import graphs
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, PlanState, TaskState
from oms import assets, terms
from oms.models import Asset, BillingMatch, Order
from oms.terms import Terms

_GIVEN_UP = frozenset({PlanState.COMPENSATING, PlanState.CANCELLED, PlanState.FAILED})
_DONE = frozenset({TaskState.SUCCEEDED, TaskState.WAIVED_BY_AUTHORIZED_USER})
"""What was skipped has not been done: nothing is active by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of fulfilment: what is there, and what is still missing."""

    there: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Something is there, and something is missing."""
        return bool(self.there) and bool(self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Of the tasks that the order can't complete without; `share` is 0 to 1, 0 without tasks."""

    mandatory: int
    done: int

    @property
    def share(self) -> float:
        return self.done / self.mandatory if self.mandatory else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Structured:
    """Tasks are named by key, items by their `item_id`, milestones by name."""

    tasks: Tasks
    operational: Part
    """Tasks that are done."""
    commercial: Part
    """Items for which every mandatory task is done."""
    customer_visible: Part
    """Milestones that are reached."""
    billing: Part
    """Items that are billed; missing are those that are active and not billed yet."""
    asset: Part
    """Items that are active in the installed base."""
    entitled: Part
    """Items that the customer may use now."""
    entitlement: Mapping[str, Entitlement] = field(default_factory=dict)
    """Item -> what its workflow says of the time between activation and billing."""
    items: Mapping[str, Tasks] = field(default_factory=dict)
    """Item -> the mandatory tasks that serve it; none of what is given up."""


NOTHING = Structured(
    tasks=Tasks(mandatory=0, done=0),
    operational=Part(),
    commercial=Part(),
    customer_visible=Part(),
    billing=Part(),
    asset=Part(),
    entitled=Part(),
)
"""Of an order that has no plan yet."""


def progress_of(
    *,
    graph: Graph,
    states: Mapping[int, TaskState],
    agreed: Terms,
    is_complete: bool,
    names: Mapping[int, str],
    reached: Collection[str],
    gone: Collection[int] = (),
) -> Structured:
    """Pure. `states` are the tasks' by node; a node without a task yet counts as open, unless it
    is `gone`: a branch that was not taken. Elements of a fan-out count with its end.

    `names` are the items' own names by position; items without tasks are no part of this.
    `reached` are the names of the milestones that the customer knows to be reached.
    """
    nodes = [node for node in graph.nodes if node.index not in gone and terms.is_work(node)]
    mandatory = [node for node in nodes if node.required]
    done = {node for node, state in states.items() if state in _DONE}
    closed = {node for node, state in states.items() if state in TASK_SUCCESSFUL}
    # What is undone of an item that an amendment has left out is no part of this.
    items = [item for item in sorted(agreed.planned) if item in names]
    providing = [item for item in sorted(agreed.providing) if item in names]
    # A task for the whole order is behind all of its items: it says nothing about one of them,
    # unless the item has none of its own.
    own = {node.item for node in mandatory}
    serving: dict[int, list[int]] = {item: [] for item in items}
    for node in mandatory:
        for item in (one for one in node.items if node.item == one or one not in own):
            if item in serving:
                serving[item].append(node.index)
    commercial = {item for item in items if closed.issuperset(serving[item])}
    active = {item for node in done & set(agreed.activating) for item in agreed.activating[node]}
    if is_complete:
        active |= agreed.active_with_order
    # Who waives a billing does not bill.
    billed = {
        item for item, node in agreed.billing.items() if states.get(node) == TaskState.SUCCEEDED
    }
    unbilled = (active & set(agreed.billing)) - billed
    usable = {
        item
        for item in active
        if item not in unbilled or agreed.entitlement.get(item) is Entitlement.BEFORE_BILLING
    }
    # What is skipped will not come true, so nobody is waiting for it.
    promised = dict.fromkeys(
        milestone.name
        for node in nodes
        if states.get(node.index) != TaskState.SKIPPED_BY_POLICY
        for milestone in node.milestones
    )

    def of_items(there: Collection[int], among: Iterable[int]) -> Part:
        return _part(there, among, names=names)

    return Structured(
        tasks=Tasks(mandatory=len(mandatory), done=sum(node.index in closed for node in mandatory)),
        operational=_part(
            closed,
            (node.index for node in nodes),
            names={node.index: node.key for node in nodes},
        ),
        commercial=of_items(commercial, items),
        customer_visible=Part(
            there=tuple(name for name in promised if name in reached),
            missing=tuple(name for name in promised if name not in reached),
        ),
        billing=of_items(billed, sorted(billed | unbilled)),
        asset=of_items(active, providing),
        entitled=of_items(usable, providing),
        entitlement={
            names[item]: agreed.entitlement[item] for item in items if item in agreed.entitlement
        },
        items={
            names[item]: Tasks(mandatory=len(mine), done=len(closed.intersection(mine)))
            for item, mine in serving.items()
        },
    )


def _part(there: Collection[int], among: Iterable[int], *, names: Mapping[int, str]) -> Part:
    listed = list(among)
    return Part(
        there=tuple(names[one] for one in listed if one in there),
        missing=tuple(names[one] for one in listed if one not in there),
    )


def structured(*, orders: Sequence[Order], plans: Mapping[int, Plan]) -> dict[int, Structured]:
    """How far each order is, by its id; one query for all tasks.

    `plans` are the orders' newest plans by fulfillment. Read the orders with their items and
    milestones prefetched.
    """
    states: dict[int, dict[int, TaskState]] = {}
    tasks = Task.objects.filter(plan__in=[plan.pk for plan in plans.values()], element=0, round=0)
    gone = _not_taken(plans.values())
    left = _left([order for order in orders if _is_given_up(plans.get(order.fulfillment_id))])
    for plan_id, node, state in tasks.values_list("plan_id", "node", "state"):
        states.setdefault(plan_id, {})[node] = TaskState(state)
    found = {}
    for order in orders:
        plan = plans.get(order.fulfillment_id)
        if plan is None:
            found[order.pk] = NOTHING
            continue
        if order.pk in left:
            found[order.pk] = _of_undoing(order, plan, states.get(plan.pk, {}), left[order.pk])
            continue
        found[order.pk] = progress_of(
            graph=graphs.by_id(plan.graph_id),
            states=states.get(plan.pk, {}),
            agreed=terms.of_graph(plan.graph_id),
            is_complete=plan.state == PlanState.COMPLETED,
            names={item.position: item.item_id for item in order.items.all()},
            reached={milestone.name for milestone in order.milestones.all()},
            gone=gone.get(plan.pk, ()),
        )
    return found


def _not_taken(plans: Iterable[Plan]) -> dict[int, set[int]]:
    """By plan the nodes that will never exist, as it was decided; one query, if any decides."""
    deciding = {plan.pk: plan for plan in plans if graphs.by_id(plan.graph_id).choosers}
    if not deciding:
        return {}
    choices: dict[int, dict[Place, frozenset[str]]] = {plan_id: {} for plan_id in deciding}
    wanted = {n for plan in deciding.values() for n in graphs.by_id(plan.graph_id).choosers}
    for task in Task.objects.filter(
        plan__in=deciding, node__in=wanted, element=0, state__in=TASK_SUCCESSFUL
    ):
        graph = graphs.by_id(deciding[task.plan_id].graph_id)
        if task.node in graph.choosers:
            choices[task.plan_id][task.node, 0] = chosen_by(
                kind=graph.nodes[task.node].kind, outputs=task.outputs or {}
            )
    found = {}
    for plan_id, plan in deciding.items():
        exist = existence(graph=graphs.by_id(plan.graph_id), element=0, choices=choices[plan_id])
        found[plan_id] = {node for node, exists in exist.items() if exists is False}
    return found


# --- what is given up -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Left:
    """Positions of the items of which something is still there."""

    active: frozenset[int]
    billed: frozenset[int]
    unbilled: frozenset[int]
    """Active and to be billed, and not billed."""


def _is_given_up(plan: Plan | None) -> bool:
    return plan is not None and plan.state in _GIVEN_UP


def _left(orders: Sequence[Order]) -> dict[int, _Left]:
    """By order; of the plan itself it can't be told, as it knows only what is undone."""
    if not orders:
        return {}
    names = {
        (order.client_id, assets.asset_id_of(item, order=order)): None
        for order in orders
        for item in order.items.all()
    }
    changed = {
        (change["order"], change["position"])
        for asset in Asset.objects.filter(
            client__in={client for client, _ in names}, asset_id__in={name for _, name in names}
        )
        for change in asset.before
    }
    matches: dict[int, list[BillingMatch]] = {}
    for match in BillingMatch.objects.filter(item__order__in=orders).select_related("item"):
        matches.setdefault(match.item.order_id, []).append(match)
    found = {}
    for order in orders:
        mine = matches.get(order.pk, [])
        found[order.pk] = _Left(
            active=frozenset(position for of, position in changed if of == order.pk),
            billed=frozenset(m.item.position for m in mine if m.billed_at is not None),
            unbilled=frozenset(
                m.item.position for m in mine if m.service_at is not None and m.billed_at is None
            ),
        )
    return found


def _of_undoing(
    order: Order, plan: Plan, states: Mapping[int, TaskState], left: _Left
) -> Structured:
    """Nothing is promised any more: what counts is what is undone, and what is still there."""
    graph = graphs.by_id(plan.graph_id)
    undos = [node for node in graph.nodes if node.undoes]
    over = {node.index for node in undos if states.get(node.index) in TASK_SUCCESSFUL}
    names = {item.position: item.item_id for item in order.items.all()}

    def named(positions: Collection[int]) -> tuple[str, ...]:
        return tuple(names[one] for one in sorted(positions) if one in names)

    return Structured(
        tasks=Tasks(mandatory=len(undos), done=len(over)),
        operational=_part(
            over, (node.index for node in undos), names={node.index: node.key for node in undos}
        ),
        commercial=Part(),
        customer_visible=Part(there=tuple(one.name for one in order.milestones.all())),
        billing=Part(there=named(left.billed), missing=named(left.unbilled)),
        asset=Part(there=named(left.active)),
        entitled=Part(there=named(left.active - left.unbilled)),
    )
