"""Proof that the artefact answers as the model it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper
from scipy.special import expit

from financial_assets.errors import ParityError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.heads import HORIZONS, ServedAnswer
from financial_assets.models.onnx.export import INPUT_NAME, onnx_session, run_onnx
from financial_assets.models.onnx.lowering.features import AnswerOfFeatures
from financial_assets.models.onnx.trees import TreeEnsemble
from financial_assets.models.onnx.writer import FEATURES
from financial_assets.models.predictor import SERVED_LOOKBACK, Predictor

PROBABILITY_TOLERANCE = 1e-5
"""Largest allowed difference of a probability between onnxruntime and torch, absolute.

On real prices some 2e-7 are found. Rounding grows with the steepness of a model, though: one that finds a strong
signal, as simulated prices may hold, reaches 1e-6 on ordinary windows, and must not be refused for it.
"""

QUANTILE_TOLERANCE = 1e-6
"""Largest allowed difference of a return quantile (a log return): absolute for those below one half in size.

Beyond, it is relative to twice the size. Only windows that no market shows are answered with such quantiles, and the
spacing of float32 grows with them: 1e-6 of a log return of 2 is four steps, fewer than an exponential is off by when
another processor adds its terms in another order.
"""

QUANTILE_5D_TOLERANCE = QUANTILE_TOLERANCE * HORIZONS[1] ** 0.5
"""The same of a return over five sessions, which is so many times as wide, and its rounding with it."""

SCORE_TOLERANCE = 1e-5
"""Largest allowed difference of the expected excess return, in units of volatility, absolute."""

FEATURE_TOLERANCE = 1e-3
"""Largest allowed difference of a scaled feature, in robust standard deviations, where a network has trees."""

TOLERANCES = (PROBABILITY_TOLERANCE, QUANTILE_TOLERANCE, QUANTILE_5D_TOLERANCE, SCORE_TOLERANCE)
"""Of each output of ``ServedAnswer``."""

_REFERENCE_TOLERANCE = 1e-6
_CHUNK = 128


@dataclass(frozen=True)
class ParityReport:
    """Largest differences found; all within tolerance, or there would be no report.

    Attributes
    ----------
    windows, degenerate_windows
        Real and degenerate windows compared.
    panel_window
        Features, volatility and answers computed on the panel against those from single windows, both eager: 0 means
        bit-equal.
    reference_probability
        The predictor against one sigmoid and the calibration written out in numpy.
    onnx_probability, onnx_quantiles, onnx_quantiles_5d, onnx_score
        onnxruntime against torch, one thread, by output.
    """

    windows: int
    degenerate_windows: int
    panel_window: float
    reference_probability: float
    onnx_probability: float
    onnx_quantiles: float
    onnx_quantiles_5d: float
    onnx_score: float

    def to_dict(self) -> dict[str, int | float]:
        """Flat mapping, with the tolerances."""
        return {
            **asdict(self),
            "tolerance_probability": PROBABILITY_TOLERANCE,
            "tolerance_quantiles": QUANTILE_TOLERANCE,
            "tolerance_quantiles_5d": QUANTILE_5D_TOLERANCE,
            "tolerance_score": SCORE_TOLERANCE,
        }


def prove_parity(
    predictor: Predictor,
    onnx_path: Path,
    features: FeaturePanel,
    panel: PricePanel,
    *,
    windows: int = 512,
    seed: int = 0,
) -> ParityReport:
    """Compare training path, serving path and artefact on real and degenerate bars.

    Parameters
    ----------
    predictor
        In evaluation mode, on the CPU.
    onnx_path
        Its exported file.
    features, panel
        Eagerly computed feature panel and the prices it was computed from.
    windows
        Real windows to draw at random.
    seed
        Of the draw.

    Raises
    ------
    ParityError
        If panel and window differ by a single bit, torch and onnxruntime by more than the tolerance, an answer is not
        finite, or there is no window to compare.
    """
    ticker, session = _draw_windows(features, panel, windows, seed)
    steps = np.arange(1 - SERVED_LOOKBACK, 1)
    bars = np.ascontiguousarray(panel.values.transpose(0, 2, 1)[ticker[:, None], session[:, None] + steps])
    volatility = predictor.volatility.of_panel(panel)
    panel_window, reference = _compare_panel(predictor, features, volatility, ticker, session, bars)
    odd = degenerate_windows(bars[0])
    differences = _compare_onnx(predictor, onnx_path, np.concatenate([bars, odd]))
    report = ParityReport(len(bars), len(odd), panel_window, reference, *differences)
    if panel_window != 0.0:
        raise ParityError(
            f"panel and window paths differ by {panel_window:.3g}: a feature is not finite in its lookback or not eager"
        )
    if reference > _REFERENCE_TOLERANCE:
        raise ParityError(
            f"the predictor's probability differs from one sigmoid of its calibrated logit by {reference:.3g}"
        )
    outputs = zip(ServedAnswer._fields, differences, TOLERANCES, strict=True)
    refused = [f"{name} by {found:.3g} (allowed {most:g})" for name, found, most in outputs if found > most]
    if refused:
        raise ParityError(f"{onnx_path.name} differs from torch in {', '.join(refused)}: export it again")
    return report


def degenerate_windows(window: np.ndarray) -> np.ndarray:
    """Windows that break careless arithmetic, made from a real one ``[256, channel]``: float32 ``[9, 256, channel]``.

    Without volume; flat; flat and without volume; a single jump; a one-bar spike in volume; prices a million times
    smaller, and a million times larger; a gap of a third every tenth session, up and down in turn; flat for the last
    30 sessions. With covariates two more: all of them constant, and a single jump in each.
    """
    ones = np.ones((len(window), 1), dtype=np.float32)
    no_volume, jump, spike, small, large, gapped, still = (window.copy() for _ in range(7))
    no_volume[:, 4] = 0.0
    flat = window.copy()
    flat[:, :4] = ones * window[-1, 3]
    flat_no_volume = flat.copy()
    flat_no_volume[:, 4] = 0.0
    jump[:, :4] = flat[:, :4]
    jump[-5:, :4] *= 3.0
    spike[-3, 4] *= 1e4
    small[:, :4] *= 1e-6
    large[:, :4] *= 1e6
    gapped[:, :4] *= np.where(np.arange(len(window)) // 10 % 2 == 0, 1.0, 4.0 / 3.0)[:, None].astype(np.float32)
    still[-30:, :4] = ones[-30:] * window[-30, 3]
    odd = [no_volume, flat, flat_no_volume, jump, spike, small, large, gapped, still]
    covariates = slice(len(CHANNELS), None)
    if window.shape[1] > len(CHANNELS):
        constant, step = window.copy(), window.copy()
        constant[:, covariates] = window[-1, covariates]
        step[:, covariates] = window[-1, covariates]
        step[-5:, covariates] *= 3.0
        odd += [constant, step]
    return np.stack(odd).astype(np.float32)


def _draw_windows(features: FeaturePanel, panel: PricePanel, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``(ticker, session)`` with a full served window, at most ``count``, the last session among them."""
    ticker, session = np.nonzero(features.valid & (panel.listed_bars() >= SERVED_LOOKBACK))
    if not len(ticker):
        raise ParityError(
            f"no ticker has {SERVED_LOOKBACK} bars: parity cannot be shown; set an earlier INGESTION_START_DATE"
        )
    drawn = np.random.default_rng(seed).permutation(len(ticker))[:count]
    drawn[0] = int(session.argmax())
    return ticker[drawn], session[drawn]


