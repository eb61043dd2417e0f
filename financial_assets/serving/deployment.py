"""Deploying one Model: it stays only if a check of its answers passes."""

from __future__ import annotations

from collections.abc import Callable

from financial_assets.errors import FinancialAssetsError
from financial_assets.serving.manifests import Manifest, kind_and_name
from financial_assets.serving.target import ServingTarget

__all__ = ["deploy"]


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
