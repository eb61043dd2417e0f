"""Features of a panel, with what each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from financial_assets.display import section
from financial_assets.errors import FeatureError
from financial_assets.features.feature import FAMILIES, Feature
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of every ticker and session, and what each of them is.

    Attributes
    ----------
    panel
        The values, float32 ``[ticker, feature, session]``.
    definitions
        One per feature, in the order of the panel.
    """

    panel: FeaturePanel
    definitions: tuple[Feature, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per session and ticker with enough bars: ``date``, ``ticker``, and a column per feature."""
        return self.panel.to_frame()

    @property
    def catalogue(self) -> pd.DataFrame:
        """One row per feature: ``feature``, ``family``, ``lookback`` in bars, ``formula``, ``source``."""
        rows = [(item.name, item.family, item.lookback, item.formula, item.source) for item in self.definitions]
        return pd.DataFrame(rows, columns=pd.Index(["feature", "family", "lookback", "formula", "source"]))

    def series(self, feature: str, ticker: str) -> pd.Series:
        """One feature of one ticker by session; NaN while it has too few bars.

        Raises
        ------
        FeatureError
            There is no such feature or ticker.
        """
        for kind, name, names in (("feature", feature, self.panel.names), ("ticker", ticker, self.panel.tickers)):
            if name not in names:
                raise FeatureError(f"there is no {kind} {name!r}; there are {', '.join(names)}")
        values = self.panel.values[self.panel.tickers.index(ticker), self.panel.names.index(feature)]
        return pd.Series(values, index=self.panel.sessions, name=feature)

    def plot(self, feature: str, tickers: Sequence[str] | None = None) -> Figure:
        """One feature over time, a line per ticker (default: the first five)."""
        figure = Figure(figsize=(8, 3), dpi=110, layout="constrained")
        axes = figure.subplots()
        for ticker in self.panel.tickers[:5] if tickers is None else tickers:
            values = self.series(feature, ticker)
            axes.plot(values.index.to_numpy(), values.to_numpy(), linewidth=0.8, label=ticker)
        axes.set_ylabel(feature)
        axes.legend(frameon=False)
        return figure

    def _repr_html_(self) -> str:
        tickers, sessions = self.panel.tickers, self.panel.sessions
        sentence = (
            f"{len(self.definitions)} features of {len(tickers)} tickers, {sessions[0]:%Y-%m-%d} to "
            f"{sessions[-1]:%Y-%m-%d}; {int(self.panel.valid.sum()):,} rows with enough bars."
        )
        return section("Features", sentence, self.catalogue)


def features(panel: PricePanel, names: Sequence[str] | None = None, *, family: str | None = None) -> FeatureTable:
    """Compute features: bit for bit those that a run trains on and that a served model computes from a request.

    Parameters
    ----------
    panel
        Prices, from :func:`.load_panel`.
    names
        Which features; default: the whole catalogue.
    family
        Only those of one family, such as ``momentum``.

    Raises
    ------
    FeatureError
        There is no such feature or family.
    """
    if family is not None and family not in FAMILIES:
        raise FeatureError(f"there is no family {family!r}; there are {', '.join(FAMILIES)}")
    known = {item.name: item for item in FeatureGraph(covariates=panel.covariates).features}
    if unknown := [name for name in names or () if name not in known]:
        raise FeatureError(f"there is no feature {', '.join(map(repr, unknown))}; docs/features.md lists all")
    chosen = [item for item in known.values() if names is None or item.name in names]
    chosen = [item for item in chosen if family is None or item.family == family]
    if not chosen:
        raise FeatureError("no feature is left: names and family exclude each other")
    graph = FeatureGraph(chosen, covariates=panel.covariates)
    return FeatureTable(compute_panel(panel, graph), tuple(chosen))
