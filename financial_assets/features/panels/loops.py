"""A program as C++: steps that can share a loop do, and what only its own loop reads never leaves the registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from financial_assets.features.panels.program import Program, Step, channel_of

REACH = 32
"""Loops back to which a step may be moved to join others that read the same: further, and too much must be kept."""

TILE = 256
"""Sessions of a ticker that all loops pass through before the next: what they hand on stays in the nearest cache."""

LANES = 16
"""Sessions computed at a time: 64 bytes, which compilers split for processors with shorter registers."""

_COMPARISONS = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==", "ne": "!="}
_EXPRESSIONS: Mapping[str, str] = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}",
    "plus_scaled": "{0} + {2} * {1}", "positive": "{0} > 0.0f ? {0} : all(INFINITY)",
    **{name: f"{{0}} {sign} {{1}} ? all(1.0f) : all(0.0f)" for name, sign in _COMPARISONS.items()},
    "and": "{0} * {1}", "or": "maximum({0}, {1})", "where": "{0} != 0.0f ? all({1}) : all({2})",
    "minimum": "-maximum(-all({0}), -all({1}))", "maximum": "maximum(all({0}), all({1}))",
    "clamp": "clamp({0}, {1}, {2})", "abs": "size({0})", "sqrt": "root({0})", "floor": "whole({0})",
    "log": "logarithm({0})", "sin": "sine({0}, 0.0f)", "cos": "sine({0}, 0.5f)",
}  # fmt: skip

_HEAD = """
#include <cstdint>
#define INFINITY __builtin_inff()
#define INLINE static inline __attribute__((always_inline))
#define TILE %(tile)d
#define LANES %(lanes)d
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int I __attribute__((vector_size(4 * LANES)));
typedef float Anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE V load(const float* from) { return (V)*(const Anywhere*)from; }
INLINE void store(float* to, V x) { *(Anywhere*)to = (Anywhere)x; }
INLINE V all(float x) { return x - (V){}; }
INLINE V all(V x) { return x; }
INLINE V size(V x) { return (V)((I)x & 0x7fffffff); }
INLINE V clamp(V x, float low, float high) {
    V raised = x < low ? all(low) : x;
    return raised > high ? all(high) : raised;
}
INLINE V maximum(V x, V y) { return (x > y) | (x != x) ? x : y; }
INLINE V root(V x) {
    V roots;
    for (int lane = 0; lane < LANES; lane++) roots[lane] = __builtin_sqrtf(x[lane]);
    return roots;
}
INLINE V whole(V x) {  // beyond 2^23 every float is whole
    V cut = __builtin_convertvector(__builtin_convertvector(size(x) < 0x1p23f ? x : all(0.0f), I), V);
    return size(x) < 0x1p23f ? cut > x ? cut - 1.0f : cut : x;
}
INLINE V fused(V a, V b, V c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    V sums;
    for (int lane = 0; lane < LANES; lane++) sums[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return sums;
#else
    return a * b + c;
#endif
}
INLINE V logarithm(V x) {  // Cephes' logf (Moshier 1992), within a unit in the last place above 2^-126; else 0
    I power = ((I)x - 0x3f3504f3) >> 23;
    V f = (V)((I)x - (power << 23)) - 1.0f, s = f * f, e = __builtin_convertvector(power, V);
    V y = fused(all(7.0376836292e-2f), f, all(-1.1514610310e-1f));
    y = fused(y, f, all(1.1676998740e-1f));
    y = fused(y, f, all(-1.2420140846e-1f));
    y = fused(y, f, all(1.4249322787e-1f));
    y = fused(y, f, all(-1.6668057665e-1f));
    y = fused(y, f, all(2.0000714765e-1f));
    y = fused(y, f, all(-2.4999993993e-1f));
    y = fused(y, f, all(3.3333331174e-1f));
    y = fused(s, fused(y, f, all(-0.5f)), fused(e, all(-2.12194440e-4f), f));
    V value = fused(e, all(0.693359375f), y);
    return (x > 0.0f) & (x < INFINITY) ? value : all(0.0f);
}
INLINE V sine(V x, float quarters) {  // of x + quarters * pi: Cephes' sinf, Cody and Waite's reduction
    V turns = whole(x * 0.318309886f + quarters + 0.5f), shifted = turns - quarters;
    V r = x - shifted * 3.140625f;
    r = r - shifted * 9.67502593994140625e-4f;
    r = r - shifted * 1.509957990978376432e-7f;
    V s = r * r;
    V y = 2.6083159809786593e-6f * s - 1.9810690719168633e-4f;
    y = y * s + 8.3330785855650902e-3f;
    y = y * s - 1.6666659712791443e-1f;
    y = y * s * r + r;
    I is_odd = (__builtin_convertvector(turns, I) & 1) != 0;
    return is_odd ? -y : y;
}
INLINE void read(float* to, const float* from, int64_t sessions) { __builtin_memcpy(to, from, 4 * sessions); }
static __attribute__((noinline)) void write(float* to, const float* from, int64_t sessions, float low, float high) {
    int64_t t = 0;
    for (; t + LANES <= sessions; t += LANES) store(to + t, clamp(load(from + t), low, high));
    for (; t < sessions; t++) to[t] = from[t] < low ? low : from[t] > high ? high : from[t];
}
INLINE void keep(float* history, int64_t length) {
    for (int64_t t = 0; t < length; t += LANES) store(history + t, load(history + TILE + t));
}
"""


@dataclass
class _Loop:
    members: list[Step] = field(default_factory=list)
    reads: set[Step] = field(default_factory=set)


@dataclass(frozen=True)
class _Place:
    """Where a step's values of the current tile begin in the memory, and how many older ones stand before them."""

    start: int
    history: int


def write_loops(program: Program, bounds: Sequence[tuple[float, float]]) -> tuple[str, int]:
    """C++ of ``features(bars, out, tickers, channels, sessions, known, memory)``, and the floats of ``memory``."""
    loops = _loops(program)
    places, size = _places(program, loops)
    bodies = [_body(loop, places, number) for number, loop in enumerate(loops)]
    calls: list[str] = []
    for number, loop in enumerate(loops):
        for step in loop.members:
            if step.operation == "channel":
                calls.append(f"read(s + {places[step].start}, row + {channel_of(step)} * sessions + t, here);")
        calls += [f"loop_{number}(s);"] if bodies[number] else []
    for place, (step, lag) in enumerate(program.outputs):
        low, high = map(_literal, bounds[place])
        source = f"s + {places[step].start - lag} + skipped"
        calls.append(f"write(o + {place} * known + t + skipped, {source}, here - skipped, {low}, {high});")
    # A history may be longer than a tile: it moves up from its old end.
    calls += [f"keep(s + {each.start - each.history}, {each.history});" for each in places.values() if each.history]
    inner = "".join(f"            {call}\n" for call in calls)
    head = _HEAD % {"tile": TILE, "lanes": LANES}
    return head + "".join(bodies) + _MAIN % {"inner": inner, "outputs": len(bounds)}, size


_MAIN = """
extern "C" void features(const float* bars, float* out, int64_t tickers, int64_t channels,
                         int64_t sessions, int64_t known, float* s) {
    for (int64_t ticker = 0; ticker < tickers; ticker++) {
        const float* row = bars + ticker * channels * sessions;
        float* o = out + ticker * %(outputs)d * known - (sessions - known);
        for (int64_t t = 0; t < sessions; t += TILE) {
            const int64_t here = sessions - t < TILE ? sessions - t : TILE;
            const int64_t unknown = sessions - known - t, skipped = unknown < 0 ? 0 : unknown < here ? unknown : here;
%(inner)s        }
    }
}
"""


def _loops(program: Program) -> list[_Loop]:
    """Steps by loop; what a loop reads at another bar was computed by an earlier one."""
    loops: list[_Loop] = []
    place: dict[Step, int] = {}
    for step in program.steps:
        earliest = max((place[source] + (lag > 0) for source, lag in step.sources), default=0)
        reads = {source for source, _ in step.sources}
        kin = [
            number
            for number in range(max(earliest, len(loops) - REACH), len(loops))
            if reads & loops[number].reads or reads & set(loops[number].members)
        ]
        if kin and step.operation != "channel":
            number = kin[0]
        elif earliest < len(loops) and step.operation != "channel":
            number = len(loops) - 1
        else:
            number = len(loops)
            loops.append(_Loop())
        loops[number].members.append(step)
        loops[number].reads |= reads
        place[step] = number
    return loops


def _places(program: Program, loops: Sequence[_Loop]) -> tuple[dict[Step, _Place], int]:
    """A place for every step that other loops read, or are to look back at; and how much memory they take.

    Values without history are overwritten by later loops when no longer read.
    """
    loop_of = {step: number for number, loop in enumerate(loops) for step in loop.members}
    history: dict[Step, int] = {}
    last: dict[Step, int] = {}
    for reader, source, lag in [
        *((loop_of[step], *source) for step in program.steps for source in step.sources),
        *((len(loops), *output) for output in program.outputs),
    ]:
        if reader != loop_of[source] or lag or source.operation == "channel":
            history[source] = max(history.get(source, 0), -(-lag // LANES) * LANES)
            last[source] = max(last.get(source, 0), reader)
    places: dict[Step, _Place] = {}
    free: list[int] = []
    dying: dict[int, list[int]] = {}
    size = 0
    for number, loop in enumerate(loops):
        for step in loop.members:
            if step in last:
                is_shared = not history[step]
                if is_shared and free:
                    start = free.pop()
                else:
                    start, size = size + history[step], size + history[step] + TILE
                places[step] = _Place(start, history[step])
                if is_shared:
                    dying.setdefault(last[step], []).append(start)
        free += dying.get(number, [])
    return places, size


def _body(loop: _Loop, places: Mapping[Step, _Place], number: int) -> str:
    names: dict[tuple[Step, int], str] = {}
    lines: list[str] = []
    for step in loop.members:
        if step.operation == "channel":
            continue
        operands: list[str] = []
        for operand in step.operands:
            if not isinstance(operand, tuple):
                operands.append(_literal(operand))
                continue
            if operand not in names:
                names[operand] = f"v{len(names)}"
                source, lag = operand
                lines.append(f"const V {names[operand]} = load(s + t + {places[source].start - lag});")
            operands.append(names[operand])
        names[step, 0] = f"v{len(names)}"
        lines.append(f"const V {names[step, 0]} = {_EXPRESSIONS[step.operation].format(*operands)};")
        if step in places:
            lines.append(f"store(s + t + {places[step].start}, {names[step, 0]});")
    if not lines:
        return ""
    inner = "".join(f"        {line}\n" for line in lines)
    return (
        f"static __attribute__((noinline)) void loop_{number}(float* s) {{\n"
        f"    for (int64_t t = 0; t < TILE; t += LANES) {{\n{inner}    }}\n}}\n"
    )


def _literal(number: float) -> str:
    if number in (float("inf"), float("-inf")):
        return "INFINITY" if number > 0 else "-INFINITY"
    return f"{float(number).hex()}f"
