"""The honest evaluation of an experiment: what log and prices say, with intervals, beside what must be beaten."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch, arm_to_json
from financial_assets.experiment.business import BusinessCase
from financial_assets.experiment.business_view import Business, business_of
from financial_assets.experiment.by_regime import RegimeView, view_by_regime
from financial_assets.experiment.comparison import compare
from financial_assets.experiment.conclusion import conclude
from financial_assets.experiment.log_schema import QUANTILE_COLUMNS
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.results import Comparison, Evaluation, ProfitAndLoss, Score, Skill, TickerSkill
from financial_assets.experiment.skill import buy_and_hold, skill_of, ticker_skills, trading_grid
from financial_assets.experiment.statistics.srm import SRM_ALPHA
from financial_assets.experiment.traffic import arm_traffic, epoch_traffic
from financial_assets.market.panel import PricePanel

__all__ = ["DIRECT_COLUMNS", "MUST_BEAT", "ROUTED_COLUMNS", "Evaluation", "EvaluationPlan", "evaluate"]

MUST_BEAT = ("majority", "logistic")
"""Baselines that an arm is compared with in pairs."""

_SCORED = ("session", "ticker", "model", "status", "probability_up", *QUANTILE_COLUMNS)
DIRECT_COLUMNS = _SCORED
"""What an evaluation needs of the log's direct predictions; reading only this is three times as fast."""
ROUTED_COLUMNS = ("experiment", "epoch", "regime", *_SCORED, "attempts", "latency_s")
"""What an evaluation needs of the log's routed predictions."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is fixed before looking.

    Attributes
    ----------
    worthwhile
        Difference in accuracy that would matter.
    level, power
        Confidence of intervals; power for the smallest detectable difference.
    srm_alpha
        Level of the sample-ratio test.
    cost_bps
        Trading costs a side in basis points (Fischer and Krauss 2018 use 5).
    business
        What only the user knows: assets, costs of latency and of a promotion.
    """

    worthwhile: float = 0.02
    level: float = 0.95
    power: float = 0.80
    srm_alpha: float = SRM_ALPHA
    cost_bps: float = 5.0
    business: BusinessCase = field(default_factory=BusinessCase)


