"""Signals, risk and portfolios over HTTP: ``financial-assets api``. Nothing here computes; it asks ``workflows``."""
