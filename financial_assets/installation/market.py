"""Prices: their source, their store, and what the clock lets be seen of them."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.installation.ownership import COVARIATES, OwnedPriceStore
from financial_assets.installation.trading_days import TradingDays
from financial_assets.market import calendar
from financial_assets.market.clock import ClockGap, HistoricalClock
from financial_assets.market.covariates.channels import Covariates
from financial_assets.market.covariates.tables import read_tables
from financial_assets.market.index.coverage import Coverage
from financial_assets.market.panel import PricePanel, build_layout, panel_of
from financial_assets.market.panels.continued import continued
from financial_assets.market.panels.layout import Layout
from financial_assets.market.panels.lineage import Lineage
from financial_assets.market.panels.stored import Basis, StoredPanel
from financial_assets.market.sources import PriceSource
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.market.store import PriceStore
from financial_assets.market.universe import Universe, read_universe
from financial_assets.settings.state_folder import RESOLVED

if TYPE_CHECKING:
    from financial_assets.features.graph import FeaturePanel
    from financial_assets.market.ingestion import Ingestion
    from financial_assets.market.quality import QualityResult
    from financial_assets.market.quality.notes import QualityNote


class MarketState(TradingDays):
    """Prices of one market: their source, their store, and what the clock lets be seen of them."""

    tickers: list[str] = Field(
        description="The universe (TICKERS) of the state folder, whose log, plans and report are about one market. "
        "For another universe, start with another FINANCIAL_ASSETS_HOME instead of changing it here."
    )
    price_files: str | None = None
    universe_file: str | None = None
    market_calendar: str = "XNYS"
    adjustment: str | None = None
    date_order: str | None = None
    decimal_mark: str | None = None
    ingestion_start_date: str | None = None
    ingestion_end_date: str | None = None
    covariates: list[str] = Field(default=[])
    covariate_files: str | None = None
    covariate_max_age: int = 180
    sector_index: bool = False
    recheck_sessions: int = 0
    quality_policy: Literal["quarantine", "strict"] = "quarantine"
    quality_overrides: str | None = None
    evaluation_share: float
    seed: int
    simulated_sessions: int
    simulated_signal: float
    simulated_pattern: Literal["momentum", "volume_reversal", "parity"] = "momentum"
    simulated_regime_shift: int | None = None
    log_url: str | None = None
    remembered: dict[str, str] = Field(default={})
    """Settings, by variable, that the state folder keeps for later commands."""

    def source(self) -> PriceSource:
        """The configured price source."""
        return make_source(self)

    @property
    def bayes_accuracy(self) -> float | None:
        """What the best possible predictor gets right, where it is known: in a simulated market."""
        source = self.source()
        return source.bayes_accuracy if isinstance(source, SimulatedPrices) else None

    def store(self) -> PriceStore:
        """The price store; refuses a state folder that was filled from another market."""
        return OwnedPriceStore(self.folder, self._identity(), self.remembered)

    def _identity(self) -> dict[str, Any]:
        """What makes prices of two runs the same market."""
        identity: dict[str, Any] = {"PRICE_SOURCE": self.price_source}
        if self.market_calendar != "XNYS":  # not named in folders that were made before there was a choice
            identity["MARKET_CALENDAR"] = self.market_calendar
        if channels := self.covariate_channels().names:  # a model reads the channels that it was trained with
            identity[COVARIATES] = ", ".join(channels)
        if self.price_source == "files" and self.price_files is not None:
            identity["PRICE_FILES"] = self.price_files
            identity[RESOLVED] = os.path.realpath(Path(self.price_files).expanduser())
        if self.price_source == "simulated":
            names = ("seed", "simulated_sessions", "simulated_signal", "simulated_pattern", "simulated_regime_shift")
            identity |= {name.upper(): getattr(self, name) for name in names}
        return identity

    def ingest(self) -> Ingestion:
        """Bring the store up to date; see ``market.ingestion.ingest``."""
        from financial_assets.market.index.clean_delivery import delivery_digest, remember, remembered
        from financial_assets.market.ingestion import REJUDGED, due_again, ingest  # pandera
        from financial_assets.market.quality.notes import notes_of, notes_to_json, still_left_out
        from financial_assets.market.quality.overrides import load_overrides
        from financial_assets.market.sources.files import FilePrices

        overrides = load_overrides(None if self.quality_overrides is None else Path(self.quality_overrides))
        source, store = self.source(), self.store()
        tickers = list(dict.fromkeys([*self.tickers, *self.covariate_channels().tickers]))
        digest = outcome = None
        if isinstance(source, FilePrices) and self.quality_policy == "quarantine" and not overrides:
            # Of the files as they are before they are read: what changes meanwhile is seen the next time.
            digest = delivery_digest(source, tickers, [str(self.ingestion_start_date), str(self.ingestion_end_date)])
            outcome = remembered(self._clean_path, digest, store)
        if outcome is None:
            outcome = ingest(
                source,
                store,
                tickers,
                _date(self.ingestion_start_date),
                _date(self.ingestion_end_date),
                policy=self.quality_policy,
                overrides=overrides,
                whole_again=due_again(self.tickers, self.recheck_sessions, pd.Timestamp.now(tz="UTC")),
            )
            if digest is not None:
                remember(self._clean_path, digest, outcome, store)
        if outcome.report is not None:
            notes = notes_of(outcome.screening)
            if source.live:
                # A live source delivers the last days only, and bars are judged again with those around them.
                begins = outcome.prices.groupby("ticker")["date"].min() - REJUDGED
                earlier = still_left_out(self._notes(), dict(begins), overrides)
                notes = tuple(sorted((*earlier, *notes), key=lambda note: note.ticker))
            atomic_write_text(self.notes_path, notes_to_json(notes))
        return outcome

    def judge_stored(self) -> tuple[QualityResult, ...]:
        """One result per rule about the prices in the store; see ``quality.checks.results_of_stored``.

        Raises
        ------
        MarketDataError
            There are no prices yet, or they were stored by an earlier version.
        """
        from financial_assets.market.quality.checks import results_of_stored  # pandera
        from financial_assets.market.quality.overrides import load_overrides

        tickers = list(dict.fromkeys([*self.tickers, *self.covariate_channels().tickers]))
        stored = self.store().read(tickers, _date(self.ingestion_start_date), _date(self.ingestion_end_date))
        if stored.empty:
            raise self._no_prices()
        return results_of_stored(
            stored,
            self._notes(),
            policy=self.quality_policy,
            overrides=load_overrides(None if self.quality_overrides is None else Path(self.quality_overrides)),
            now=pd.Timestamp.now(tz="UTC"),
        )

    def without_bars(self) -> list[str]:
        """Tickers of the universe and of covariates of which the store holds nothing, although none of them waits."""
        tickers = list(dict.fromkeys([*self.tickers, *self.covariate_channels().tickers]))
        known = {*self.store().last_sessions(tickers).index, *self.waiting_tickers()}
        return [name for name in tickers if name not in known]

    @property
    def _clean_path(self) -> Path:
        return self.folder / "prices" / "clean_delivery.parquet"

    @property
    def notes_path(self) -> Path:
        """What each ingestion notes about the quality of its bars."""
        return self.folder / "prices" / "quality.json"

    def waiting_tickers(self) -> tuple[str, ...]:
        """Tickers of which the last ingestion took nothing, because too much of it cannot be used."""
        return tuple(dict.fromkeys(note.ticker for note in self._notes() if note.outcome == "waits"))

    def quality_notes(self, sessions: pd.DatetimeIndex) -> tuple[QualityNote, ...]:
        """What the last ingestion noted about bars of ``sessions`` (sorted); none about later ones.

        Empty for a state folder whose prices were stored before there were notes.
        """
        from financial_assets.market.quality.notes import notes_within

        return notes_within(self._notes(), sessions[0], sessions[-1])

    def _notes(self) -> tuple[QualityNote, ...]:
        from financial_assets.market.quality.notes import notes_from_json

        try:
            return notes_from_json(self.notes_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except ValueError as error:
            raise MarketDataError(f"{self.notes_path} is damaged ({error}); materialize raw_prices again") from error

    def clock_gap(self) -> ClockGap:
        """The market clock beside the newest bar."""
        return ClockGap(self.clock().now(), self.coverage().sessions[-1])

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
        from financial_assets.installation.recovery import recover_clock, recover_cutoffs

        clock, lost = self._clock(), list[str]()
        if self.log_url is not None:
            lost.append(recover_cutoffs(self.folder / "training.json", self.log_url, self.folder / "models"))
            if isinstance(clock, HistoricalClock):
                lost.append(recover_clock(clock, self.log_url))
        for line in filter(None, lost):
            self._warn(line)

    def _warn(self, line: str) -> None:
        logging.getLogger("financial_assets").warning(line)

    def prices(self, known_at: dt.datetime | None = None) -> pd.DataFrame:
        """Stored prices of the universe, sorted by ticker and date, without bars that a later ingestion left out.

        Of what was known at an instant, where one is given.
        """
        frame = self._read(None, None, None, known_at)
        if frame.empty:
            raise self._no_prices()
        return frame

    def coverage(self) -> Coverage:
        """Which bars ``prices`` has."""
        from financial_assets.market.quality.notes import left_out_days

        span = _date(self.ingestion_start_date), _date(self.ingestion_end_date)
        held = self.store().coverage()
        found = held.within(self.tickers, *span, left_out_days(self._notes()))
        if not held.within(self.tickers, *span, {}).bars:
            raise self._no_prices()
        return found

    def _no_prices(self) -> MarketDataError:
        return MarketDataError(f"no prices of {', '.join(self.tickers)} in {self.home}; run `financial-assets run`")

    def _read(
        self,
        tickers: Sequence[str] | None,
        first: dt.date | None,
        last: dt.date | None,
        known_at: dt.datetime | None = None,
    ) -> pd.DataFrame:
        """Part of ``prices``: of some tickers, within a span of days."""
        from financial_assets.market.quality.notes import without_left_out

        begins, ends = (
            [day for day in (_date(self.ingestion_start_date), first) if day],
            [day for day in (_date(self.ingestion_end_date), last) if day],
        )
        names = self.tickers if tickers is None else tickers
        frame = self.store().read(names, max(begins, default=None), min(ends, default=None), known_at=known_at)
        return without_left_out(frame, self._notes())

    def whole_panel(self, known_at: dt.datetime | None = None) -> PricePanel:
        """All stored sessions, also those that lie after a historical clock: for outcomes and replays only.

        With the values that were known at an instant, where one is given.
        """
        return self._extended(panel_of(self._whole_layout(known_at)))

    def _extended(self, panel: PricePanel) -> PricePanel:
        """The panel with the channels of the covariates."""
        covariates = self.covariate_channels()
        if not covariates.names:
            return panel
        return covariates.extend(panel, self._read(covariates.tickers, None, None), self.universe())

    def _whole_layout(self, known_at: dt.datetime | None = None) -> Layout:
        universe = self.universe()
        return build_layout(self.prices(known_at), None if universe is None else universe.members)

    def current_panel(self) -> StoredPanel:
        """The panel up to the clock; where one is stored, only what has changed since is laid out."""
        from financial_assets.market.quality.notes import left_out_days

        store, now = self.store(), self.clock().now()
        changes = store.history()
        basis = Basis(
            changes=len(changes),
            content_hash=changes[-1].new_hash if changes else "",
            settings=(
                calendar.name(),
                str(self.ingestion_start_date),
                str(self.ingestion_end_date),
                *sorted(set(self.tickers)),
            ),
            left_out=left_out_days(self._notes()),
        )
        stored, universe = StoredPanel.load(self.panel_path), self.universe()
        if stored is not None:
            members = None if universe is None else universe.members
            longer = continued(stored, store, basis, self._read, members, now)
            if longer is not None:
                return longer.with_channels(self._extended(longer.panel))
        laid_out = StoredPanel(self._whole_layout(), basis).until(now)
        return laid_out.with_channels(self._extended(laid_out.panel))

    def covariate_channels(self) -> Covariates:
        """What models see beside the bars of the universe."""
        return Covariates(
            tuple(self.covariates),
            None if self.covariate_files is None else read_tables(self.covariate_files, calendar.zone()),
            self.sector_index,
            pd.Timedelta(days=self.covariate_max_age),
        )

    def universe(self) -> Universe | None:
        """Who belongs to the universe when; ``None``: all of ``TICKERS``, always."""
        return None if self.universe_file is None else read_universe(Path(self.universe_file))

    def panel(self) -> PricePanel:
        """Everything up to the clock."""
        return self.current_panel().panel

    @property
    def panel_path(self) -> Path:
        """Where ``price_panel`` is kept."""
        return self.folder / "panel" / "price_panel.npz"

    @property
    def features_path(self) -> Path:
        """Where ``features`` is kept."""
        return self.folder / "features" / "features.npz"

    @property
    def drift_path(self) -> Path:
        """Where ``drift`` leaves its latest judgement, for the exporter."""
        return self.folder / "drift" / "latest.json"

    def load_panel(self) -> PricePanel:
        """The materialized ``price_panel``; made anew where another run, on another session, has written it since."""
        stored = PricePanel.load(self.panel_path)
        return stored if stored.sessions[-1] == self.clock().now() else self.panel()

    def load_panel_and_lineage(self) -> tuple[PricePanel, Lineage | None]:
        """The same, and what it has in common with earlier ones; ``None`` where that is not known."""
        if self.covariate_channels().names:  # tables may say something else of any session than they did
            return self.load_panel(), None
        stored = StoredPanel.load(self.panel_path)
        if stored is not None and stored.layout.sessions[-1] == self.clock().now():
            return stored.panel, stored.lineage
        return self.load_panel(), None

    def load_features(self) -> FeaturePanel:
        """The materialized ``features``; computed anew where another run, on another session, has written them."""
        from financial_assets.features.graph import FeatureGraph, compute_panel
        from financial_assets.features.stored.reading import load_features  # torch

        stored = load_features(self.features_path)
        if stored.sessions[-1] == self.clock().now():
            return stored
        panel = self.load_panel()
        is_same = stored.sessions.equals(panel.sessions) and stored.tickers == panel.tickers
        return stored if is_same else compute_panel(panel, FeatureGraph(covariates=panel.covariates))


def make_source(market: MarketState) -> PriceSource:
    """The price source that the settings name."""
    from financial_assets.market.sources.files import FilePrices, FileRules
    from financial_assets.market.sources.sample import SamplePrices
    from financial_assets.market.sources.yahoo import YahooPrices

    match market.price_source:
        case "sample":
            return SamplePrices()
        case "yahoo":
            return YahooPrices()
        case "files" if market.price_files:
            mark = {"point": ".", "comma": ","}.get(market.decimal_mark or "")
            rules = FileRules(
                adjustment=market.adjustment, date_order=market.date_order, decimal_mark=mark, zone=calendar.zone()
            )
            return FilePrices(market.price_files, rules)
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
