"""What the whole rule of a plan does, simulated before the first day."""
