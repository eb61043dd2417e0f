"""Worlds in which the loss of a served model is watched, and single streams."""
