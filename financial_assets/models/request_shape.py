"""The shape of a request, apart from the networks: who only sends bars needs no torch."""

from __future__ import annotations

SERVED_LOOKBACK = 256
"""Bars in a request, one constant for all variants; changing it starts a new experiment."""

CHANNEL_COUNT = 7
"""open, high, low, close, volume, market, day; a request has one more for each covariate."""
