"""Bars to features: causal, scale-invariant functions that train the models and are exported with them."""
