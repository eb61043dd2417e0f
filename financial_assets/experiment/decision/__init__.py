"""Promote, hold or roll back: evidence in, an immutable decision record out. Pure functions."""
