"""What a graph must answer for before it may be an arm: each question by name, with what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from google.protobuf.message import DecodeError

from financial_assets.errors import ExternalModelError
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.external.card import ExternalCard
from financial_assets.models.external.windows import WINDOWS_AT_ONCE, complete_windows, windows_at
from financial_assets.models.onnx.export import INPUT_NAME, OUTPUT_NAMES, OUTPUT_WIDTHS
from financial_assets.models.onnx.parity import degenerate_windows
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.scores import leak_alarm

WINDOWS = 256
"""Real windows that a graph is asked about, drawn from all tickers and sessions."""

ALONE_TOLERANCE = 1e-5
"""Between a row's answer alone and in a batch, in probability."""

SCALE_TOLERANCE = 1e-3
"""Between answers to the same bars in other units, in probability: float32 loses some digits to a large factor."""

CALENDAR_CYCLE = 28 * 365 + 7
"""Days after which dates fall on the same weekdays and leap years again (between 1901 and 2099). A graph may know that
it is a Monday in January; by this shift one is found out that knows which."""

_PRICES, _VOLUME, _MARKET, _DAY = [0, 1, 2, 3], [4], [5], CHANNELS.index("day")
_FEWEST_DAYS = 20
_MOST_JUDGED = 20_000

Answers = Mapping[str, np.ndarray]
"""Name of an output to its values ``[window, width]``."""


@dataclass(frozen=True)
class Finding:
    """One question to a graph.

    Attributes
    ----------
    question
        Its name.
    passed
        Whether the graph may be an arm, for all that was asked.
    said
        What was found, in words.
    """

    question: str
    passed: bool
    said: str


@dataclass(frozen=True)
class Examination:
    """All that was asked of a graph; questions that a failed one makes meaningless are left out."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every question was answered well."""
        return all(finding.passed for finding in self.findings)

    @property
    def reason(self) -> str:
        """Why not, in one line; empty if it passed."""
        return "; ".join(f"{finding.question}: {finding.said}" for finding in self.findings if not finding.passed)

    def frame(self) -> pd.DataFrame:
        """One row per question: ``question``, ``passed``, ``said``."""
        return pd.DataFrame([vars(finding) for finding in self.findings], columns=["question", "passed", "said"])


def examine(path: Path, card: ExternalCard, panel: PricePanel, *, seed: int = 0) -> Examination:
    """Ask a graph everything.

    Parameters
    ----------
    path
        The ``.onnx`` file.
    card
        What its makers say of it.
    panel
        Real bars up to the market clock, nothing later.
    seed
        Of the draw of windows.

    Raises
    ------
    ExternalModelError
        The panel holds no window to ask about.
    """
    ticker, session = complete_windows(panel)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(ticker))[:WINDOWS])
    bars = windows_at(panel, ticker[drawn], session[drawn])
    findings = [_cutoff(card, panel)]
    try:
        run = _open(path, panel)
    except ExternalModelError as error:
        return Examination((*findings, Finding("signature", passed=False, said=str(error))))
    findings.append(Finding("signature", passed=True, said=", ".join(run.widths)))
    try:
        answers = run(bars)
        odd = run(degenerate_windows(bars[0]))
    except ExternalModelError as error:
        return Examination((*findings, Finding("answers", passed=False, said=str(error))))
    findings.append(_answers(answers, odd))
    if findings[-1].passed:
        findings += [_alone(run, bars, answers), _scale(run, bars, answers), _dates(run, bars, answers)]
        findings += [_constant(answers), _leak(run, card, panel, ticker, session)]
    return Examination(tuple(findings))


@dataclass(frozen=True)
class _Graph:
    """A graph that can be asked; ``widths`` of its outputs by name."""

    path: Path
    session: ort.InferenceSession
    widths: Mapping[str, int]

    def __call__(self, bars: np.ndarray) -> Answers:
        chunks = [bars[first : first + WINDOWS_AT_ONCE] for first in range(0, len(bars), WINDOWS_AT_ONCE)]
        try:
            parts = [self.session.run(list(self.widths), {INPUT_NAME: chunk}) for chunk in chunks]
        except Exception as error:  # onnxruntime's exceptions have no common class
            raise ExternalModelError(f"{self.path.name} fails on real bars: {error}") from error
        joined = {
            name: np.concatenate([np.asarray(part[place]) for part in parts]) for place, name in enumerate(self.widths)
        }
        for name, width in self.widths.items():
            if joined[name].shape != (len(bars), width):
                raise ExternalModelError(f"{name} of {len(bars)} windows has the shape {joined[name].shape}")
        return joined


