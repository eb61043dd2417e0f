"""Prices in: sources, the exchange calendar, the market clock, quality checks, the price store and the price panel."""
