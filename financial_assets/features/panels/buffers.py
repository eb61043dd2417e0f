"""Which steps of a program share a buffer: few buffers stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from financial_assets.features.panels.program import Program, Step


def assign_buffers(program: Program, kind: Callable[[Step], Hashable]) -> Mapping[Step, tuple[Hashable, int]]:
    """A buffer, kind and number, for every step; two steps of one kind share one if the first is no longer read.

    A step may write over an operand that it is the last to read, where it reads nothing of it at another bar.
    """
    kinds = {step: kind(step) for step in program.steps}
    last = {source: place for place, step in enumerate(program.steps) for source, _ in step.sources}
    # Outputs are kept: they are read after the last step.
    last.update((step, len(program.steps)) for step, _ in program.outputs)
    free: dict[Hashable, list[int]] = {}
    made: dict[Hashable, int] = {}
    buffers: dict[Step, tuple[Hashable, int]] = {}
    for place, step in enumerate(program.steps):
        mine = kinds[step]
        dying = [source for source in dict(step.sources) if last[source] == place]
        lagged = {source for source, lag in step.sources if lag}
        overwritten = [source for source in dying if source not in lagged and kinds[source] == mine]
        if overwritten:
            buffers[step] = buffers[overwritten[0]]
            dying.remove(overwritten[0])
        elif free.get(mine):
            # The one that was given back last: it is likeliest to be in the cache.
            buffers[step] = (mine, free[mine].pop())
        else:
            number = made.get(mine, 0)
            buffers[step] = (mine, number)
            made[mine] = number + 1
        for source in dying:
            free.setdefault(kinds[source], []).append(buffers[source][1])
    return buffers