def _open(path: Path, panel: PricePanel) -> _Graph:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ExternalModelError(f"{path.name} is not an ONNX file: {error}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExternalModelError("it keeps weights outside its file; save it as one (save_as_external_data=False)")
    inputs = {value.name for value in model.graph.input} - {tensor.name for tensor in model.graph.initializer}
    outputs = [value.name for value in model.graph.output]
    if inputs != {INPUT_NAME} or not set(OUTPUT_NAMES) <= set(outputs):
        raise ExternalModelError(
            f"its inputs are {', '.join(sorted(inputs))} and its outputs {', '.join(outputs)}, where {INPUT_NAME} and "
            f"{', '.join(OUTPUT_NAMES)} are wanted"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it would print is in the exception, too
    try:
        session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise ExternalModelError(f"onnxruntime cannot open it: {error}") from error
    (bars,) = session.get_inputs()
    wanted = ["batch", SERVED_LOOKBACK, len(panel.channels)]
    if bars.type != "tensor(float)" or len(bars.shape) != 3 or bars.shape[1:] != wanted[1:]:
        raise ExternalModelError(f"{INPUT_NAME} is {bars.type} {bars.shape}, where float {wanted} is wanted")
    if isinstance(bars.shape[0], int):
        raise ExternalModelError(f"{INPUT_NAME} is for {bars.shape[0]} rows only; its first axis must be dynamic")
    if strange := [value.name for value in session.get_outputs() if value.type != "tensor(float)"]:
        raise ExternalModelError(f"{', '.join(strange)} must be float (32 bits)")
    return _Graph(path, session, OUTPUT_WIDTHS)


def _cutoff(card: ExternalCard, panel: PricePanel) -> Finding:
    clock = panel.sessions[-1]
    later = pd.Timestamp(card.data_cutoff) > clock
    said = f"learned from sessions up to {card.data_cutoff}; the market clock stands at {clock:%Y-%m-%d}"
    return Finding("data cut-off", passed=not later, said=said)


def _answers(answers: Answers, odd: Answers) -> Finding:
    """Finite on real and on degenerate bars; probabilities are such; quantiles are in order."""
    problems: list[str] = []
    for bars, given in (("real bars", answers), ("flat, gapped, tiny or huge prices", odd)):
        problems += [
            f"{name} is not finite on {bars}" for name, values in given.items() if not np.isfinite(values).all()
        ]
        probability = given["probability_up"]
        if ((probability < 0) | (probability > 1)).any():
            problems.append(f"probability_up leaves [0, 1] on {bars}")
        problems += [
            f"{name} falls from one level to the next on {bars}"
            for name, values in given.items()
            if name.startswith("return_quantiles") and (np.diff(values, axis=1) < 0).any()
        ]
    return Finding("answers", passed=not problems, said="; ".join(problems) or "finite and in order")


def _alone(run: _Graph, bars: np.ndarray, answers: Answers) -> Finding:
    """Neighbours in a batch must not matter: the gateway decides who they are."""
    rows = np.linspace(0, len(bars) - 1, 8).astype(int)
    alone = [run(bars[row : row + 1]) for row in rows]
    together = {name: values[rows] for name, values in answers.items()}
    joined = {name: np.concatenate([one[name] for one in alone]) for name in together}
    worst = max(_difference(together, joined), _difference(answers, run(bars)))
    return Finding("alone as in a batch", passed=worst <= ALONE_TOLERANCE, said=f"largest difference {worst:.2g}")


def _scale(run: _Graph, bars: np.ndarray, answers: Answers) -> Finding:
    """Splits, currencies and share counts are units: answers in them would change with every restatement."""
    worst: dict[str, float] = {}
    for unit, channels in (("prices", _PRICES), ("volume", _VOLUME), ("the market's level", _MARKET)):
        for factor in (0.25, 3.0, 1000.0):
            scaled = bars.copy()
            scaled[:, :, channels] *= np.float32(factor)
            worst[f"{unit} x {factor:g}"] = _difference(answers, run(scaled))
    unit = max(worst, key=lambda name: worst[name])
    said = f"largest difference {worst[unit]:.2g}, with {unit}"
    return Finding("any unit of prices and volume", passed=worst[unit] <= SCALE_TOLERANCE, said=said)


def _dates(run: _Graph, bars: np.ndarray, answers: Answers) -> Finding:
    """Who answers by the date has learned the past by heart, and it is the past that its makers show."""
    later = bars.copy()
    later[:, :, _DAY] += CALENDAR_CYCLE
    worst = _difference(answers, run(later))
    said = f"largest difference {worst:.2g} with the same weekdays and dates 28 years later"
    return Finding("knows no dates by heart", passed=worst <= SCALE_TOLERANCE, said=said)


def _constant(answers: Answers) -> Finding:
    deviation = float(answers["probability_up"].std())
    return Finding(
        "answers depend on the bars", passed=deviation > 1e-4, said=f"deviation of the probability {deviation:.2g}"
    )


def _leak(run: _Graph, card: ExternalCard, panel: PricePanel, ticker: np.ndarray, session: np.ndarray) -> Finding:
    """The leak alarm on all sessions after the cut-off, whose outcomes the makers say they have not seen."""
    question = "not too good after its cut-off"
    outcome = next_session_return(panel)[ticker, session]
    after = np.isfinite(outcome) & (panel.sessions[session] > pd.Timestamp(card.data_cutoff))
    days = len(np.unique(session[after]))
    if days < _FEWEST_DAYS:
        said = f"{days} sessions with known outcomes after its cut-off are too few to judge; its evidence will tell"
        return Finding(question, passed=True, said=said)
    rows = np.flatnonzero(after)
    # A universe has millions of windows; of so many some tell as much.
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MOST_JUDGED])
    up, session = outcome[rows] > 0, session[rows]
    chunks = np.array_split(np.arange(len(rows)), -(-len(rows) // WINDOWS_AT_ONCE))
    asked = [run(windows_at(panel, ticker[rows[chunk]], session[chunk])) for chunk in chunks]
    probability = np.concatenate([answers["probability_up"][:, 0] for answers in asked])
    share = float(up.mean())
    check = leak_alarm((probability > 0.5) == up, session, max(share, 1.0 - share))
    return Finding(question, passed=not check.alarm, said=str(check))


def _difference(one: Answers, other: Answers) -> float:
    """Largest difference; an answer that is not finite is infinitely far from every other."""
    worst = max(float(np.abs(values - other[name]).max()) for name, values in one.items())
    return worst if np.isfinite(worst) else float("inf")
