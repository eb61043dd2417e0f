"""Settings to domain objects: the resources that assets ask for by name."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.policy import RolloutPolicy, load_policy
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.clock import HistoricalClock, LiveClock, MarketClock, PinnedSession
from financial_assets.market.ingestion import Ingestion, ingest
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources import PriceSource
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.market.store import PriceStore
from financial_assets.models.lifecycle import ModelWorkshop
from financial_assets.serving.client import InferenceClient
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.target import ServingTarget
from financial_assets.settings import Settings
from financial_assets.tracking import MlflowTracker, ModelRegistry

__all__ = ["Experiment", "Market", "Serving", "Workshop", "make_resources"]


class Market(dg.ConfigurableResource):
    """Prices of one market: their source, their store, and what the clock lets be seen of them."""

    home: str
    price_source: str
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

    @property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.home)

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

    def clock(self) -> MarketClock:
        """Which session is now."""
        return LiveClock() if self.price_source == "yahoo" else HistoricalClock(self.folder / "clock.json")

    def cutoff(self) -> PinnedSession:
        """The last session that training may use."""
        return PinnedSession(self.folder / "training.json", "data_cutoff")

    def first_cutoff(self) -> PinnedSession:
        """The data cut-off of the first training: what a replay starts after. Retraining does not move it."""
        return PinnedSession(self.folder / "training.json", "first_data_cutoff")

    def begin(self, sessions: pd.DatetimeIndex) -> None:
        """On the first run, put data cut-off and historical clock before the evaluation share of ``sessions``."""
        first = sessions[max(0, int(len(sessions) * (1 - self.evaluation_share)) - 1)]
        for pin in (self.first_cutoff(), self.cutoff()):
            if pin.get() is None:
                pin.set(first)
        clock = self.clock()
        if isinstance(clock, HistoricalClock):
            clock.start(first)

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
        """The materialized ``price_panel``."""
        return PricePanel.load(self.panel_path)

    def load_features(self) -> FeaturePanel:
        """The materialized ``features``."""
        return FeaturePanel.load(self.features_path)


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


class Workshop(dg.ConfigurableResource):
    """Training, export, tracking and registry."""

    home: str
    tracking_uri: str
    experiment: str
    sequence_length: int
    seed: int
    device: str
    progress: bool
    bayes_accuracy: float | None = None

    @property
    def folder(self) -> Path:
        """State of all models."""
        return Path(self.home) / "models"

    @property
    def baselines_path(self) -> Path:
        """Where ``baselines`` is kept."""
        return self.folder / "baselines.json"

    def tracker(self) -> MlflowTracker:
        """MLflow runs."""
        return MlflowTracker(self.tracking_uri, self.experiment, Path(self.home) / "mlartifacts")

    def registry(self) -> ModelRegistry:
        """MLflow model registry."""
        return ModelRegistry(self.tracking_uri)

    def models(self) -> ModelWorkshop:
        """Where models are made."""
        return ModelWorkshop(
            folder=self.folder,
            tracker=self.tracker(),
            registry=self.registry(),
            sequence_length=self.sequence_length,
            seed=self.seed,
            device=self.device,
            progress=self.progress,
            bayes_accuracy=self.bayes_accuracy,
        )


class Serving(dg.ConfigurableResource):
    """The serving target and the way to ask it."""

    home: str
    target_name: str
    request_timeout: float
    ready_timeout: float

    def target(self) -> ServingTarget:
        """The configured serving target."""
        if self.target_name != "local":
            raise SettingsError(f"SERVING_TARGET: {self.target_name!r} is not available yet; allowed: 'local'")
        return LocalTarget(Path(self.home), timeout_s=self.ready_timeout)

    def connect(self) -> InferenceClient:
        """A client of the target's gateway."""
        return InferenceClient(self.target().endpoint(), timeout_s=self.request_timeout)


class Experiment(dg.ConfigurableResource):
    """The A/B experiment: policy, log, rollout state, replay and report settings."""

    home: str
    log_url: str
    policy_path: str | None = None
    replay_sessions: int
    workers: int
    cost_bps: float
    progress: bool

    def log(self) -> PredictionLog:
        """The prediction log."""
        return PredictionLog(self.log_url)

    def policy(self) -> RolloutPolicy:
        """Who takes part when the experiment starts."""
        return load_policy(Path(self.policy_path) if self.policy_path else None)

    @property
    def report_path(self) -> Path:
        """Where the report is written; the evaluation as JSON lies beside it."""
        return Path(self.home) / "reports" / "ab-evaluation.html"


def make_resources(settings: Settings) -> dict[str, Any]:
    """All resources of the graph, by the name that assets ask for."""
    home = str(settings.home)
    market = _market(settings, home)
    serving = Serving(
        home=home,
        target_name=settings.serving_target,
        request_timeout=settings.request_timeout,
        ready_timeout=settings.ready_timeout,
    )
    serving.target()  # a target that cannot be had is told now, not after the training
    return {
        "market": market,
        "workshop": Workshop(
            home=home,
            tracking_uri=settings.tracking_uri,
            experiment=settings.mlflow_experiment_name,
            sequence_length=settings.sequence_length,
            seed=settings.seed,
            device=settings.device,
            progress=settings.progress,
            bayes_accuracy=market.bayes_accuracy,
        ),
        "serving": serving,
        "ab_test": Experiment(
            home=home,
            log_url=settings.log_url,
            policy_path=_text(settings.rollout_policy),
            replay_sessions=settings.replay_sessions,
            workers=settings.replay_workers,
            cost_bps=settings.cost_bps,
            progress=settings.progress,
        ),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _market(settings: Settings, home: str) -> Market:
    return Market(
        home=home,
        price_source=settings.price_source,
        tickers=list(settings.tickers),
        price_files=settings.price_files,
        start=_text(settings.ingestion_start_date),
        end=_text(settings.ingestion_end_date),
        evaluation_share=settings.evaluation_share,
        seed=settings.seed,
        simulated_sessions=settings.simulated_sessions,
        simulated_signal=settings.simulated_signal,
        simulated_pattern=settings.simulated_pattern,
        simulated_regime_shift=settings.simulated_regime_shift,
    )
