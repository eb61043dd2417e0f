"""Drift: whether inputs, and the relation of inputs to outcomes, are still those that a model was trained on."""
