"""Drift, metrics and alerts."""
