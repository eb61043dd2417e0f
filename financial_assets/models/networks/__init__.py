"""The networks: a window of scaled features in, the uncalibrated answer of every head out; ``build`` has them by name."""
