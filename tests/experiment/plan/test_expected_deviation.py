"""What a plan expects of days to come: measured on days that are no evidence, and not on calm ones alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from financial_assets.errors import ExperimentError, TrainingError, UnaskableError
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.metrics.choice import choose, choose_metric
from financial_assets.experiment.metrics.paired import PairedDays
from financial_assets.experiment.metrics.registry import METRICS, metrics_of
from financial_assets.experiment.metrics.risk import PINBALL_IN_RETURN
from financial_assets.experiment.plan import expected_deviation as expected_deviation_module
from financial_assets.experiment.plan.block_answers import Block, KnownModel
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.expected_deviation import (
    deviation_of_days,
    expected_deviation,
    expected_deviations,
    measured_days,
)
from financial_assets.experiment.plan.long_run_spread import LongRun, long_run_of
from financial_assets.experiment.plan.sections import QuestionPolicy
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.market import calendar
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.onnx.export import onnx_session, run_onnx
from financial_assets.models.training import Training, train
from financial_assets.models.training_data import panel_volatility
from financial_assets.scoring.quantiles import normalised_pinball_losses
from financial_assets.workflows import days_before as days_before_module
from financial_assets.workflows.days_before import DaysBefore
from tests.experiment.decision.builders import plan
from tests.models.conftest import SEQUENCE_LENGTH, TINY, walk
from tests.models.external.graphs import LEVELS, Heads, write_graph


def regimes(block: float, sessions: int = 900, tickers: int = 20, seed: int = 0) -> PricePanel:
    """Random walks whose last 200 sessions are ``block`` times as volatile as those before, which come in spells."""
    days = calendar.sessions("2005-01-03", "2009-12-31")[:sessions]
    rng = np.random.default_rng(seed)
    volatility = 0.01 * np.exp(0.4 * np.sin(np.arange(sessions) / 40))
    volatility[-200:] *= block
    steps = volatility * (0.5 * rng.standard_normal((1, sessions)) + rng.standard_normal((tickers, sessions)))
    close = 100 * np.exp(np.cumsum(steps, axis=1))
    values = np.empty((tickers, len(CHANNELS), sessions), dtype=np.float32)
    values[:] = close[:, None, :]
    values[:, CHANNELS.index("volume")] = 1e6
    values[:, CHANNELS.index("market")] = close.mean(axis=0)
    values[:, CHANNELS.index("day")] = days.to_numpy().astype("datetime64[D]").astype(np.int64)
    return PricePanel(tuple(f"T{place:02d}" for place in range(tickers)), days, values, np.ones(close.shape, bool))


CALM, WILD = regimes(0.4), regimes(2.5)
BLOCK = CALM.sessions[-100:-6]


def test_a_calm_block_is_known_by_the_past() -> None:
    factor = long_run_of(PINBALL_IN_RETURN, CALM, BLOCK).regime
    assert 1.8 < factor < 4.0, "losses in return are two and a half times as large in usual times"
    assert long_run_of(PINBALL_IN_RETURN, WILD, BLOCK).regime == 1.0
    assert long_run_of(METRICS["pinball"], CALM, BLOCK).regime < factor, "there is less to see in units of volatility"


@pytest.mark.parametrize("name", ["accuracy", "rank_ic", "qlike_5d"])
def test_every_question_has_simple_forecasters(name: str) -> None:
    assert 1.0 <= long_run_of(METRICS[name], CALM, BLOCK).regime < 4.0


def test_nothing_is_said_of_a_past_that_is_hardly_longer_than_the_block() -> None:
    for block in (CALM.sessions[-400:], CALM.sessions[-20:]):
        assert long_run_of(PINBALL_IN_RETURN, CALM, block) == LongRun(1.0, 1.0)


def paired(values: np.ndarray) -> PairedDays:
    return PairedDays(pd.DatetimeIndex(BLOCK[: len(values)]), values, len(values), len(values))


def test_a_plan_takes_the_larger_of_its_block_and_the_long_run() -> None:
    values = np.random.default_rng(0).standard_normal(90)
    calm, wild = (deviation_of_days(paired(values), PINBALL_IN_RETURN, prices) for prices in (CALM, WILD))
    assert calm is not None
    assert wild is not None
    assert (wild.deviation, wild.regime) == (np.std(values, ddof=1), 1.0)
    assert calm.deviation == pytest.approx(calm.regime * wild.deviation)
    assert "calmer than the past" in calm.basis
    assert "calmer" not in wild.basis
    assert deviation_of_days(paired(values[:19]), PINBALL_IN_RETURN, CALM) is None
    assert deviation_of_days(paired(np.zeros(60)), PINBALL_IN_RETURN, CALM) is None


def test_outcomes_that_overlap_count_for_fewer_days() -> None:
    steps = np.random.default_rng(1).standard_normal(98)
    overlapping = np.convolve(steps, np.ones(5), "valid")
    found = deviation_of_days(paired(overlapping), METRICS["pinball_5d"], WILD)
    assert found is not None
    assert 2.5 < found.inflation < 6.0, "five sessions of which four are shared: five times the variance"
    assert found.long_run == pytest.approx(found.deviation * math.sqrt(found.inflation))
    alone = deviation_of_days(paired(steps[:94]), METRICS["pinball"], WILD)
    assert alone is not None
    assert 1.0 <= alone.inflation < 1.6


def test_what_is_registered_is_read_back_and_old_plans_keep_their_digest() -> None:
    before = plan()
    assert "regime" not in before.to_json()
    assert "inflation" not in before.to_json()
    later = replace(before, spread=replace(before.spread, regime=1.5, inflation=2.0))
    assert type(later).from_json(later.to_json()) == later


def spreads(**deviations: float) -> dict[str, DailyDeviation]:
    return {name: DailyDeviation(deviation, "the test") for name, deviation in deviations.items()}


def test_the_metric_that_can_see_most_is_chosen() -> None:
    wide = {metric.name: 10 * metric.plausible_effect for metric in metrics_of("risk")}
    found = choose_metric("risk", spreads(**{**wide, "qlike": wide["qlike"] / 2}), drift=3.0, horizon=100)
    assert found.metric == "qlike"
    assert found.ratios["qlike"] == pytest.approx(3.0 * 5 / 10)
    assert found.why.startswith(
        "by the planned looks alone, 100 sessions can detect a difference in QLIKE of 1.50 times the most one can "
        "expect (pinball loss 3.00 times, "
    )
    assert set(found.ratios) == set(wide)


def test_days_that_move_together_make_a_metric_worse() -> None:
    equal = {metric.name: 8 * metric.plausible_effect for metric in metrics_of("risk")[:2]}
    assert choose_metric("risk", spreads(**equal), drift=3.0, horizon=100).metric == "pinball", "of equals the first"
    dependent = {**spreads(**equal), "pinball": DailyDeviation(equal["pinball"], "the test", inflation=1.2)}
    assert choose_metric("risk", dependent, drift=3.0, horizon=100).metric == "qlike"


def test_a_question_that_was_not_measured_has_no_metric() -> None:
    with pytest.raises(ExperimentError, match="none of rank_ic, excess_accuracy, long_short was measured"):
        choose_metric("ranking", spreads(accuracy=0.1), drift=3.0, horizon=100)


@pytest.fixture(scope="module")
def trained() -> tuple[PricePanel, Training, Training]:
    """Two seeds of a tiny model on a random walk."""
    prices = walk()
    quick = [feature for feature in CATALOGUE if feature.lookback <= 25][:8]
    graph = FeatureGraph([*quick, next(feature for feature in CATALOGUE if feature.name == "ewma_volatility")])
    features, cutoff = compute_panel(prices, graph), prices.sessions[799]
    given = {"cutoff": cutoff, "sequence_length": SEQUENCE_LENGTH, "device": "cpu"}
    one, other = (train(TINY, features, prices, seed=seed, **given) for seed in (1, 2))  # type: ignore[arg-type]
    return prices, one, other


def test_two_trainings_are_compared_in_their_calibration_block(trained: tuple[PricePanel, Training, Training]) -> None:
    prices, one, other = trained
    found = expected_deviation(one, other, "pinball", 2, prices)
    served = [training.calibrated(training.held_out).return_quantiles.double().numpy() for training in (one, other)]
    answers, volatility = one.held_out, panel_volatility(prices).double().numpy()
    at = (answers.ticker == "T1").astype(int), prices.sessions.get_indexer(pd.DatetimeIndex(answers.session))
    losses = [normalised_pinball_losses(answers.outcome, quantiles, volatility[at]) for quantiles in served]
    days = pd.Series(losses[0] - losses[1]).groupby(answers.session).mean()
    assert found.deviation / found.regime == pytest.approx(days.std(), rel=1e-4)
    later = replace(prices, values=prices.values.copy())
    later.values[:, :6, 800:] *= np.float32(1.7)
    assert expected_deviation(one, other, "pinball", 2, later) == found, "nothing after the cut-offs is read"


def test_guards_and_baselines_are_measured_on_the_same_days(trained: tuple[PricePanel, Training, Training]) -> None:
    prices, one, other = trained
    answers = one.held_out
    frame = pd.DataFrame({"date": answers.session, "ticker": answers.ticker.astype(object), "model": "majority"})
    frame["probability_up"] = 0.55
    found = expected_deviation(one, other, "brier", 2, prices, frame)
    beside = dict(found.beside)
    assert set(beside) == {"guard accuracy", "guard profit", "guard tail", "against majority"}
    assert {len(days) for days in beside.values()} == {len(found.sample)}
    assert np.array_equal(other.held_out.session, answers.session)
    ups = answers.outcome > 0
    own = 1 / (1 + np.exp(-(other.platt.scale * other.held_out.logit + other.platt.bias)))
    days = pd.Series((0.55 - ups) ** 2 - (own - ups) ** 2).groupby(answers.session).mean()
    assert np.allclose(beside["against majority"], days.to_numpy(), atol=1e-6)
    gap = expected_deviation(one, other, "brier", 2, prices, frame[frame["date"] != frame["date"].iloc[5]])
    assert "against majority" not in dict(gap.beside), "a series with gaps cannot be drawn with the others"


def test_every_metric_of_a_question_is_measured_at_once(trained: tuple[PricePanel, Training, Training]) -> None:
    prices, one, other = trained
    found = expected_deviations(one, other, "risk", prices)
    assert set(found) == {metric.name for metric in metrics_of("risk")}
    assert found["pinball"] == expected_deviation(one, other, "pinball", 2, prices)
    assert expected_deviations(one, other, "ranking", prices) == {}, "two tickers are not ranked"
    assert choose_metric("risk", found, drift=2.9, horizon=252).metric in found


def test_two_models_that_answer_alike_are_said_to(trained: tuple[PricePanel, Training, Training]) -> None:
    prices, one, other = trained
    days = len(np.unique(one.held_out.session))
    same = measured_days(one, one, metrics_of("risk"), 2, prices)
    assert (same.spreads, same.alike) == ({}, {metric.name for metric in metrics_of("risk")})
    alike = f"the two models scored exactly alike on all {days} days of the calibration block"
    for metric in ("auto", "qlike"):
        with pytest.raises(UnaskableError) as refused:
            choose(QuestionPolicy("risk", metric), same, drift=2.9, horizon=252)
        assert str(refused.value) == f"{alike}, so that there is no difference to test"
    direction = measured_days(one, one, metrics_of("direction"), 2, prices)
    choice, spread = choose(QuestionPolicy("direction"), direction, drift=2.9, horizon=252)
    assert choice.why.endswith(f"These days are assumed, because {alike}")
    assert spread.basis.startswith("assumed")
    differing = measured_days(one, other, metrics_of("risk"), 2, prices)
    assert differing.alike == frozenset()
    assert "alike" not in measured_days(one, other, metrics_of("ranking"), 2, prices).lacking


def test_models_and_baselines_are_asked_once_for_all_questions_of_a_pair(
    trained: tuple[PricePanel, Training, Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    prices, one, other = trained
    asked, warned = list[str](), list[str]()
    block_answers = expected_deviation_module.block_answers

    def counted(model: KnownModel, block: Block) -> pd.DataFrame:
        asked.append("champion" if model is one else "challenger")
        return block_answers(model, block)

    def no_baselines(*_: object) -> pd.DataFrame:
        asked.append("baselines")
        raise TrainingError("they were fitted on other features")

    monkeypatch.setattr(expected_deviation_module, "block_answers", counted)
    monkeypatch.setattr(days_before_module, "block_predictions", no_baselines)
    known = {1: one, 2: other}
    lifecycle = SimpleNamespace(known_model=known.__getitem__)
    fitted = SimpleNamespace(silent={"har": "histories are too short"})
    models = SimpleNamespace(lifecycle=lambda: lifecycle, baselines_for=lambda _: fitted)
    clock = SimpleNamespace(now=lambda: prices.sessions[-1])
    market = SimpleNamespace(tickers=["A", "B"], load_panel=lambda: prices, clock=lambda: clock)
    champion, challenger = (Arm(f"m{n}", "v", n, "shadow", 0, prices.sessions[0]) for n in known)
    before = DaysBefore(cast(MarketState, market), cast(ModelStore, models), champion, warned.append)
    found = {question: before.of(challenger, QuestionPolicy(question)) for question in ("direction", "risk")}
    assert sorted(asked) == ["baselines", "challenger", "champion"]
    assert len(warned) == 1
    for question, days in found.items():
        assert days == replace(measured_days(one, other, metrics_of(question), 2, prices), silent=fitted.silent)


def graph_of(folder: Path, name: str, window: int, cutoff: pd.Timestamp) -> ExternalGraph:
    """A graph that answers normal quantiles of the volatility of the last ``window`` sessions."""

    class Risk(nn.Module):
        def forward(self, bars: Tensor) -> Heads:
            moves = torch.log(bars[:, -window:, 3] / bars[:, -window - 1 : -1, 3])
            volatility = torch.sqrt((moves * moves).mean(dim=1, keepdim=True)) + 1e-4
            return torch.sigmoid(moves[:, -1:]), volatility * LEVELS, volatility * 2.2 * LEVELS, moves[:, -1:]

    return ExternalGraph(write_graph(folder, name, Risk()), cutoff)


def days_of(graphs: Sequence[ExternalGraph], prices: PricePanel, sessions: pd.DatetimeIndex) -> pd.Series:
    """Daily differences in pinball loss, computed window by window."""
    volatility, outcome = panel_volatility(prices).double().numpy(), next_session_return(prices)
    found = {}
    for session in sessions:
        at, (_, windows) = prices.position(session), prices.windows(session, 256)
        losses = [
            normalised_pinball_losses(
                outcome[:, at], run_onnx(onnx_session(graph.path), windows).return_quantiles, volatility[:, at]
            )
            for graph in graphs
        ]
        found[session] = float(np.mean(losses[1] - losses[0]))
    return pd.Series(found)


def test_an_external_model_is_asked_about_the_block_of_a_trained_one(
    tmp_path: Path, trained: tuple[PricePanel, Training, Training]
) -> None:
    prices, training, _ = trained
    graph = graph_of(tmp_path, "month", 20, prices.sessions[500])
    found = expected_deviation(graph, training, "pinball", 2, prices)
    sessions = pd.DatetimeIndex(training.held_out.session).unique()
    assert found.basis.startswith(f"{len(sessions)} days of the calibration block")
    turned = expected_deviation(training, graph, "pinball", 2, prices)
    assert turned.deviation == found.deviation
    assert turned.sample == tuple(-day for day in found.sample)


def test_two_external_models_are_asked_about_the_year_before_the_test(tmp_path: Path) -> None:
    prices = walk(count=1700)
    month, year = (graph_of(tmp_path, f"last-{n}", n, prices.sessions[n + 1200]) for n in (20, 250))
    found = expected_deviation(month, year, "pinball", 2, prices)
    # The last of the 252 sessions is settled by the next one only, which is the first of the evidence.
    sessions = prices.sessions[1450 - 251 : 1450]
    expected = days_of((month, year), prices, sessions)
    assert found.basis.startswith("251 days of the sessions before the test")
    assert found.deviation / found.regime == pytest.approx(expected.std(), rel=1e-4)
    later = replace(prices, values=prices.values.copy())
    later.values[:, :6, 1451:] *= np.float32(1.7)
    assert expected_deviation(month, year, "pinball", 2, later) == found, "evidence is not looked at"
    assert set(expected_deviations(month, year, "risk", prices)) == {metric.name for metric in metrics_of("risk")}


@pytest.mark.parametrize("cutoff", ["1999-12-31", "2001-06-29"], ids=["before all prices", "before a whole window"])
def test_without_days_before_the_evidence_nothing_is_assumed_of_a_loss(tmp_path: Path, cutoff: str) -> None:
    graphs = [graph_of(tmp_path, f"last-{n}", n, pd.Timestamp(cutoff)) for n in (20, 60)]
    with pytest.raises(ExperimentError, match="give external models a data_cutoff with a year of prices before it"):
        expected_deviation(graphs[0], graphs[1], "qlike", 2, walk(count=400))
    assert expected_deviation(graphs[0], graphs[1], "accuracy", 2, walk(count=400)).basis.startswith("assumed")


def test_two_equal_graphs_never_differ(tmp_path: Path) -> None:
    prices = walk(count=400)
    one, other = (graph_of(tmp_path, name, 20, prices.sessions[350]) for name in ("one", "other"))
    with pytest.raises(ExperimentError, match="not measured"):
        expected_deviation(one, other, "pinball", 2, prices)
