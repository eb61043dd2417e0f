"""The A/B experiment: policy, prediction log, and what a replay and its report need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ConfigDict

from financial_assets.errors import ExperimentError, LogNotFoundError, SettingsError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.policy import RolloutPolicy, load_policy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.sampling import RoutedSample
from financial_assets.halt import KillSwitch

if TYPE_CHECKING:
    from financial_assets.experiment.evaluation.business import BusinessCase
    from financial_assets.portfolio.economics.assumptions import Assumptions, BookName, Sizing
    from financial_assets.signing import Signer

DEFAULT_CAPITAL = 10_000_000.0
"""Of the report's books where neither BUSINESS_CAPITAL nor BUSINESS_AUM is set."""


class ABTestState(BaseModel):
    """The A/B experiment: policy, log, rollout state, replay and report settings."""

    model_config = ConfigDict(frozen=True)

    home: str
    log_url: str
    variants: list[str] = []
    external_models: str | None = None
    rollout_policy: str | None = None
    signing_key: str | None = None
    model_owner: str | None = None
    replay_sessions: int
    replay_workers: int
    routed_per_session: int = 50
    seed: int = 42
    cost_bps: float
    progress: bool
    business_aum: float | None = None
    business_horizon_sessions: int = 252
    business_latency_cost_per_ms: float = 0.0
    business_implementation_cost: float = 0.0
    business_books: str = "direction,long_only,long_short,market_neutral"
    business_ranked_from: int = 10
    business_quantiles: int = 5
    business_gross: float = 1.0
    business_sizing: str = "book"
    business_kelly_fraction: float = 0.5
    business_kelly_cap: float = 0.1
    business_stop_loss: float | None = None
    business_capital: float | None = None
    business_commission_bps: float = 0.5
    business_spread: str = "fixed"
    business_half_spread_bps: float = 2.0
    business_impact: float = 1.0
    business_borrow_per_year: float = 0.005
    business_cash_per_year: float = 0.0
    business_delisting_return: float = 0.0

    def business_case(self) -> BusinessCase:
        """What only the user knows."""
        # Imports torch; a signal or a decision needs the log alone.
        from financial_assets.experiment.evaluation.business import BusinessCase

        return BusinessCase(
            aum=self.business_aum,
            horizon_sessions=self.business_horizon_sessions,
            latency_cost_per_ms=self.business_latency_cost_per_ms,
            implementation_cost=self.business_implementation_cost,
        )

    def assumptions(self) -> Assumptions:
        """How the report's books trade, and what that costs."""
        from financial_assets.portfolio.economics.assumptions import Assumptions

        return Assumptions(
            books=cast("tuple[BookName, ...]", tuple(self.business_books.split(","))),  # it checks their names itself
            ranked_from=self.business_ranked_from,
            quantiles=self.business_quantiles,
            gross=self.business_gross,
            sizing=cast("Sizing", self.business_sizing),
            kelly_fraction=self.business_kelly_fraction,
            kelly_cap=self.business_kelly_cap,
            stop_loss=self.business_stop_loss,
            cost_bps=self.cost_bps,
            commission_bps=self.business_commission_bps,
            half_spread_bps=None if self.business_spread == "estimated" else self.business_half_spread_bps,
            impact=self.business_impact,
            borrow_per_year=self.business_borrow_per_year,
            cash_per_year=self.business_cash_per_year,
            capital=self.business_capital or self.business_aum or DEFAULT_CAPITAL,
            delisting_return=self.business_delisting_return,
        )

    @property
    def switch(self) -> KillSwitch:
        """The kill switch, under which the experiment does not move."""
        return KillSwitch.of(self.home)

    def log(self) -> PredictionLog:
        """The prediction log."""
        return PredictionLog(self.log_url, signer=self.signer)

    def signer(self) -> Signer | None:
        """The key that decisions are signed with; ``None`` without one.

        Raises
        ------
        SettingsError
            It cannot be used.
        """
        from financial_assets.signing import Signer

        return None if self.signing_key is None else Signer.load(Path(self.signing_key))

    def policy(self) -> RolloutPolicy:
        """Who takes part when the experiment starts."""
        return load_policy(Path(self.rollout_policy) if self.rollout_policy else None)

    def check_participants(self) -> None:
        """Make sure that the experiment can start with the variants that are made; one that runs keeps its arms.

        Raises
        ------
        SettingsError
            The rollout policy names a variant that neither ``VARIANTS`` nor ``EXTERNAL_MODELS`` has.
        """
        from financial_assets.monitoring.metrics import open_log  # pandas and Prometheus

        policy = self.policy()
        named = (policy.champion.variant, *(arm.variant for arm in policy.challengers), *policy.shadow)
        missing = [variant for variant in named if variant not in self.variants]
        if missing and self.external_models is not None:
            from financial_assets.models.external.card import find_external

            given = {model.name for model in find_external(Path(self.external_models))}
            missing = [variant for variant in missing if variant not in given]
        if not missing:
            return
        try:
            with open_log(self.log_url) as log:
                has_started = log.current_epoch(policy.experiment) is not None
        except LogNotFoundError:
            has_started = False
        if not has_started:
            raise SettingsError(
                f"VARIANTS: got {','.join(self.variants)}; the experiment starts with {', '.join(missing)}, too: add "
                "it, put its file into EXTERNAL_MODELS if it was made elsewhere, or name others in ROLLOUT_POLICY"
            )

    def too_few_tickers(self, tickers: int) -> tuple[str, ...]:
        """A sentence for each question of the policy that needs more tickers than the universe has.

        Parameters
        ----------
        tickers
            Those of the universe.
        """
        # Imports scores and SciPy; a signal or a decision needs the log alone.
        from financial_assets.experiment.metrics.choice import fewest_tickers

        found: list[str] = []
        for place, asked in enumerate(self.policy().asked):
            needed, key = fewest_tickers(asked), f"questions[{place - 1}]" if place else "test.question"
            if needed <= tickers:
                continue
            way = "name another question there" if not place else "remove that entry; the other questions are tested"
            found.append(
                f"ROLLOUT_POLICY: {key} asks about {asked.question}, which needs {needed} tickers, but the universe "
                f"has {tickers}: add tickers to TICKERS or UNIVERSE_FILE, or {way}"
            )
        return tuple(found)

    def routed_sample(self) -> RoutedSample:
        """Which tickers of a session are sent as routed requests."""
        return RoutedSample(self.routed_per_session, self.seed)

    @property
    def report_path(self) -> Path:
        """Where the report is written; the evaluation as JSON lies beside it."""
        return Path(self.home) / "reports" / "ab-evaluation.html"

    @property
    def decisions_folder(self) -> Path:
        """Where decisions are written, one JSON file each, beside their records in the log."""
        return Path(self.home) / "reports" / "decisions"

    @property
    def evidence_folder(self) -> Path:
        """Where the evidence of past sessions is kept, so that a new one is added to it; it can be made anew."""
        return Path(self.home) / "evidence"

    @property
    def predictions_folder(self) -> Path:
        """Where the log's direct predictions are kept as the report reads them; it can be made anew."""
        return self.evidence_folder / "predictions"

    @property
    def rivals_path(self) -> Path:
        """Folder in which the daily predictions of the baselines are kept, a Parquet file per month."""
        return Path(self.home) / "reports" / "baseline-predictions"

    def current_epoch(self, log: PredictionLog) -> WeightEpoch:
        """The current weight epoch.

        Raises
        ------
        ExperimentError
            There is none.
        """
        epoch = log.current_epoch(self.policy().experiment)
        if epoch is None:
            raise ExperimentError("the experiment has not started; run `financial-assets run`")
        return epoch
