"""The model card: what a model is, what it was made from and how good it is, as plain JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import ExportError
from financial_assets.features.bars import HAR_WINDOWS, LONG_RUN_WINDOW
from financial_assets.features.feature import Feature
from financial_assets.models.heads import HORIZONS, QUANTILE_LEVELS
from financial_assets.models.onnx.export import INPUT_NAME, OPSET, OUTPUT_WIDTHS
from financial_assets.models.onnx.parity import ParityReport
from financial_assets.models.predictor import SERVED_LOOKBACK, Predictor
from financial_assets.models.scores import check_answers, check_not_constant, held_out_scores
from financial_assets.models.training import Training
from financial_assets.models.volatility import HarVolatility

_TARGETS = {
    "probability_up": "whether the adjusted close of the next session is higher than that of this one",
    "return_quantiles": "log return of the adjusted close from this session to the next",
    "return_quantiles_5d": "log return of the adjusted close from this session to the fifth after it",
    "excess_return": (
        "log return from this session to the next minus that of the market channel, in units of the stock's causal "
        "volatility"
    ),
}


def model_card(
    training: Training,
    predictor: Predictor,
    parity: ParityReport,
    *,
    fingerprint: str,
    data_hash: str,
    code_version: str,
    onnx_sha256: str,
    bayes_accuracy: float | None = None,
    price_source: str = "unknown",
) -> dict[str, Any]:
    """Everything a reader or an auditor needs beside the artefact.

    Parameters
    ----------
    training, predictor, parity
        The model, its served form and the proof that the artefact equals it.
    fingerprint, data_hash, code_version
        Identity, from ``fingerprint``.
    onnx_sha256
        Of the artefact.
    bayes_accuracy
        Of a simulated market, see ``leak_alarm``.
    price_source
        Where the prices are from, as ``PRICE_SOURCE`` names it.
    """
    check, leak = check_not_constant(training.held_out), check_answers(training.held_out, bayes_accuracy=bayes_accuracy)
    return {
        "model": "financial-direction-predictor",
        "variant": training.variant.name,
        "fingerprint": fingerprint,
        "hyperparameters": training.variant.hyperparameters(),
        "parameters": sum(parameter.numel() for parameter in predictor.network.parameters()),
        "seed": training.seed,
        "sequence_length": training.sequence_length,
        "interface": {
            "input": {INPUT_NAME: ["batch", SERVED_LOOKBACK, len(predictor.channels)]},
            **({"channels": list(predictor.channels)} if predictor.graph.covariates else {}),
            "outputs": {name: ["batch", width] for name, width in OUTPUT_WIDTHS.items()},
            "quantile_levels": list(QUANTILE_LEVELS),
            "horizons": list(HORIZONS),
            "targets": _TARGETS,
            "opset": OPSET,
        },
        "features": [_described(feature) for feature in predictor.graph.features],
        "feature_lookback": predictor.graph.lookback,
        "bars_needed": predictor.bars_needed,
        "tickers": list(training.tickers),
        "price_source": price_source,
        "benchmark": {
            "kind": "equal-weighted index of the universe, computed causally",
            "constituents": list(training.tickers),
        },
        "data_cutoff": f"{training.cutoff:%Y-%m-%d}",
        "blocks": {
            name: {"first": f"{first:%Y-%m-%d}", "last": f"{last:%Y-%m-%d}", "windows": training.windows[name]}
            for name, (first, last) in training.spans.items()
        },
        "data_hash": data_hash,
        "code_version": code_version,
        "training": {
            "device": training.device,
            "seconds": round(training.seconds, 3),
            "best_epoch": training.best_epoch,
            "details": dict(training.details),
            "history": [asdict(epoch) for epoch in training.history],
        },
        "volatility": _volatility(training.volatility),
        "calibration": {
            **asdict(training.platt),
            "quantile_shifts": [
                {"horizon": horizon, **shifts.to_dict()}
                for horizon, shifts in zip(HORIZONS, training.fitted_calibration.shifts, strict=True)
            ],
            "score": asdict(training.fitted_calibration.score),
        },
        "held_out": {
            "block": "calibrate, uncalibrated answers; the network never saw it",
            "scores": {name: asdict(interval) for name, interval in held_out_scores(training.held_out).items()},
            "majority_rate": training.held_out.majority_rate,
            "constant_check": asdict(check),
            "leak_alarm": {
                "alarm": leak.alarm,
                "heads": list(leak.heads),
                "lower_bound": leak.accuracy.low,
                "others": [asdict(check) for check in leak.others],
            },
        },
        "parity": parity.to_dict(),
        "onnx_sha256": onnx_sha256,
        "limits": [
            "Quantile coverage is calibrated on past sessions and measured afterwards, never promised.",
            "Tickers move together and outcomes over five sessions overlap: evidence is counted in sessions.",
            "The universe is a list chosen today: scores carry survivorship bias.",
            "Daily direction is nearly unpredictable: expect 50-53 %. Not investment advice.",
        ],
    }


def write_model_card(card: dict[str, Any], path: Path) -> None:
    """Write the card as JSON, atomically.

    Raises
    ------
    ExportError
        If it holds a value that JSON does not have, such as NaN.
    """
    try:
        text = json.dumps(card, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"the model card cannot be written as JSON: {error}") from error
    atomic_write_text(path, text + "\n")


def _volatility(har: HarVolatility) -> dict[str, Any]:
    """The regressions of the forecast volatility, by horizon."""
    return {
        "kind": "HAR of the log range-based variance, pooled over tickers",
        "variances": [
            *(f"mean range-based variance of {window} sessions" for window in (*HAR_WINDOWS, LONG_RUN_WINDOW)),
            "EWMA variance",
        ],
        "horizons": [
            {"horizon": horizon, "intercept": intercept, "slopes": slopes, "factor": factor}
            for horizon, intercept, slopes, factor in zip(
                HORIZONS, har.intercept.tolist(), har.slopes.T.tolist(), har.factor.tolist(), strict=True
            )
        ],
    }


def _described(feature: Feature) -> dict[str, Any]:
    return {key: getattr(feature, key) for key in ("name", "family", "lookback", "formula", "source")}
