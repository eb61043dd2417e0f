"""Is the challenger better? Prediction log, replay, evaluation and report."""
