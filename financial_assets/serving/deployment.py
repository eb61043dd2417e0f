"""Deploying one Model: it stays only if it gives the answers of its ONNX file, whatever its status says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from financial_assets.errors import FinancialAssetsError, TargetError
from financial_assets.serving.client.inference import Answer, InferenceClient
from financial_assets.serving.manifests import Manifest, kind_and_name
from financial_assets.serving.target import ServingTarget


def deploy(target: ServingTarget, manifest: Manifest, timeout_s: float, check: Callable[[], float]) -> float:
    """Apply a Model, wait for it and check it.

    A new Model that fails its check is deleted again, because whatever a target holds can become an arm.

    Parameters
    ----------
    target
        Where to.
    manifest
        The Model.
    timeout_s
        Longest wait until it answers.
    check
        Asks it a question with a known answer; raises if it answers differently.

    Returns
    -------
    float
        What ``check`` returned.
    """
    kind, name = kind_and_name(manifest)
    existing = {model.name for model in target.status().models}
    try:
        target.apply([manifest])
        target.wait_ready([name], timeout_s)
        return check()
    except BaseException as error:  # Ctrl-C too
        if name not in existing:
            try:
                target.delete(kind, name)
            except FinancialAssetsError as further:
                error.add_note(f"and {kind} {name} could not be deleted again: {further}")
        raise


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
