"""The networks: a window of scaled features in, the uncalibrated answers out; ``build`` has them by name."""
