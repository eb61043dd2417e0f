"""What the serving benchmarks share: senders, and rivals that answer a constant."""
