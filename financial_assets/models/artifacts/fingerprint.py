"""What makes a model the same model: data, code, settings. An equal fingerprint is reused, not trained again."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import pandas as pd
import torch

from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import BLOCK_SHARES
from financial_assets.models.variants import Variant

__all__ = ["code_version", "fingerprint", "training_data_hash"]

_CODE = ("features", "models", "market/outcomes.py")
"""Source that decides what a model becomes, inside this package."""


def training_data_hash(panel: PricePanel, cutoff: pd.Timestamp) -> str:
    """Hash of the prices up to the cut-off: later sessions do not change the model, so they do not change the hash.

    Features are a function of these prices and of the code, which has its own hash.
    """
    return panel.until(cutoff).content_hash()


@cache
def code_version() -> str:
    """Hash of the source files that decide what a model becomes, and of torch's version."""
    digest = hashlib.sha256(f"torch {torch.__version__}\n".encode())
    root = files("financial_assets")
    for entry in _CODE:
        for name, source in _sources(root.joinpath(entry), entry):
            digest.update(f"{name}\0{hashlib.sha256(source).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _sources(node: Traversable, name: str) -> list[tuple[str, bytes]]:
    if node.is_file():
        return [(name, node.read_bytes())]
    found: list[tuple[str, bytes]] = []
    for child in sorted(node.iterdir(), key=lambda entry: entry.name):
        if child.is_dir() and child.name != "__pycache__":
            found += _sources(child, f"{name}/{child.name}")
        elif child.name.endswith(".py"):
            found.append((f"{name}/{child.name}", child.read_bytes()))
    return found


def fingerprint(
    *,
    data_hash: str,
    variant: Variant,
    seed: int,
    sequence_length: int,
    cutoff: pd.Timestamp,
    code: str | None = None,
) -> str:
    """Identity of a training: 20 hexadecimal digits.

    Parameters
    ----------
    data_hash
        From ``training_data_hash``.
    variant, seed, sequence_length, cutoff
        The training's arguments.
    code
        Code version; default: that of the installed package.
    """
    identity = {
        "data": data_hash,
        "code": code_version() if code is None else code,
        "variant": variant.hyperparameters(),
        "seed": seed,
        "sequence_length": sequence_length,
        "cutoff": f"{cutoff:%Y-%m-%d}",
        "block_shares": BLOCK_SHARES,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
