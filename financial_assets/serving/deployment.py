"""Deploying one Model: it stays only if it gives the answers of its ONNX file, whatever its status says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from financial_assets.errors import FinancialAssetsError, TargetError
from financial_assets.serving.client.inference import Answer, InferenceClient
from financial_assets.serving.manifests import Manifest, kind_and_name
from financial_assets.serving.target import ServingTarget


def deploy(target: ServingTarget, manifest: Manifest, timeout_s: float, check: Callable[[], float]) -> float:
    """Apply a Model, wait for it and check it.

    A new Model that fails its check is deleted again, because whatever a target holds can become an arm. A Model that
    may have stood there before stays: it may have requests.

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
    before = target.status()
    is_new = before.readable and name not in {model.name for model in before.models}
    try:
        target.apply([manifest])
        target.wait_ready([name], timeout_s)
        return check()
    except BaseException as error:  # Ctrl-C too
        if not before.readable:
            error.add_note(
                f"{kind} {name} is left as it is: whether it stood there before could not be read "
                f"({'; '.join(before.problems)})"
            )
        if is_new:
            try:
                target.delete(kind, name)
            except FinancialAssetsError as further:
                error.add_note(f"and {kind} {name} could not be deleted again: {further}")
        raise


def check_deployment(
    client: InferenceClient,
    model: str,
    bars: np.ndarray,
    expected: Mapping[str, np.ndarray],
    *,
    tolerance: float = 1e-5,
) -> float:
    """Ask a Model through the gateway, by gRPC for all rows and by REST for the first, and compare every output.

    Parameters
    ----------
    client
        Connected to the gateway.
    model
        Name of the Model.
    bars
        float32 ``[n, session, channel]``.
    expected
        Name of each output of the ONNX file -> what the file itself gives, ``[n, width]``.
    tolerance
        Largest absolute difference allowed in any output (probability; log return; score in units of volatility).

    Returns
    -------
    float
        The largest absolute difference.

    Raises
    ------
    TargetError
        Another model answered, with other outputs, or the answer differs by more than ``tolerance``.
    InferenceError
        No answer.
    """
    # Both protocols, because each has its own way to the model: another Envoy route and another parser.
    by_grpc = _differences(client.infer_batch(model, bars), model, expected)
    first = {name: np.asarray(values)[:1] for name, values in expected.items()}
    by_rest = _differences(client.infer(model, bars[:1]), model, first)
    # numpy's maximum, which keeps a NaN; and a comparison that a NaN fails as well.
    worst = {name: float(np.max([by_grpc[name], by_rest[name]])) for name in expected}
    wrong = {name: difference for name, difference in worst.items() if not difference <= tolerance}
    if wrong:
        shown = ", ".join(f"{difference:.3g} in {name}" for name, difference in wrong.items())
        raise TargetError(
            f"{model} returns different predictions from its ONNX file: largest difference {shown}; allowed: "
            f"{tolerance:g}"
        )
    return max(worst.values())


def _differences(answer: Answer, model: str, expected: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest absolute difference of each output."""
    if answer.route != model:
        raise TargetError(f"{model} was asked, but {answer.route} answered (server's name {answer.model_name})")
    answered = answer.outputs
    shapes, wanted = ({name: values.shape for name, values in each.items()} for each in (answered, expected))
    if shapes != wanted:
        raise TargetError(f"{model} answers with shapes {shapes}; its ONNX file with {wanted}")
    return {name: float(np.abs(answered[name] - values).max()) for name, values in expected.items()}
