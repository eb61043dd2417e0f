"""Thresholds of features: false alarms per year on streams whose volatility clusters and whose level wanders.

Streams of many kinds without drift (``nulls``) go through all that a feature goes through: ranks, memory, running size,
each fitted on a reference of its own. A year's highest sum is then put down beside the class of its stream: how clearly
the data say that it is not white noise, or does not forget within a week, and how long its memory is. A stream that
looks like white noise may be judged more strictly than one that wanders; a long memory that the data merely allow says
little, since they allow one of white noise, too. A threshold holds for each kind by itself, not only for their mixture.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import scipy

from financial_assets.kept import code_digest, kept
from financial_assets.monitoring.drift import cusum, memory, nulls, samples, whitening
from financial_assets.monitoring.drift.cusum import run_cusum
from financial_assets.monitoring.drift.memory import Memory
from financial_assets.monitoring.drift.samples import normal_scores, size_scores
from financial_assets.monitoring.drift.thresholds import SESSIONS_A_YEAR, false_alarm_probability
from financial_assets.monitoring.drift.whitening import Whitened, whiten

LEVEL, SCALE = range(2)
"""What a stream is: values, or sizes of innovations."""

ALLOWANCES = (0.35, 0.25)
"""Forgiven each session (k), by aspect: tuned to shifts of twice that size."""

_SPENT = 0.8
"""Of the budget: the rest is for what real streams do that none of the simulated kinds does."""

_WORLDS = 1000
_CHUNK = 500
_SEED = 20_261_129
_REFERENCES = (60, 90, 130, 200, 300, 450, 700, 1000)
"""Simulated lengths; a stream takes the next shorter one, which gives the higher threshold."""

_WHITE, _FAST, _DOUBTFUL = (0.5, 2.0), 0.5, 4.0
"""Upper ends of the classes of streams that may be white noise, by ``Memory.over_white``, and of the others that forget
within a week, by ``Memory.over_fast``; between that and the last border the data do not say."""

_LONG = (8.0, 25.0, 80.0)
"""Borders of the classes of all others, by ``Memory.long_run``; those below the first are doubtful, too."""

_LEVELS = len(_WHITE) + 2 + len(_LONG)
_CLASSES = (_LEVELS, 2 * _LEVELS)
"""How many classes there are, by aspect: a scale has one among those of levels that may, or may not, be fast."""

_LEAST = 4
"""Fewer streams of one kind in a class say nothing: that kind is as good as never there."""

_TAIL, _TAIL_COUNT = 0.04, 15


@dataclass(frozen=True)
class _Tail:
    """Peaks of one kind of stream in one class: how often they are there, and how far they go."""

    share: float
    peaks: np.ndarray

    @property
    def border(self) -> tuple[float, float, float]:
        """Probability, place and mean excess of the exponential tail.

        Bursts make tails heavier than exponential ones. The highest of n peaks is exceeded about once in n years, and
        the tail must say so.
        """
        count = len(self.peaks)
        beyond = min(1.0, max(_TAIL, _TAIL_COUNT / count))
        border = float(np.quantile(self.peaks, 1.0 - beyond))
        mean = float(np.mean(self.peaks[self.peaks >= border] - border))
        return beyond, border, max(mean, (float(self.peaks.max()) - border) / math.log(beyond * count))

    def quantile(self, probability: float) -> float:
        """What a year's peak exceeds with that probability."""
        beyond, border, excess = self.border
        if probability >= beyond:
            return float(np.quantile(self.peaks, 1.0 - min(probability, 1.0)))
        return border + excess * math.log(beyond / probability)

    def exceeding(self, peak: float) -> float:
        """Probability that a year's peak exceeds ``peak``."""
        beyond, border, excess = self.border
        if peak > border:
            return beyond * math.exp((border - peak) / excess)
        return float(np.mean(self.peaks >= peak))


def robust_threshold(
    false_alarms_a_year: float,
    streams: int,
    reference_sessions: int,
    place: int,
    *,
    aspect: int = LEVEL,
    folder: Path | None = None,
) -> float:
    """The threshold of one stream among ``streams`` (Bonferroni: holds however they depend on each other).

    A stream may raise a false alarm with probability ``f`` a year, whatever its kind. A kind that shows up in a class
    with probability ``p`` is allowed ``f p / 2`` there and another ``f / 2`` over the number of classes, so that a rare
    class does not set the threshold of all. Beyond its largest peaks a kind's quantile is extrapolated exponentially.

    Parameters
    ----------
    false_alarms_a_year, streams
        Budget per 252 sessions of all streams together, and their number.
    reference_sessions
        Sessions that the stream's memory was estimated on.
    place
        Class of the stream, by :func:`level_class` or :func:`scale_class`.
    aspect
        ``LEVEL``, of which both sums alarm, or ``SCALE``, of which the upper one does.
    folder
        Where simulations are kept on disk; ``None``: nowhere.

    Raises
    ------
    MonitoringError
        If the budget or the number of streams is not positive.
    """
    allowed = _SPENT * false_alarm_probability(false_alarms_a_year, streams)
    return _bound(allowed, _shorter(reference_sessions), place, aspect, folder)


@lru_cache(maxsize=1024)
def _bound(allowed: float, reference_sessions: int, place: int, aspect: int, folder: Path | None) -> float:
    return max(
        tail.quantile(min(1.0, allowed / 2.0 * (1.0 + 1.0 / (_CLASSES[aspect] * tail.share))))
        for tail in _tails(reference_sessions, aspect, folder)[place]
    )


