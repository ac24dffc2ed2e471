"""Depths and cycles of a directed graph given as adjacency lists of positions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

Adjacency = Sequence[Sequence[int]]


def depths(*, predecessors: Adjacency, successors: Adjacency) -> list[int | None]:
    """Length of the longest path from a root; None for what lies on or behind a cycle."""
    waiting = [len(sources) for sources in predecessors]
    found: list[int | None] = [None] * len(waiting)
    level = [position for position, count in enumerate(waiting) if count == 0]
    depth = 0
    while level:
        following = []
        for position in level:
            found[position] = depth
            for successor in successors[position]:
                waiting[successor] -= 1
                if waiting[successor] == 0:
                    following.append(successor)
        level = following
        depth += 1
    return found


def cycles(*, successors: Adjacency) -> list[tuple[list[int], list[int]]]:
    """Every knot of nodes that wait for each other: (a shortest cycle in it, all its members).

    The cycle starts at the knot's smallest position and does not repeat it at the end. A node
    that points at itself is a knot of one. Knots come in order of their smallest position.
    """
    knots = []
    for component in _components(successors):
        members = sorted(component)
        first = members[0]
        if len(members) > 1 or first in successors[first]:
            knots.append((_shortest_cycle(first, frozenset(members), successors), members))
    return sorted(knots, key=lambda knot: knot[1])


def descendants(*, of: Sequence[int], successors: Adjacency) -> set[int]:
    """Everything that can be reached from the given positions, without themselves."""
    seen = set(of)
    queue = deque(of)
    while queue:
        for successor in successors[queue.popleft()]:
            if successor not in seen:
                seen.add(successor)
                queue.append(successor)
    return seen - set(of)


def _shortest_cycle(start: int, members: frozenset[int], successors: Adjacency) -> list[int]:
    came_from: dict[int, int] = {}
    queue = deque([start])
    while queue:
        position = queue.popleft()
        for successor in successors[position]:
            if successor == start:
                path = [position]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if successor in members and successor not in came_from:
                came_from[successor] = position
                queue.append(successor)
    raise ValueError(f"position {start} is not on a cycle")


def _components(successors: Adjacency) -> Iterator[list[int]]:
    """Strongly connected components (Tarjan 1972), with a stack of our own: a definition may
    chain more tasks than Python may nest calls."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in range(len(successors)):
        if root in order:
            continue
        work = [(root, iter(successors[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            position, remaining = work[-1]
            for successor in remaining:
                if successor not in order:
                    order[successor] = low[successor] = len(order)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(successors[successor])))
                    break
                if successor in on_stack:
                    low[position] = min(low[position], order[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[position])
                if low[position] == order[position]:
                    component: list[int] = []
                    while not component or component[-1] != position:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    yield component
