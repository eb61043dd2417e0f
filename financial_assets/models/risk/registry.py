"""All forecasters of risk, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.risk.forecast import FittedRisk, RiskForecaster, fit
from financial_assets.models.risk.garch import Garch
from financial_assets.models.risk.har import Har
from financial_assets.models.risk.simple import Ewma, Filtered, Historical

RISK_FORECASTERS: Mapping[str, RiskForecaster] = {
    "historical": Historical(),
    "ewma": Ewma(),
    "filtered": Filtered(),
    "garch": Garch(),
    "gjr": Garch(asymmetric=True),
    "har": Har(),
}
"""Name -> forecaster, from the simplest on."""


def fit_forecasters(
    bars: RiskBars, cutoff: pd.Timestamp, names: Iterable[str] = tuple(RISK_FORECASTERS)
) -> Mapping[str, FittedRisk]:
    """Fit forecasters on the bars up to ``cutoff``.

    Parameters
    ----------
    bars
        Of any span that holds the cut-off; later ones are not read.
    cutoff
        Last session that any parameter depends on.
    names
        Which; default: all.

    Raises
    ------
    TrainingError
        For an unknown name, a cut-off that is not a session, or a forecaster that can be fitted to no ticker. Single
        tickers that cannot be fitted are named in ``FittedRisk.failures``.
    """
    wanted = tuple(names)
    if unknown := sorted(set(wanted) - set(RISK_FORECASTERS)):
        raise TrainingError(f"no forecaster of risk is called {', '.join(unknown)}: {', '.join(RISK_FORECASTERS)}")
    return {name: fit(name, RISK_FORECASTERS[name], bars, cutoff) for name in wanted}
