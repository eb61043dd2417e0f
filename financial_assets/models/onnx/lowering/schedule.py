"""The order of tasks: those of one kind together, where none waits for another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from financial_assets.models.onnx.lowering.tasks import Kind, Task


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

    Greedy: first a kind that no further task could join if it waited; of these the one that most depends on.
    """
    number_of = {task.result: number for number, task in enumerate(tasks)}
    sources = [{number_of[row] for row in rows_of(task) if row in number_of} for task in tasks]
    users: list[list[int]] = [[] for _ in tasks]
    behind = [0] * len(tasks)  # sets of tasks as bits of a number
    pending: dict[Kind, set[int]] = defaultdict(set)
    for number, task in enumerate(tasks):
        for source in sources[number]:
            users[source].append(number)
            behind[number] |= behind[source] | 1 << source
        pending[task.kind].add(number)
    height = [0] * len(tasks)
    for number in reversed(range(len(tasks))):
        height[number] = 1 + max((height[user] for user in users[number]), default=0)
    missing = [len(needs) for needs in sources]
    ready: dict[Kind, list[int]] = defaultdict(list)

    def note(number: int) -> None:
        ready[tasks[number].kind].append(number)
        pending[tasks[number].kind].remove(number)

    for number, count in enumerate(missing):
        if not count:
            note(number)

    def urgency(kind: Kind) -> tuple[bool, int]:
        here = sum(1 << number for number in ready[kind])
        joining = sum(not behind[number] & here for number in pending[kind])
        return joining == 0, max(height[number] for number in ready[kind])

    groups: list[list[Task]] = []
    while ready:
        kind = max(ready, key=urgency)
        members = ready.pop(kind)
        groups.append([tasks[number] for number in members])
        for user in (user for number in members for user in users[number]):
            missing[user] -= 1
            if not missing[user]:
                note(user)
    return groups
