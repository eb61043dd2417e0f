"""The honest evaluation of an experiment: what log and prices say, with intervals, beside what must be beaten."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch, arm_to_json
from financial_assets.experiment.decision.evidence import Judgement
from financial_assets.experiment.decision.guardrails import sample_ratio
from financial_assets.experiment.decision.record import Guardrail
from financial_assets.experiment.evaluation import comparison
from financial_assets.experiment.evaluation.business import BusinessCase
from financial_assets.experiment.evaluation.business_view import business_of, economics_of_rows
from financial_assets.experiment.evaluation.by_regime import view_by_regime
from financial_assets.experiment.evaluation.candidates import candidates
from financial_assets.experiment.evaluation.conclusion import conclude_all
from financial_assets.experiment.evaluation.evaluation import Evaluation, Scored
from financial_assets.experiment.evaluation.heads.ranking import arm_rankings
from financial_assets.experiment.evaluation.heads.var_coverage import tail_coverage
from financial_assets.experiment.evaluation.remarks import ahead_remarks, ruin_remarks
from financial_assets.experiment.evaluation.routed import routed_view
from financial_assets.experiment.evaluation.skill import (
    buy_and_hold,
    leak_checks,
    skill_of,
    ticker_skills,
    trading_grid,
)
from financial_assets.experiment.evaluation.traffic import arm_traffic, epoch_traffic
from financial_assets.experiment.evaluation.var_backtest import backtest_arms
from financial_assets.experiment.outcomes import join_outcomes
from financial_assets.experiment.plan.criteria import Criteria
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.selection import Trials

__all__ = ["DIRECT_COLUMNS", "ROUTED_COLUMNS", "Evaluation", "evaluate"]

_ORDER = ("champion", "challenger", "shadow")
_SCORED = ("session", "ticker", "model", "status", "probability_up", *QUANTILE_COLUMNS)
DIRECT_COLUMNS = (*_SCORED, *QUANTILE_5D_COLUMNS, "excess_return")
"""What an evaluation needs of the log's direct predictions; reading only this is three times as fast."""
ROUTED_COLUMNS = ("experiment", "epoch", "regime", "inclusion", *_SCORED, "attempts", "latency_s")
"""What an evaluation needs of the log's routed predictions."""