def evaluate(
    *,
    routed: pd.DataFrame,
    direct: pd.DataFrame,
    epochs: Sequence[WeightEpoch],
    panel: PricePanel,
    baselines: pd.DataFrame,
    as_of: pd.Timestamp | None = None,
    plan: EvaluationPlan | None = None,
) -> Evaluation:
    """Evaluate an experiment as of a session.

    Parameters
    ----------
    routed, direct
        The log's frames (:meth:`PredictionLog.routed`, :meth:`PredictionLog.direct`).
    epochs
        The experiment's weight epochs; the last one says who is champion, challenger and shadow.
    panel
        Prices, for outcomes.
    baselines
        Daily predictions of the baselines: ``date``, ``ticker``, ``model``, ``probability_up``, ``q01`` ... ``q99``;
        NaN where a baseline gives no answer.
    as_of
        Nothing later is used; default the panel's last session.
    plan
        What was fixed before; default :class:`EvaluationPlan`.

    Raises
    ------
    ExperimentError
        Without an epoch, with rows of unknown epochs, or with baselines that are no such frame.
    """
    plan = plan or EvaluationPlan()
    as_of = panel.sessions[-1] if as_of is None else as_of
    current = _check(routed, epochs)
    known = panel.until(as_of)
    rows, not_due = _paired_rows(direct, current, known)
    rows |= _baseline_rows(baselines, rows, known)
    scored = _score(rows, current, known, plan, routed)
    routed_due = join_outcomes(routed, known)
    traffic = epoch_traffic(routed, epochs, plan.srm_alpha)
    comparisons = _comparisons(rows, current, plan)
    challenger = current.challenger
    main = rows.get(current.champion.model)
    return Evaluation(
        experiment=current.experiment,
        as_of=_iso(as_of),
        first_session=None if main is None else _iso(main["session"].min()),
        last_session=None if main is None else _iso(main["session"].max()),
        arms=tuple(arm_to_json(arm) for arm in current.arms),
        conclusion=conclude(current.champion.model, challenger.model if challenger else None, traffic, comparisons),
        comparisons=comparisons,
        epochs=traffic,
        traffic=tuple(arm_traffic(model, routed, routed_due, plan.level) for model in _routed_models(epochs)),
        skills=scored.skills,
        tickers=scored.tickers,
        trading_days=scored.trading_days,
        buy_and_hold=scored.buy_and_hold,
        cost_bps=plan.cost_bps,
        level=plan.level,
        plan=dataclasses.asdict(plan),
        outcomes_not_due=not_due,
        data_hash=panel.content_hash(),
        business=scored.business,
        regimes=scored.regimes,
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    skills: tuple[Skill, ...] = ()
    tickers: tuple[TickerSkill, ...] = ()
    trading_days: tuple[str, ...] = ()
    buy_and_hold: ProfitAndLoss | None = None
    business: Business | None = None
    regimes: RegimeView | None = None


def _check(routed: pd.DataFrame, epochs: Sequence[WeightEpoch]) -> WeightEpoch:
    if not epochs:
        raise ExperimentError("the experiment has no weight epoch: materialize the asset `experiment` first")
    experiments = {epoch.experiment for epoch in epochs}
    if len(experiments) > 1:
        raise ExperimentError(f"weight epochs of several experiments: {', '.join(sorted(experiments))}")
    known = {(epoch.experiment, epoch.number) for epoch in epochs}
    seen = set(zip(routed["experiment"], routed["epoch"], strict=True))
    if seen - known:
        raise ExperimentError(f"routed predictions of unknown weight epochs: {sorted(seen - known)[:5]}")
    return epochs[-1]


def _routed_models(epochs: Sequence[WeightEpoch]) -> list[str]:
    return list(dict.fromkeys(model for epoch in reversed(epochs) for model in epoch.weights))


def _paired_rows(direct: pd.DataFrame, epoch: WeightEpoch, panel: PricePanel) -> tuple[dict[str, pd.DataFrame], int]:
    """Rows by model: those of champion and challenger are the same sessions and tickers, after both cut-offs."""
    pair = [arm for arm in (epoch.champion, epoch.challenger) if arm is not None]
    answered = direct[direct["status"] == "ok"]
    by_model = {
        arm.model: answered[(answered["model"] == arm.model) & (answered["session"] > arm.data_cutoff)]
        for arm in epoch.arms
    }
    common = by_model[pair[0].model][["session", "ticker"]]
    for arm in pair[1:]:
        common = common.merge(by_model[arm.model][["session", "ticker"]], validate="1:1")
    paired = {model: frame.merge(common, on=["session", "ticker"], validate="1:1") for model, frame in by_model.items()}
    due = {model: join_outcomes(frame, panel) for model, frame in paired.items()}
    not_due = len(common) - len(due[pair[0].model])
    return {model: frame for model, frame in due.items() if len(frame)}, not_due


def _baseline_rows(
    baselines: pd.DataFrame, rows: Mapping[str, pd.DataFrame], panel: PricePanel
) -> dict[str, pd.DataFrame]:
    wanted = ["date", "ticker", "model", "probability_up", *QUANTILE_COLUMNS]
    missing = [column for column in wanted if column not in baselines]
    if missing:
        raise ExperimentError(f"the frame of baseline predictions lacks the columns {', '.join(missing)}")
    if baselines.duplicated(["date", "ticker", "model"]).any():
        raise ExperimentError("the frame of baseline predictions holds a date, ticker and model more than once")
    if not rows:
        return {}
    keys = next(iter(rows.values()))[["session", "ticker"]]
    tidy = baselines[wanted].rename(columns={"date": "session"}).merge(keys, on=["session", "ticker"])
    return {str(name): join_outcomes(frame, panel) for name, frame in tidy.groupby("model", sort=False)}


def _score(
    rows: Mapping[str, pd.DataFrame], epoch: WeightEpoch, panel: PricePanel, plan: EvaluationPlan, routed: pd.DataFrame
) -> _Scored:
    main = rows.get(epoch.champion.model)
    if main is None or main["session"].nunique() < 2:
        return _Scored()
    roles = {arm.model: arm.role for arm in epoch.arms}
    grid = trading_grid(main, panel.sessions)
    skills = tuple(
        skill_of(name, roles.get(name, "baseline"), frame, grid, plan.cost_bps, plan.level)
        for name, frame in rows.items()
    )
    directional = {name: frame for name, frame in rows.items() if frame["probability_up"].notna().all()}
    hold = buy_and_hold(grid, plan.cost_bps)
    return _Scored(
        skills=skills,
        tickers=ticker_skills(directional),
        trading_days=tuple(_iso(session) for session in grid.sessions),
        buy_and_hold=hold,
        business=business_of(skills, hold, routed, plan.business, plan.level),
        regimes=view_by_regime(panel, grid.sessions, directional, skills, plan.level),
    )


def _comparisons(rows: Mapping[str, pd.DataFrame], epoch: WeightEpoch, plan: EvaluationPlan) -> tuple[Comparison, ...]:
    champion, challenger = epoch.champion.model, epoch.challenger

    def paired(first: str, second: str, score: Score) -> list[Comparison]:
        if first not in rows or second not in rows:
            return []
        worthwhile = plan.worthwhile if score == "accuracy" else None
        one, other = (first, rows[first]), (second, rows[second])
        found = compare(one, other, level=plan.level, power=plan.power, score=score, worthwhile=worthwhile)
        return [] if found is None else [found]

    comparisons: list[Comparison] = []
    if challenger is not None:
        comparisons += paired(challenger.model, champion, "accuracy") + paired(challenger.model, champion, "brier")
    for model in [champion] if challenger is None else [challenger.model, champion]:
        for baseline in MUST_BEAT:
            comparisons += paired(model, baseline, "accuracy")
    return tuple(comparisons)


def _iso(session: pd.Timestamp) -> str:
    return session.date().isoformat()
