"""Use-cases composed from resources: one step of the rollout, a replay, the daily signals, retraining history."""
