"""Building a book under constraints: target weights from forecasts, and the orders that lead there."""
