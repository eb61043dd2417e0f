"""How good the models are, by walk-forward, as a page: ``make results`` writes ``docs/results.md``."""
