"""The A/B experiment: policy, prediction log, and what a replay and its report need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from financial_assets.errors import ExperimentError, LogNotFoundError, SettingsError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.plan.policy import RolloutPolicy, load_policy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.sampling import RoutedSample

if TYPE_CHECKING:
    from financial_assets.experiment.evaluation.business import BusinessCase


class ABTestState(BaseModel):
    """The A/B experiment: policy, log, rollout state, replay and report settings."""

    model_config = ConfigDict(frozen=True)

    home: str
    log_url: str
    variants: list[str] = []
    rollout_policy: str | None = None
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

    def log(self) -> PredictionLog:
        """The prediction log."""
        return PredictionLog(self.log_url)

    def policy(self) -> RolloutPolicy:
        """Who takes part when the experiment starts."""
        return load_policy(Path(self.rollout_policy) if self.rollout_policy else None)

    def check_participants(self) -> None:
        """Make sure that the experiment can start with the variants that are made; one that runs keeps its arms.

        Raises
        ------
        SettingsError
            The rollout policy names a variant that ``VARIANTS`` does not.
        """
        from financial_assets.monitoring.metrics import open_log  # pandas and Prometheus

        policy = self.policy()
        named = (policy.champion.variant, *(arm.variant for arm in policy.challengers), *policy.shadow)
        missing = [variant for variant in named if variant not in self.variants]
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
                "it, or name others in ROLLOUT_POLICY"
            )

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
    def rivals_path(self) -> Path:
        """Where the daily predictions of the baselines are kept."""
        return Path(self.home) / "reports" / "baseline-predictions.parquet"

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
