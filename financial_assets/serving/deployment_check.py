"""The deployment check: a served model must give the answers of its ONNX file, whatever its status says."""

from __future__ import annotations

import numpy as np

from financial_assets.errors import TargetError
from financial_assets.serving.client.inference import Answer, InferenceClient

__all__ = ["check_deployment"]


def check_deployment(
    client: InferenceClient,
    model: str,
    bars: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
    *,
    tolerance: float = 1e-5,
) -> float:
    """Ask a Model through the gateway, by gRPC for all rows and by REST for the first, and compare.

    Parameters
    ----------
    client
        Connected to the gateway.
    model
        Name of the Model.
    bars
        float32 ``[n, session, channel]``.
    expected
        ``probability_up`` ``[n, 1]`` (or ``[n]``) and ``return_quantiles`` ``[n, 5]`` that the ONNX file itself gives.
    tolerance
        Largest absolute difference allowed in either output (probability; log return).

    Returns
    -------
    float
        The largest absolute difference.

    Raises
    ------
    TargetError
        Another model answered, or the answer differs by more than ``tolerance``.
    InferenceError
        No answer.
    """
    probability, quantiles = np.asarray(expected[0]).reshape(len(bars)), np.asarray(expected[1])
    # Both protocols, because each has its own way to the model: another Envoy route and another parser.
    difference = max(
        _difference(client.infer_batch(model, bars), model, probability, quantiles),
        _difference(client.infer(model, bars[:1]), model, probability[:1], quantiles[:1]),
    )
    # Written so that a NaN fails as well.
    if not difference <= tolerance:
        raise TargetError(
            f"{model} returns different predictions from its ONNX file: largest difference {difference:.3g} > "
            f"{tolerance:g}"
        )
    return difference


def _difference(answer: Answer, model: str, probability: np.ndarray, quantiles: np.ndarray) -> float:
    if answer.route != model:
        raise TargetError(f"{model} was asked, but {answer.route} answered (server's name {answer.model_name})")
    if answer.probability_up.shape != probability.shape or answer.return_quantiles.shape != quantiles.shape:
        raise TargetError(
            f"{model} answers with shapes {answer.probability_up.shape} and {answer.return_quantiles.shape}; "
            f"its ONNX file with {probability.shape} and {quantiles.shape}"
        )
    return float(
        max(np.abs(answer.probability_up - probability).max(), np.abs(answer.return_quantiles - quantiles).max())
    )
