"""Whether a variant at full size finds a signal that is known to be there, and shows no more than there is to know.

    python benchmarks/positive_control.py                                  # the heavy variants, minutes each
    python benchmarks/positive_control.py --variants baseline,linear --tickers 12

The market is that of ``tests/models/test_positive_control.py``, which has the variants that train in seconds: three
simulated tickers, or more, whose directions follow the last one. Its Bayes accuracy is what the best possible predictor
gets right; the margin over one half is shown as a share of that one's. The exit status is 1 where a variant fails.
"""

from __future__ import annotations

import argparse
import sys

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import build_panel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.scores import check_not_constant, held_out_scores
from financial_assets.models.training import train
from financial_assets.models.variants import VARIANTS, choose_variants

STRENGTH, SESSIONS, SEED = 0.6, 1000, 1
LEAST_SHARE = 0.6
"""Of the margin of the best possible predictor, that a variant must find."""


def main() -> int:
    """Train each variant once; whether all passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--variants", default="advanced,attention,transformer", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--tickers", type=int, default=3, help="so many; more of them are more to learn from")
    options = parser.parse_args()
    names = [name.strip() for name in options.variants.split(",") if name.strip()]
    tickers = [3 * chr(ord("A") + place) for place in range(options.tickers)]
    source = SimulatedPrices(SimulatedMarket(sessions=SESSIONS, seed=SEED, signal_strength=STRENGTH))
    panel, bayes = build_panel(source.fetch(tickers).prices), source.bayes_accuracy
    features = compute_panel(panel, FeatureGraph())
    failed = 0
    for variant in choose_variants(names):
        steps = variant.window(5)
        training = train(
            variant, features, panel, cutoff=panel.sessions[-1], sequence_length=steps, seed=4, device="cpu"
        )
        # As in the test: a wide interval of the accuracy, because variants are many.
        accuracy = held_out_scores(training.held_out, level=0.998)["accuracy"]
        margin = held_out_scores(training.held_out)["accuracy_minus_majority"]
        share = (accuracy.estimate - 0.5) / (bayes - 0.5)
        constant = check_not_constant(training.held_out).constant
        passed = share > LEAST_SHARE and margin.low > 0 and accuracy.low < bayes and not constant
        failed += not passed
        print(
            f"{variant.name:12} held-out accuracy {accuracy.estimate:.1%} of {bayes:.1%} that can be known "
            f"({share:.0%} of the margin over one half), majority exceeded by {margin.estimate:.1%} "
            f"[{margin.low:.1%}, {margin.high:.1%}], best epoch {training.best_epoch} of {len(training.history)}: "
            f"{'passed' if passed else 'FAILED'}",
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
