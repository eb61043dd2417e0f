"""Prices: their source, their store, and what the clock lets be seen of them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.clock import ClockGap, HistoricalClock, PinnedSession
from financial_assets.market.ingestion import Ingestion, ingest
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources import PriceSource
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.market.store import PriceStore
from financial_assets.resources.recovery import recover_clock, recover_cutoffs
from financial_assets.resources.trading_days import TradingDays

__all__ = ["Market", "make_source"]


class Market(TradingDays):
    """Prices of one market: their source, their store, and what the clock lets be seen of them."""

    tickers: list[str]
    price_files: str | None = None
    start: str | None = None
    end: str | None = None
    evaluation_share: float
    seed: int
    simulated_sessions: int
    simulated_signal: float
    simulated_pattern: Literal["momentum", "volume_reversal", "parity"] = "momentum"
    simulated_regime_shift: int | None = None
    log_url: str | None = None

    def source(self) -> PriceSource:
        """The configured price source."""
        return make_source(self)

    @property
    def bayes_accuracy(self) -> float | None:
        """What the best possible predictor gets right, where it is known: in a simulated market."""
        source = self.source()
        return source.bayes_accuracy if isinstance(source, SimulatedPrices) else None

    def store(self) -> PriceStore:
        """The price store; refuses a state folder that was filled from another source."""
        marker = self.folder / "market.json"
        identity = self._identity()
        if marker.exists():
            found = _read_marker(marker)
            if found != identity:
                raise SettingsError(
                    f"FINANCIAL_ASSETS_HOME: {self.home} holds the state of {found}, but the settings say {identity}; "
                    "set FINANCIAL_ASSETS_HOME to another folder, or remove this one"
                )
        else:
            atomic_write_text(marker, json.dumps(identity))
        return PriceStore(self.folder / "prices")

    def _identity(self) -> dict[str, Any]:
        """What makes prices of two runs the same market."""
        identity: dict[str, Any] = {"PRICE_SOURCE": self.price_source}
        if self.price_source == "files":
            identity["PRICE_FILES"] = self.price_files
        if self.price_source == "simulated":
            names = ("seed", "simulated_sessions", "simulated_signal", "simulated_pattern", "simulated_regime_shift")
            identity |= {name.upper(): getattr(self, name) for name in names}
        return identity

    def ingest(self) -> Ingestion:
        """Bring the store up to date; see ``market.ingestion.ingest``."""
        return ingest(self.source(), self.store(), self.tickers, _date(self.start), _date(self.end))

    def clock_gap(self) -> ClockGap:
        """The market clock beside the newest bar."""
        return ClockGap(self.clock().now(), pd.Timestamp(self.prices()["date"].max()))

    def cutoff(self) -> PinnedSession:
        """The last session that training may use, where the asset that learns has no cut-off of its own."""
        return PinnedSession(self.folder / "training.json", "data_cutoff")

    def own_cutoff(self, learner: str) -> PinnedSession:
        """The data cut-off of an asset that was trained again; the others keep theirs, and so their models."""
        return PinnedSession(self.folder / "training.json", f"data_cutoff of {learner}")

    def cutoff_of(self, learner: str) -> pd.Timestamp | None:
        """The last session that the asset ``learner`` may learn from; ``None`` before anything was ingested."""
        own = self.own_cutoff(learner).get()
        return self.cutoff().get() if own is None else own

    def move_cutoff(self, learner: str, sessions: pd.DatetimeIndex) -> pd.Timestamp:
        """Move the data cut-off of ``learner`` up to the clock, to a session that has prices; it never goes back.

        Parameters
        ----------
        learner
            Name of an asset.
        sessions
            Sessions with prices, sorted.
        """
        known = sessions[sessions <= self.clock().now()]
        before = self.cutoff_of(learner)
        moved = max(known[-1:].tolist() + ([] if before is None else [before]))
        self.own_cutoff(learner).set(moved)
        return moved

    def first_cutoff(self) -> PinnedSession:
        """The data cut-off of the first training: what a replay starts after. Retraining does not move it."""
        return PinnedSession(self.folder / "training.json", "first_data_cutoff")

    def begin(self, sessions: pd.DatetimeIndex) -> None:
        """On the first run, put data cut-off and historical clock before the evaluation share of ``sessions``.

        Lost ones are put back from the prediction log first.
        """
        self._recover()
        first = sessions[max(0, int(len(sessions) * (1 - self.evaluation_share)) - 1)]
        for pin in (self.first_cutoff(), self.cutoff()):
            if pin.get() is None:
                pin.set(first)
        clock = self._clock()
        if isinstance(clock, HistoricalClock):
            clock.start(first)

    def _recover(self) -> None:
        clock, lost = self._clock(), list[str]()
        if self.log_url is not None:
            lost.append(recover_cutoffs(self.folder / "training.json", self.log_url, self.folder / "models"))
            if isinstance(clock, HistoricalClock):
                lost.append(recover_clock(clock, self.log_url))
        for line in filter(None, lost):
            dg.get_dagster_logger().warning(line)

    def prices(self) -> pd.DataFrame:
        """Stored prices of the universe, sorted by ticker and date."""
        frame = self.store().read(self.tickers, _date(self.start), _date(self.end))
        if frame.empty:
            raise MarketDataError(
                f"no prices of {', '.join(self.tickers)} in {self.home}; materialize raw_prices first"
            )
        return frame

    def whole_panel(self) -> PricePanel:
        """All stored sessions, also those that lie after a historical clock: for outcomes and replays only."""
        return build_panel(self.prices())

    def panel(self) -> PricePanel:
        """Everything up to the clock."""
        return self.whole_panel().until(self.clock().now())

    @property
    def panel_path(self) -> Path:
        """Where ``price_panel`` is kept."""
        return self.folder / "panel" / "price_panel.npz"

    @property
    def features_path(self) -> Path:
        """Where ``features`` is kept."""
        return self.folder / "features" / "features.npz"

    def load_panel(self) -> PricePanel:
        """The materialized ``price_panel``; made anew where another run, on another session, has written it since."""
        stored = PricePanel.load(self.panel_path)
        return stored if stored.sessions[-1] == self.clock().now() else self.panel()

    def load_features(self) -> FeaturePanel:
        """The materialized ``features``; computed anew where another run, on another session, has written them."""
        stored = FeaturePanel.load(self.features_path)
        if stored.sessions[-1] == self.clock().now():
            return stored
        panel = self.load_panel()
        is_same = stored.sessions.equals(panel.sessions) and stored.tickers == panel.tickers
        return stored if is_same else compute_panel(panel, FeatureGraph())


def _read_marker(marker: Path) -> Any:
    try:
        return json.loads(marker.read_text())
    except ValueError as error:
        raise SettingsError(
            f"FINANCIAL_ASSETS_HOME: {marker} is damaged ({error}); remove it if the folder's prices come from the "
            "configured source"
        ) from error


def make_source(market: Market) -> PriceSource:
    """The price source that the settings name."""
    from financial_assets.market.sources.files import FilePrices
    from financial_assets.market.sources.sample import SamplePrices
    from financial_assets.market.sources.yahoo import YahooPrices

    match market.price_source:
        case "sample":
            return SamplePrices()
        case "yahoo":
            return YahooPrices()
        case "files" if market.price_files:
            return FilePrices(market.price_files)
        case "simulated":
            return SimulatedPrices(
                SimulatedMarket(
                    sessions=market.simulated_sessions,
                    seed=market.seed,
                    signal_strength=market.simulated_signal,
                    signal=market.simulated_pattern,
                    regime_shift_session=market.simulated_regime_shift,
                )
            )
        case other:
            raise SettingsError(f"PRICE_SOURCE: {other!r} is not known")


def _date(text: str | None) -> dt.date | None:
    return None if text is None else dt.date.fromisoformat(text)
