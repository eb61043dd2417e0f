"""Risk of several positions together: joint residuals of the past, scaled to the ranges that are forecast today."""