def evaluate(
    *,
    routed: pd.DataFrame,
    direct: pd.DataFrame,
    epochs: Sequence[WeightEpoch],
    panel: PricePanel,
    outcomes: pd.DataFrame,
    baselines: pd.DataFrame,
    judgements: Sequence[Judgement] = (),
    default: Criteria | None = None,
    leading: str | None = None,
    cost_bps: float = 5.0,
    business: BusinessCase | None = None,
    assumptions: Assumptions | None = None,
    trials: Trials | None = None,
    bayes_accuracy: float | None = None,
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
    panel, outcomes
        Prices up to that session, and the outcomes that they settle
        (:func:`~financial_assets.experiment.outcomes.outcome_frame`).
    baselines
        Daily predictions of the baselines: ``date``, ``ticker``, ``model``, ``probability_up``, ``q01`` ... ``q99``;
        NaN where a baseline gives no answer.
    judgements
        The decisions about the challengers. Each challenger is judged by the numbers of its registered plan, and its
        traffic by the guardrail of its decision.
    default
        What is judged by where no test is registered; default that of the default policy.
    leading
        The challenger that value, regimes and plots are about first; default the first.
    cost_bps
        Trading costs per side in basis points (Fischer and Krauss 2018 use 5).
    business
        What only the user knows: assets, costs of latency and of a promotion.
    assumptions
        Of the books and their costs; ``cost_bps`` is their flat cost too, so that all profits are of one cost.
    trials
        Everything that was ever tried, which deflates the books' Sharpe ratios.
    bayes_accuracy
        What the best possible predictor gets right; known for a simulated market only.

    Raises
    ------
    ExperimentError
        Without an epoch, with rows of unknown epochs, or with baselines that are not such a frame.
    """
    business = business or BusinessCase()
    assumed = replace(assumptions or Assumptions(), cost_bps=cost_bps)
    latest = _check(routed, epochs)
    # The champion first, then the challengers, the leading one before the others.
    order = sorted(latest.arms, key=lambda arm: (_ORDER.index(arm.role), arm.model != leading))
    current = replace(latest, arms=tuple(order))
    plans = [judgement.plan for judgement in judgements]
    criteria = criteria_of(current, plans, default or Criteria.of_policy())
    main_criteria = criteria[current.champion.model]
    answered = comparison.answered_rows(direct, current.arms)
    due = comparison.due_rows(answered, outcomes)
    routed_due, baselines_due = join_outcomes(routed, outcomes), comparison.due_baselines(baselines, outcomes)
    rows = comparison.common_rows(due, current)
    rows |= comparison.baseline_rows(baselines_due, rows)
    scored = _score(rows, current, panel, routed, main_criteria.level, business, assumed, trials)
    traffic = tuple(epoch_traffic(routed, epochs, main_criteria.srm_alpha))
    decided = {
        judgement.plan.challenger: rail
        for judgement in judgements
        for rail in judgement.decision.guardrails
        if rail.name == "sample ratio"
    }
    splits = split_tests(current, epochs, routed, criteria, decided)
    compared = comparison.comparisons(rows, due, baselines_due, current, criteria)
    conclusion = conclude_all(
        current.champion.model, [arm.model for arm in current.challengers], traffic, compared, splits
    )
    books = {skill.name: skill.pnl for skill in scored.skills} | {"buy and hold": scored.buy_and_hold}
    main = rows.get(current.champion.model)
    roles = {arm.model: arm.role for arm in current.arms}
    followed = {model for epoch in epochs if epoch.follows_scores for model in epoch.weights}
    # With a broken traffic split nothing is compared, in remarks neither.
    ahead = () if conclusion.verdict == "refused" else ahead_remarks(scored.skills, compared)
    return Evaluation(
        **vars(scored),
        experiment=current.experiment,
        as_of=_iso(panel.sessions[-1]),
        first_session=None if main is None else _iso(main["session"].min()),
        last_session=None if main is None else _iso(main["session"].max()),
        arms=tuple(arm_to_json(arm) for arm in current.arms),
        conclusion=replace(conclusion, remarks=(*ahead, *ruin_remarks(books), *conclusion.remarks)),
        comparisons=compared,
        epochs=traffic,
        traffic=tuple(
            arm_traffic(model, routed, routed_due, main_criteria.level, followed=model in followed)
            for model in dict.fromkeys(model for epoch in reversed(epochs) for model in epoch.weights)
        ),
        cost_bps=cost_bps,
        level=main_criteria.level,
        plan=_fixed(main_criteria, cost_bps, business),
        sample_ratio=splits,
        outcomes_not_due=comparison.waiting(answered, due, current),
        data_hash=panel.version(),
        candidates=candidates(due, current, panel.sessions, level=main_criteria.level, cost_bps=cost_bps),
        routed=routed_view(routed_due, due, epochs, main_criteria.level),
        backtests=backtest_arms(due, roles),
        coverage=tail_coverage(due, roles, panel.sessions, main_criteria.level),
        rankings=arm_rankings(due, roles, panel.sessions, main_criteria.level),
        leaks=leak_checks(due, bayes_accuracy=bayes_accuracy),
    )


def criteria_of(epoch: WeightEpoch, plans: Sequence[ExperimentPlan], default: Criteria) -> dict[str, Criteria]:
    """By arm; what is not about one challenger goes by those of the first, or by the default without any."""
    registered = {plan.challenger: Criteria.of_plan(plan) for plan in plans}
    by_arm = {arm.model: registered.get(arm.model, default) for arm in epoch.challengers}
    return by_arm | {epoch.champion.model: next(iter(by_arm.values()), default)}


def _fixed(criteria: Criteria, cost_bps: float, business: BusinessCase) -> dict[str, Any]:
    """What was fixed before looking, by the names that the JSON report has always had."""
    return {
        "worthwhile": criteria.plausible_effect if criteria.metric == "accuracy" else None,
        "level": criteria.level,
        "power": criteria.power,
        "srm_alpha": criteria.srm_alpha,
        "cost_bps": cost_bps,
        "business": dataclasses.asdict(business),
        "basis": criteria.basis,
    }


def split_tests(
    current: WeightEpoch,
    epochs: Sequence[WeightEpoch],
    routed: pd.DataFrame,
    criteria: Mapping[str, Criteria],
    decided: Mapping[str, Guardrail],
) -> dict[str, Guardrail]:
    """The guardrail "sample ratio" of each test: that of its decision, or the same test where nothing is decided.

    Parameters
    ----------
    current, epochs
        The weight epoch of the test, and all of the experiment.
    routed
        The log's routed requests.
    criteria
        By arm (:func:`criteria_of`).
    decided
        Challenger to the guardrail of its decision.
    """
    champion = current.champion.model
    models = [arm.model for arm in current.challengers] or [champion]
    return {
        model: decided.get(model)
        or sample_ratio(
            model,
            {epoch.number: epoch for epoch in epochs if epoch.champion.model == champion and model in epoch.weights},
            routed,
            criteria[model].srm_alpha,
        )
        for model in models
    }


def _check(routed: pd.DataFrame, epochs: Sequence[WeightEpoch]) -> WeightEpoch:
    if not epochs:
        raise ExperimentError("the experiment has not started; run `financial-assets run`")
    experiments = {epoch.experiment for epoch in epochs}
    if len(experiments) > 1:
        raise ExperimentError(f"weight epochs of several experiments: {', '.join(sorted(experiments))}")
    opened = {(epoch.experiment, epoch.number) for epoch in epochs}
    unknown = set(zip(routed["experiment"], routed["epoch"], strict=True)) - opened
    if unknown:
        raise ExperimentError(f"routed predictions of unknown weight epochs: {sorted(unknown)[:5]}")
    return epochs[-1]


def _score(
    rows: Mapping[str, pd.DataFrame],
    epoch: WeightEpoch,
    panel: PricePanel,
    routed: pd.DataFrame,
    level: float,
    business: BusinessCase,
    assumptions: Assumptions,
    trials: Trials | None,
) -> Scored:
    main = rows.get(epoch.champion.model)
    if main is None or main["session"].nunique() < 2:
        return Scored()
    roles, cost_bps = {arm.model: arm.role for arm in epoch.arms}, assumptions.cost_bps
    grid = trading_grid(main, panel.sessions)
    skills = tuple(
        skill_of(name, roles.get(name, "baseline"), frame, grid, cost_bps, level) for name, frame in rows.items()
    )
    directional = {name: frame for name, frame in rows.items() if frame["probability_up"].notna().all()}
    hold = buy_and_hold(grid, cost_bps)
    return Scored(
        skills=skills,
        tickers=ticker_skills(directional),
        trading_days=tuple(_iso(session) for session in grid.sessions),
        buy_and_hold=hold,
        business=business_of(skills, hold, routed, business, level),
        economics=economics_of_rows(rows, epoch, panel, assumptions, trials, level),
        regimes=view_by_regime(panel, grid.sessions, directional, skills, level),
    )


def _iso(session: pd.Timestamp) -> str:
    return session.date().isoformat()
