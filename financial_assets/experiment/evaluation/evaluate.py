"""The honest evaluation of an experiment: what log and prices say, with intervals, beside what must be beaten."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch, arm_to_json
from financial_assets.experiment.evaluation.business import BusinessCase
from financial_assets.experiment.evaluation.business_view import Business, business_of
from financial_assets.experiment.evaluation.by_regime import RegimeView, view_by_regime
from financial_assets.experiment.evaluation.candidates import candidates
from financial_assets.experiment.evaluation.comparison import compare
from financial_assets.experiment.evaluation.conclusion import conclude_all
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.measures import Comparison, ProfitAndLoss, Score, Skill, TickerSkill
from financial_assets.experiment.evaluation.remarks import ahead_remarks, ruin_remarks
from financial_assets.experiment.evaluation.routed import routed_view
from financial_assets.experiment.evaluation.rows import baseline_rows, common_keys, common_rows, due_rows, rows_of
from financial_assets.experiment.evaluation.skill import buy_and_hold, skill_of, ticker_skills, trading_grid
from financial_assets.experiment.evaluation.traffic import arm_traffic, epoch_traffic
from financial_assets.experiment.evaluation.var_backtest import backtest_arms
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.experiment.statistics.srm import SRM_ALPHA
from financial_assets.market.panel import PricePanel

__all__ = ["DIRECT_COLUMNS", "MUST_BEAT", "ROUTED_COLUMNS", "Evaluation", "EvaluationPlan", "evaluate"]

MUST_BEAT = ("majority", "logistic")
"""Baselines that an arm is compared with in pairs."""

_ORDER = ("champion", "challenger", "shadow")
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
    leading: str | None = None,
) -> Evaluation:
    """Evaluate an experiment as of a session.

    Each challenger is compared with the champion, and with what must be beaten, on all rows that the two have. Skill,
    profit and regimes are shown on rows that the champion and all challengers have, so that they can be read side by
    side; a challenger with less than half of the days that another one has is left out there until it has more.

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
    leading
        The challenger that value, regimes and plots are about first; default the first.

    Raises
    ------
    ExperimentError
        Without an epoch, with rows of unknown epochs, or with baselines that are no such frame.
    """
    plan = plan or EvaluationPlan()
    as_of = panel.sessions[-1] if as_of is None else as_of
    current = _led_by(leading, _check(routed, epochs))
    known = panel.until(as_of)
    due, not_due = due_rows(direct, current, known)
    rows = common_rows(due, current)
    rows |= baseline_rows(baselines, rows, known)
    scored = _score(rows, current, known, plan, routed)
    routed_due = join_outcomes(routed, known)
    traffic = epoch_traffic(routed, epochs, plan.srm_alpha)
    comparisons = _comparisons(rows, due, baselines, current, known, plan)
    main = rows.get(current.champion.model)
    followed = {model for epoch in epochs if epoch.follows_scores for model in epoch.weights}
    challengers = [arm.model for arm in current.challengers]
    conclusion = conclude_all(current.champion.model, challengers, traffic, comparisons)
    books = {skill.name: skill.pnl for skill in scored.skills} | {"buy and hold": scored.buy_and_hold}
    # With a broken traffic split nothing is compared, in remarks neither.
    ahead = () if conclusion.verdict == "refused" else ahead_remarks(scored.skills, comparisons)
    return Evaluation(
        experiment=current.experiment,
        as_of=_iso(as_of),
        first_session=None if main is None else _iso(main["session"].min()),
        last_session=None if main is None else _iso(main["session"].max()),
        arms=tuple(arm_to_json(arm) for arm in current.arms),
        conclusion=replace(conclusion, remarks=(*ahead, *ruin_remarks(books), *conclusion.remarks)),
        comparisons=comparisons,
        epochs=traffic,
        traffic=tuple(
            arm_traffic(model, routed, routed_due, plan.level, followed=model in followed)
            for model in _routed_models(epochs)
        ),
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
        candidates=candidates(due, current, panel.sessions, level=plan.level, cost_bps=plan.cost_bps),
        routed=routed_view(routed_due, due, epochs, plan.level),
        backtests=backtest_arms(due, {arm.model: arm.role for arm in current.arms}),
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
        raise ExperimentError("the experiment has not started; run `financial-assets run`")
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


def _led_by(leading: str | None, epoch: WeightEpoch) -> WeightEpoch:
    """The epoch with the champion first, then the challengers, this one before the others."""
    order = sorted(epoch.arms, key=lambda arm: (_ORDER.index(arm.role), arm.model != leading))
    return dataclasses.replace(epoch, arms=tuple(order))


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


def _comparisons(
    common: Mapping[str, pd.DataFrame],
    due: Mapping[str, pd.DataFrame],
    baselines: pd.DataFrame,
    epoch: WeightEpoch,
    panel: PricePanel,
    plan: EvaluationPlan,
) -> tuple[Comparison, ...]:
    """Each challenger against champion and baselines, then the champion against the baselines."""
    found: list[Comparison] = []

    def paired(rows: Mapping[str, pd.DataFrame], first: str, second: str, score: Score) -> None:
        if first in rows and second in rows:
            worthwhile = plan.worthwhile if score == "accuracy" else None
            one, other = (first, rows[first]), (second, rows[second])
            made = compare(one, other, level=plan.level, power=plan.power, score=score, worthwhile=worthwhile)
            found.extend([] if made is None else [made])

    champion = epoch.champion.model
    for model in [arm.model for arm in epoch.challengers if arm.model in due and champion in due]:
        basis, rows = common_keys([due[model], due[champion]]), common
        if model not in common or len(basis) != len(common[champion]):
            rows = {name: rows_of(due[name], basis) for name in (model, champion)}
            rows |= baseline_rows(baselines, rows, panel)
        paired(rows, model, champion, "accuracy")
        paired(rows, model, champion, "brier")
        for baseline in MUST_BEAT:
            paired(rows, model, baseline, "accuracy")
    for baseline in MUST_BEAT:
        paired(common, champion, baseline, "accuracy")
    return tuple(found)


def _iso(session: pd.Timestamp) -> str:
    return session.date().isoformat()
