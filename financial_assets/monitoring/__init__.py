"""Watching what is served: metrics, alerts, drift, and when to train again."""
