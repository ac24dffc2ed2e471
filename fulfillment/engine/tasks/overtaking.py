"""Commands that another of their task has taken the place of, and what is still told of them.

Another way, a retry by hand and fresh values each make a new command, and only once the one
before is known to have had no effect. What is told of that one afterwards does not settle the
new one, whichever door it comes by: the answer to a call, a report, or a lease that ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fulfillment.engine.store import graphs
from fulfillment.engine.tasks.contradicting import Overtaken
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.engine.work.rows import tasks_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Purpose, Task
from fulfillment.states import TASK_SUCCESSFUL, TASK_TERMINAL, TaskState

_COMMANDS = """
SELECT c.id, c.task_id, c.revision, c.target_id, c.action, c.idempotency_key,
       EXISTS (
           SELECT 1 FROM fulfillment_command n
           WHERE n.task_id = c.task_id AND n.revision > c.revision)
FROM fulfillment_command c WHERE c.id = ANY(%s::bigint[])
"""
_ANEW = """
SELECT o.id, n.id FROM fulfillment_task o
JOIN fulfillment_plan p ON p.fulfillment_id = o.fulfillment_id AND p.id > o.plan_id
JOIN fulfillment_task n ON n.plan_id = p.id AND n.key = o.key AND n.round = 0
WHERE o.id = ANY(%s::bigint[]) ORDER BY o.id, n.id
"""
_UNDONE = TASK_TERMINAL - TASK_SUCCESSFUL
Commands = Mapping[int, tuple[int, Overtaken, bool]]
"""By id: its task, itself, and whether it has been overtaken."""


def begun_anew(unit: Unit, tasks: Iterable[Task]) -> dict[int, Task]:
    """By the id of a task that a replaced plan has kept, undone: the one in its place now."""
    undone = [task.id for task in tasks if task.state in _UNDONE and not task.round]
    if not undone:
        return {}
    unit.raw.execute(_ANEW, [undone], prepare=True)
    found: dict[int, int] = dict(unit.raw.fetchall())
    unit.adopt_tasks(tasks_by_id(unit.raw, set(found.values()) - unit.tasks.keys()))
    return {old: unit.tasks[new] for old, new in found.items()}


def look_up(unit: Unit, results: Sequence[Result]) -> Commands:
    """The commands, by id, that may have been overtaken, and whether they have been by now.

    Of the usual batch, answers to calls that their tasks still wait for, none: no statement.
    """
    several = {task_id for task_id, count in _per_task(results).items() if count > 1}
    doubtful = {
        result.command_id
        for result in results
        if result.command_id is not None
        and (result.task_id in several or not _is_awaited(unit.tasks[result.task_id], result))
    }
    if not doubtful:
        return {}
    unit.raw.execute(_COMMANDS, [sorted(doubtful)], prepare=True)
    return {
        command_id: (
            task_id,
            Overtaken(revision=revision, target=target, action=action, idempotency_key=key),
            is_overtaken,
        )
        for command_id, task_id, revision, target, action, key, is_overtaken in unit.raw.fetchall()
    }


def overtaken(unit: Unit, result: Result, known: Commands) -> Overtaken | None:
    """The command that a result is about, if it has been overtaken; also within this unit."""
    if result.command_id is None or result.command_id not in known:
        return None
    task_id, command, is_overtaken = known[result.command_id]
    if (
        task_id != result.task_id
        or is_overtaken
        or any(new.task_id == result.task_id for new in unit.new_commands)
        or _asks_for_something_else(unit, unit.tasks[result.task_id], command)
    ):
        return command
    return None


def _asks_for_something_else(unit: Unit, task: Task, command: Overtaken) -> bool:
    """What was sent back has begun anew under another plan, as another task."""
    if task.state != TaskState.PENDING:
        return False
    node = graphs.by_id(unit.plans[task.plan_id].graph_id).nodes[task.node]
    ways = {(node.target, node.action)} | {(one.target, one.action) for one in node.fallbacks}
    return (command.target, command.action) not in ways


def _per_task(results: Sequence[Result]) -> Counter[int]:
    return Counter(result.task_id for result in results)


def _is_awaited(task: Task, result: Result) -> bool:
    """Whether it answers the very call that the task is in: nothing can have come between."""
    if result.attempt_id is None or result.attempt_number != task.attempts:
        return False
    in_call = TaskState.DISPATCHED if result.purpose is Purpose.SEND else TaskState.OUTCOME_UNKNOWN
    return bool(task.state == in_call)
