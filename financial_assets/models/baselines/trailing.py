"""Returns of sessions, and quantiles of the last ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.market.panel import PricePanel
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

HISTORY = 500
"""Sessions behind the historical quantiles (two years, the usual window of historical simulation)."""


def session_returns(panel: PricePanel) -> np.ndarray:
    """Log return of each session itself ``[ticker, session]``; NaN where it did not trade or has no bar before."""
    close = np.log(panel.values[:, 3, :].astype(np.float64))
    returns = np.full_like(close, np.nan)
    returns[:, 1:] = np.diff(close, axis=1)
    return np.where(panel.valid, returns, np.nan)


def trailing_quantiles(returns: np.ndarray) -> np.ndarray:
    """Quantiles of each ticker's last ``HISTORY`` returns up to and including each session.

    Parameters
    ----------
    returns
        ``[ticker, session]``; NaN counts for nothing.

    Returns
    -------
    np.ndarray
        Float64 ``[ticker, session, level]``, interpolated linearly; NaN before the first return.
    """
    window = pd.DataFrame(returns.T).rolling(HISTORY, min_periods=1)
    places = (window.count().to_numpy().T - 1)[..., None] * np.asarray(QUANTILE_LEVELS)
    lower, upper = (
        np.stack([window.quantile(level, interpolation=side).to_numpy().T for level in QUANTILE_LEVELS], axis=-1)
        for side in ("lower", "higher")
    )
    # As NumPy interpolates, to the last bit: recorded decisions are repeated from these numbers.
    share, gap = places - np.floor(places), upper - lower
    return np.where(share < 0.5, lower + gap * share, upper - gap * (1 - share))
