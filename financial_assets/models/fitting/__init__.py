"""Networks that are not trained by gradient steps: regressions, trees, and weights of an ensemble."""
