"""What would a model's answers have earned? Scores to books, costs, profit and figures of merit. Pure functions."""