@torch.no_grad()
def _compare_panel(
    predictor: Predictor,
    features: FeaturePanel,
    volatility: torch.Tensor,
    ticker: np.ndarray,
    session: np.ndarray,
    bars: np.ndarray,
) -> tuple[float, float]:
    """Largest difference of the panel path, and of the calibration written out in numpy, from the predictor."""
    steps = np.arange(1 - predictor.sequence_length, 1)
    layer = predictor.calibration
    panel_window, reference = 0.0, 0.0
    for start in range(0, len(bars), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        window = predictor.prepare(torch.from_numpy(bars[chunk]))
        gathered = features.values[ticker[chunk, None], :, session[chunk, None] + steps]
        inputs = torch.from_numpy(np.ascontiguousarray(gathered))
        from_panel = inputs, volatility[ticker[chunk], session[chunk]]
        served = predictor(torch.from_numpy(bars[chunk]))
        pairs = zip((*window, *served), (*from_panel, *predictor.answer(*from_panel)), strict=True)
        panel_window = max(panel_window, *(_difference(a, b) for a, b in pairs))
        logit = predictor.network(predictor.scaler(inputs), from_panel[1]).logit.double().numpy()
        once = expit(float(layer.factors[0]) * logit + float(layer.bias))
        reference = max(reference, _difference(served[0], torch.from_numpy(once)))
    return panel_window, reference


@torch.no_grad()
def _compare_onnx(predictor: Predictor, onnx_path: Path, bars: np.ndarray) -> list[float]:
    """Largest difference of each output, onnxruntime from torch, in chunks and one by one (the batch axis is dynamic).

    Raises
    ------
    ParityError
        If the file does not answer all that the predictor does.
    """
    session = onnx_session(onnx_path)
    expect = _answers_of_trees(predictor, onnx_path) if _has_trees(predictor) else predictor
    chunks = [bars[start : start + _CHUNK] for start in range(0, len(bars), _CHUNK)] + [bars[:1], bars[-1:]]
    found = [differences(expect(torch.from_numpy(chunk)), run_onnx(session, chunk)) for chunk in chunks]
    return [max(of_output) for of_output in zip(*found, strict=True)]


def differences(expected: ServedAnswer, answers: Iterable[np.ndarray | None]) -> list[float]:
    """Largest difference of each output of two answers to the same windows, see the tolerances for its scale.

    Raises
    ------
    ParityError
        If one of them is missing, has another shape or is not finite.
    """
    found: list[float] = []
    for name, tensor, array in zip(ServedAnswer._fields, expected, answers, strict=True):
        if array is None:
            raise ParityError(f"the file does not answer {name}: export it again")
        is_quantile = name.startswith("return_quantiles")
        scale = (2 * tensor.abs()).clamp(min=1.0) if is_quantile else torch.ones_like(tensor)
        found.append(_difference(tensor, torch.from_numpy(array), scale))
    return found


def _has_trees(predictor: Predictor) -> bool:
    return any(isinstance(module, TreeEnsemble) for module in predictor.modules())


def _answers_of_trees(predictor: Predictor, onnx_path: Path) -> Callable[[torch.Tensor], ServedAnswer]:
    """Torch's answers to the features that the artefact computes, once these are shown to be torch's but for rounding.

    Trees jump at their thresholds, which scikit-learn puts on values of the training data: there the last bit of a
    feature decides, and two programs that round differently may answer differently, both rightly.
    """
    model, answer = onnx.load(onnx_path), AnswerOfFeatures(predictor)
    model.graph.output.append(helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def expect(bars: torch.Tensor) -> ServedAnswer:
        found = torch.from_numpy(np.asarray(session.run([FEATURES], {INPUT_NAME: bars.numpy()})[0]))
        eager, volatility = predictor.prepare(bars)
        unclipped, forecast = answer.read(found)
        features = _difference(answer.scaled(unclipped), answer.scaled(eager))
        # A forecast is a multiple of volatility: what it may differ by is relative to it.
        volatilities = _difference(forecast / volatility, torch.ones_like(volatility))
        if max(features, volatilities) > FEATURE_TOLERANCE:
            raise ParityError(
                f"{onnx_path.name} differs from torch by {features:.3g} in scaled features and {volatilities:.3g} of "
                f"volatility (allowed {FEATURE_TOLERANCE:g}): export it again"
            )
        return answer(found)

    return expect


def _difference(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor | float = 1.0) -> float:
    if a.shape != b.shape:
        raise ParityError(f"answers have shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())):
        raise ParityError("an answer is not finite")
    return float(((a - b).abs() / scale).max())
