"""Constructed tests: a plan, days of evidence, routed requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.record import TrafficEvidence
from financial_assets.experiment.evaluation.evaluate import Evaluation, evaluate
from financial_assets.experiment.metrics.risk import BASELINES as RISK_BASELINES
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.paired_score import PairedDays
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import MUST_BEAT, ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.policy import RolloutPolicy, load_policy
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, arms, panel

QUIET = TrafficEvidence((), "quiet")
OPENED = pd.Timestamp("2010-02-01 12:00", tz="UTC")
EPOCH = WeightEpoch("ab-experiment", 1, OPENED, arms(), "start")
SPREAD = 0.1
"""Standard deviation of a day: 10 tickers, of which some three in ten are disagreed on."""
_SESSIONS = pd.bdate_range(CUTOFF + pd.Timedelta(days=3), periods=2_000)


def evaluated(*, panel: PricePanel, **given: Any) -> Evaluation:
    """An evaluation as of the panel's last session."""
    # The log's frames have the columns of all heads, empty where the arms are of an earlier version.
    direct: pd.DataFrame = given.pop("direct")
    lacking = [name for name in (*QUANTILE_5D_COLUMNS, "excess_return") if name not in direct]
    direct = direct.assign(**dict.fromkeys(lacking, np.nan))
    return evaluate(panel=panel, outcomes=outcome_frame(panel), direct=direct, **given)


def policy(**test: object) -> RolloutPolicy:
    """The package's policy with one question, by default decided by accuracy in a year with four looks."""
    named = {"question": None, "metric": "accuracy", "plausible_effect": 0.02, "horizon_sessions": 252, "looks": 4}
    packaged = load_policy()
    rules = replace(packaged.test, **{**named, **test})
    return replace(packaged, experiment="ab-experiment", test=rules, questions=())


def plan(**test: object) -> ExperimentPlan:
    """A plan that can find its plausible effect of 3 points within its 252 days."""
    rules = policy(**{"plausible_effect": 0.03, **test})
    return make_plan(rules, EPOCH, EPOCH.challengers[0], DailyDeviation(SPREAD, "the test"), CUTOFF)


def first_plan(**test: object) -> ExperimentPlan:
    """The same as it was registered under the first rule, with the deflated Sharpe ratio that was asked for then."""
    rules = policy(**{"plausible_effect": 0.03, "deflated_sharpe": 0.95, **test})
    made = make_plan(rules, EPOCH, EPOCH.challengers[0], DailyDeviation(SPREAD, "the test"), CUTOFF)
    return as_first(made)


def as_first(made: ExperimentPlan) -> ExperimentPlan:
    """A plan as an earlier version reads and writes it."""
    each_failure = replace(made.guardrails, incident_requests=1)
    stored = replace(made, rule=1, must_beat=MUST_BEAT, guardrails=each_failure).to_json()
    return ExperimentPlan.from_json(stored)


def days(values: np.ndarray) -> PairedDays:
    """Evidence of consecutive days."""
    return PairedDays(_SESSIONS[: len(values)], np.clip(values, -1, 1), 10 * len(values), 3 * len(values))


def evidence(mean: float, count: int = 252, *, beats: float | None = None, seed: int = 0, missing: int = 0) -> Evidence:
    """Days that the challenger wins by ``mean`` against the champion and by ``beats`` against the baselines."""
    rng = np.random.default_rng(seed)
    main = days(mean + SPREAD * rng.standard_normal(count))
    other = days((mean if beats is None else beats) + SPREAD * rng.standard_normal(count))
    return Evidence(main, main, {"majority": other, "logistic": other}, 10 * count, missing, f"{mean}-{seed}-{count}")


def requests(
    count: int,
    *,
    share: float = 0.3,
    slow: float = 0.0,
    failed: float = 0.0,
    champion_slow: float = 0.0,
    unattributed: float = 0.0,
    seed: int = 0,
    epoch: int = 1,
) -> pd.DataFrame:
    """Routed requests in order, with a challenger that is slow or fails at the given rates."""
    rng = np.random.default_rng(seed)
    challenger = rng.random(count) < share
    late = rng.random(count) < np.where(challenger, slow, champion_slow)
    broken = challenger & (rng.random(count) < failed)
    lost = rng.random(count) < unattributed
    status = np.where(lost, "unattributed", np.where(broken, "failed", "ok"))
    return pd.DataFrame(
        {
            "epoch": epoch,
            "regime": None,
            "session": _SESSIONS[: count // 10 + 1].repeat(10)[:count],
            "model": np.where(lost, None, np.where(challenger, CHALLENGER, CHAMPION)),
            "status": status,
            "latency_s": np.where(late, 1.0, 0.003),
        }
    )


PRICES = panel(sessions=80, tickers=3)
OUTCOMES = outcome_frame(PRICES, scaled=True)


def frames(prices: PricePanel = PRICES, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired predictions of both arms and of the baselines, on every session of the panel."""
    rng = np.random.default_rng(seed)
    keys = prices_keys(prices)
    arms = [
        keys.assign(model=name, status="ok", probability_up=rng.random(len(keys))) for name in (CHAMPION, CHALLENGER)
    ]
    rivals = [keys.assign(model=name, probability_up=0.4) for name in ("majority", "logistic", *RISK_BASELINES)]
    # The log's frames and those of baselines have the columns of all heads, empty where there is no answer.
    heads = dict.fromkeys((*QUANTILE_COLUMNS, *QUANTILE_5D_COLUMNS, "excess_return"), np.nan)
    direct, baselines = pd.concat(arms, ignore_index=True), pd.concat(rivals, ignore_index=True)
    return direct.assign(**heads), baselines.assign(**heads).rename(columns={"session": "date"})


def prices_keys(prices: PricePanel) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([prices.sessions, prices.tickers], names=["session", "ticker"])
    return index.to_frame(index=False)
