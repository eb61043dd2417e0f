"""The order of tasks: those of one kind together, where none waits for another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from financial_assets.models.onnx.lowering.expansion import Kind, Task


def needed_tasks(tasks: Sequence[Task], wanted: Sequence[int]) -> list[Task]:
    """The tasks that rows depend on."""
    needed, kept = set(wanted), list[Task]()
    for task in reversed(tasks):
        if task.result in needed:
            needed.update(rows_of(task))
            kept.append(task)
    return kept[::-1]


def rows_of(task: Task) -> list[int]:
    """The rows that a task takes."""
    return [operand for operand in task.operands if isinstance(operand, int)]


def grouped(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks in an order in which they can be computed, those of one kind together where none waits for another.

    Greedy: a kind of which nothing is still to come is taken first, then the one that most depends on.
    """
    number_of = {task.result: number for number, task in enumerate(tasks)}
    users: list[list[int]] = [[] for _ in tasks]
    missing = [0] * len(tasks)
    for number, task in enumerate(tasks):
        sources = {number_of[row] for row in rows_of(task) if row in number_of}
        missing[number] = len(sources)
        for source in sources:
            users[source].append(number)
    height = [0] * len(tasks)
    for number in reversed(range(len(tasks))):
        height[number] = 1 + max((height[user] for user in users[number]), default=0)
    to_come = Counter(task.kind for task in tasks)
    ready: dict[Kind, list[int]] = defaultdict(list)
    for number, task in enumerate(tasks):
        if not missing[number]:
            ready[task.kind].append(number)
    groups: list[list[Task]] = []
    while ready:

        def urgency(kind: Kind) -> tuple[bool, int, float]:
            members = ready[kind]
            highest = max(height[number] for number in members)
            return len(members) == to_come[kind], highest, len(members) / to_come[kind]

        kind = max(ready, key=urgency)
        members = ready.pop(kind)
        to_come[kind] -= len(members)
        groups.append([tasks[number] for number in members])
        for user in (user for number in members for user in users[number]):
            missing[user] -= 1
            if not missing[user]:
                ready[tasks[user].kind].append(user)
    return groups
