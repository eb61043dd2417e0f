"""Bringing one Model to life: served only if it answers as its file does, otherwise taken away again."""

from __future__ import annotations

from collections.abc import Callable

from financial_assets.errors import FinancialAssetsError
from financial_assets.serving.manifests import Manifest, kind_and_name
from financial_assets.serving.target import ServingTarget

__all__ = ["deploy"]


def deploy(target: ServingTarget, manifest: Manifest, timeout_s: float, prove: Callable[[], float]) -> float:
    """Apply a Model, wait for it, and have it prove itself.

    A Model that was not there before and does not prove itself does not stay: what a target holds can become an arm.

    Parameters
    ----------
    target
        Where to.
    manifest
        The Model.
    timeout_s
        Longest wait until it answers.
    prove
        Asks it a question with a known answer; raises if the answer is another one.

    Returns
    -------
    float
        What ``prove`` returned.
    """
    kind, name = kind_and_name(manifest)
    known = {model.name for model in target.status().models}
    try:
        target.apply([manifest])
        target.wait_ready([name], timeout_s)
        return prove()
    except BaseException as error:  # Ctrl-C too
        if name not in known:
            try:
                target.delete(kind, name)
            except FinancialAssetsError as further:
                error.add_note(f"and {kind} {name} could not be taken away again: {further}")
        raise
