"""What the exporter reads besides the prediction log: prices, drift, the evaluation, and when each was last made."""
