"""What models are compared by: scores of direction, ranking and risk, each with all that a test must know of it."""