def robust_chance(
    peak: float,
    streams: int,
    reference_sessions: int,
    place: int,
    *,
    aspect: int = LEVEL,
    folder: Path | None = None,
) -> float:
    """Most that the probability can be of one of ``streams`` going as far as ``peak`` in a year without drift.

    The inverse of ``robust_threshold``; see there for the arguments.
    """
    tails, classes = _tails(_shorter(reference_sessions), aspect, folder)[place], _CLASSES[aspect]
    either = max(tail.exceeding(peak) / (0.5 * _SPENT * (1.0 + 1.0 / (classes * tail.share))) for tail in tails)
    return min(1.0, streams * either)


def level_class(level: Memory) -> np.ndarray:
    """Class of each stream by the memory of its values, int ``[stream]``."""
    fast = len(_WHITE)
    doubtful = fast + 1
    slow = doubtful + np.searchsorted(_LONG, level.long_run, side="right")
    slow = np.where(level.over_fast < _DOUBTFUL, doubtful, slow)
    found = np.where(level.over_fast < _FAST, fast, slow)
    white = np.searchsorted(_WHITE, level.over_white, side="right")
    return np.where(level.over_white < _WHITE[-1], white, found)


def scale_class(level: Memory, scale: Memory) -> np.ndarray:
    """Class of each stream by the memories of its values and of their sizes, int ``[stream]``."""
    return level_class(scale) + np.where(level_class(level) <= len(_WHITE), 0, _LEVELS)


def _shorter(reference_sessions: int) -> int:
    """The next shorter length that is simulated."""
    return max((length for length in _REFERENCES if length <= reference_sessions), default=_REFERENCES[0])


@lru_cache(maxsize=len(_REFERENCES))
def _peaks(reference_sessions: int, folder: Path | None) -> np.ndarray:
    """Simulated classes and peaks of both aspects, as :func:`simulated_peaks`; from ``folder`` if they are there."""

    def simulate() -> np.ndarray:
        return simulated_peaks(reference_sessions, worlds=_WORLDS, seed=_SEED)

    if folder is None:
        return simulate()
    depends_on = f"{_code()} {reference_sessions} {_WORLDS} {_SEED}"
    return kept(folder, f"robust_{reference_sessions}", depends_on, simulate)


@lru_cache(maxsize=2 * len(_REFERENCES))
def _tails(reference_sessions: int, aspect: int, folder: Path | None) -> tuple[list[_Tail], ...]:
    """Tails by class; a class that no kind shows up in takes those of its neighbours on both sides."""
    peaks = _peaks(reference_sessions, folder)
    found: list[list[_Tail]] = []
    for number in range(_CLASSES[aspect]):
        inside = [one[one[:, 0] == number, 1] for one in peaks[aspect]]
        found.append([_Tail(len(one) / peaks.shape[2], one) for one in inside if len(one) >= _LEAST])
    filled = [number for number, tails in enumerate(found) if tails]
    return tuple(
        tails or [tail for other in _beside(filled, number) for tail in found[other]]
        for number, tails in enumerate(found)
    )


def _beside(filled: list[int], number: int) -> list[int]:
    """The last class before, and the first after, among those that are ``filled``."""
    return [*[other for other in filled if other < number][-1:], *[other for other in filled if other > number][:1]]


def simulated_peaks(reference_sessions: int, *, worlds: int, seed: int) -> np.ndarray:
    """Class and highest sum of a year without drift, ``[aspect, kind, world, 2]``."""
    rng = np.random.default_rng([seed, reference_sessions])
    found = np.empty((len(ALLOWANCES), len(nulls.KINDS), worlds, 2))
    for start in range(0, worlds, _CHUNK):  # in chunks that fit the processor's cache
        part = slice(start, min(start + _CHUNK, worlds))
        for place, draw in enumerate(nulls.KINDS):
            values = draw(rng, part.stop - part.start, reference_sessions + SESSIONS_A_YEAR)
            level = whiten_ranks(values[:, :reference_sessions], values[:, reference_sessions:])
            scale = whiten_sizes(level)
            classes = level_class(level.memory), scale_class(level.memory, scale.memory)
            for aspect, stream in ((LEVEL, level), (SCALE, scale)):
                found[aspect, place, part, 0] = classes[aspect]
                found[aspect, place, part, 1] = _highest(stream, ALLOWANCES[aspect], both=aspect == LEVEL)
    return found


def whiten_ranks(reference: np.ndarray, later: np.ndarray) -> Whitened:
    """Innovations of normal scores: what the level of a feature is judged by."""
    # At once: the reference is sorted for each call.
    scores, split = normal_scores(reference, np.concatenate([reference, later], axis=1)), reference.shape[1]
    return whiten(scores[:, :split], scores[:, split:])


def whiten_sizes(level: Whitened) -> Whitened:
    """Innovations of the scores of sizes of a level's innovations: what its scale is judged by."""
    reference, later = np.abs(level.raw_reference), np.abs(level.raw_later)
    scores, split = size_scores(reference, np.concatenate([reference, later], axis=1)), reference.shape[1]
    return whiten(scores[:, :split], scores[:, split:])


def _highest(whitened: Whitened, allowance: float, *, both: bool) -> np.ndarray:
    sums = run_cusum(whitened.later, allowance)
    return (sums.larger if both else sums.upper).max(axis=1)


@cache
def _code() -> str:
    modules = (sys.modules[__name__], cusum, memory, nulls, samples, whitening)
    return code_digest(modules, (np, scipy))
