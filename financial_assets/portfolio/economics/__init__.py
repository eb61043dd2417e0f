"""What forecasts would have earned: books, sizes, costs and figures of each model, beside what one could have held."""
