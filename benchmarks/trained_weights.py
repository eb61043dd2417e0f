"""SHA-256 of the weights that this code trains on the sample prices: equal digests from two checkouts, equal models.

Run it in both checkouts on one machine, then say so in ``models/artifacts/fingerprint.py``:

    python benchmarks/trained_weights.py
"""

from __future__ import annotations

import hashlib
import sys

import pandas as pd
from torch import nn

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import build_panel
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.models.training import train
from financial_assets.models.variants import VARIANTS

TICKERS = ("AAPL", "MSFT")
CUTOFF = pd.Timestamp("2010-07-26")
SEQUENCE_LENGTH = 10
SEED = 42


def digest(*modules: nn.Module) -> str:
    """Hash of every parameter and buffer, by name and bit."""
    state = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            state.update(tensor.numpy().tobytes())
    return state.hexdigest()


def main(names: list[str]) -> None:
    panel = build_panel(SamplePrices().fetch(TICKERS).prices)
    features = compute_panel(panel, FeatureGraph())
    print(f"{'features':<12} {features.content_hash()}")
    for variant in (VARIANTS[name] for name in names or VARIANTS):
        training = train(
            variant,
            features,
            panel,
            cutoff=CUTOFF,
            sequence_length=SEQUENCE_LENGTH,
            seed=SEED,
            device="cpu",
            progress=False,
        )
        parts = training.network, training.scaler, training.volatility, training.calibration
        print(f"{variant.name:<12} {digest(*parts)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
