"""Backtests of scores and models: one simulation, whatever they come as; errors name the argument."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper, save

import financial_assets as fa
from financial_assets.errors import FinancialAssetsError, ForecastError, PortfolioError
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.forecasts import with_outcomes
from financial_assets.models.onnx.export import export_onnx
from financial_assets.models.predictor import build_predictor
from financial_assets.models.training import Training, train
from financial_assets.models.variants import VARIANTS
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.economics.evaluate import economics_of
from financial_assets.research import Backtest
from financial_assets.research.backtests import Rules
from tests.models.conftest import walk
from tests.research.conftest import World

FREE = {"commission_bps": 0.0, "half_spread_bps": 0.0, "impact": 0.0, "borrow_per_year": 0.0}


def tidy(wide: pd.DataFrame) -> pd.DataFrame:
    return wide.stack().rename_axis(["date", "ticker"]).rename("score").reset_index()


@pytest.fixture(scope="module")
def found(world: World) -> Backtest:
    return fa.backtest(world.skill, world.panel)


FORMS: dict[str, Callable[[World], pd.DataFrame]] = {
    "tidy": lambda world: tidy(world.skill),
    "shuffled": lambda world: tidy(world.skill).sample(frac=1.0, random_state=1),
    "index of date and ticker": lambda world: tidy(world.skill).set_index(["date", "ticker"]),
    "index of dates": lambda world: tidy(world.skill).set_index("date"),
    "dates as text": lambda world: tidy(world.skill).assign(date=lambda rows: rows["date"].dt.strftime("%Y-%m-%d")),
    "wide with a column of dates": lambda world: world.skill.rename_axis("date").reset_index(),
    "wide, other names of axes": lambda world: world.skill.rename_axis(index="Date", columns="Ticker"),
    "forecast table": lambda world: with_outcomes(tidy(world.skill).assign(model="scores"), world.panel),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(found: Backtest, world: World, form: str) -> None:
    other = fa.backtest(FORMS[form](world), world.panel)
    pd.testing.assert_frame_equal(other.table, found.table)
    pd.testing.assert_frame_equal(other.returns, found.returns)


def test_it_is_the_profit_and_loss_of_the_reports(found: Backtest, world: World) -> None:
    table = tidy(world.skill).assign(model="scores", probability_up=lambda rows: (rows["score"] > 0).astype(float))
    own = economics_of(table, world.panel, Assumptions(books=("long_short",)))
    pd.testing.assert_frame_equal(found.table, own.frame())
    assert found.sentence == own.sentence


def test_a_planted_signal_earns_and_its_opposite_loses(world: World) -> None:
    mean: dict[str, pd.Series] = {}
    for name, scores in {"skill": world.skill, "luck": world.luck, "opposite": -world.skill}.items():
        result = fa.backtest(scores, world.panel, **FREE)
        table = result.table.set_index(["costs", "figure"])
        mean[name] = table.loc[("market", "mean_return")]
        assert ("the whole interval is a profit" in result.sentence) == (mean[name]["low"] > 0)
    assert mean["skill"]["low"] > 0
    assert mean["opposite"]["high"] < 0
    assert mean["luck"]["low"] < 0 < mean["luck"]["high"]


def test_costs_matter(world: World) -> None:
    def net(**rules: float) -> float:
        returns = fa.backtest(world.luck, world.panel, **(FREE | rules)).returns  # type: ignore[arg-type]
        return float(returns["long_short"].sum())

    free = net()
    for rules in ({"commission_bps": 5.0}, {"half_spread_bps": 5.0}, {"impact": 1.0}, {"borrow_per_year": 0.1}):
        assert net(**rules) < free - 1e-4, rules
    assert net(impact=1.0, capital=1e8) < net(impact=1.0, capital=1e6)


def test_few_tickers_are_traded_by_direction(small_world: World) -> None:
    by_sign = fa.backtest(small_world.skill, small_world.panel)
    assert set(by_sign.table["book"]) == {"direction"}
    said = tidy(small_world.skill).assign(probability_up=lambda rows: (rows["score"] > 0).astype(float))
    by_probability = fa.backtest(said, small_world.panel, book="direction")
    pd.testing.assert_frame_equal(by_sign.table, by_probability.table)
    with pytest.raises(PortfolioError, match=r"book='long_short'.*\(ranked_from\); there are 3"):
        fa.backtest(small_world.skill, small_world.panel, book="long_short")
    ranked = fa.backtest(small_world.skill, small_world.panel, book="long_short", ranked_from=2, quantiles=3)
    assert set(ranked.table["book"]) == {"long_short"}


def test_it_plots_and_shows_itself(world: World) -> None:
    result = fa.backtest(
        world.skill, world.panel, book=["long_short", "direction"], name="momentum", cash_per_year=0.02
    )
    (axes,) = result.plot().axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(lines) == ["long_short", "direction", "buy and hold", "cash"]
    for name, line in lines.items():
        grown = np.asarray(line.get_ydata())
        assert grown[-1] == pytest.approx((1 + result.returns[name]).prod())
        assert len(grown) == len(result.economics.sessions)
    assert lines["cash"].get_ydata()[-1] > 1
    page = result._repr_html_()
    assert "momentum" in page
    assert result.sentence in page
    assert "mean_return" in page


def test_several_models_in_one_table(world: World) -> None:
    both = pd.concat([tidy(world.skill).assign(model="skill"), tidy(world.luck).assign(model="luck")])
    result = fa.backtest(both, world.panel)
    assert {"skill, long_short", "luck, long_short"} < set(result.returns)
    alone = fa.backtest(world.luck, world.panel, name="luck")
    own = result.table[result.table["model"] == "luck"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, alone.table)
    with pytest.raises(ForecastError, match="several models"):
        fa.backtest(both, world.panel, name="one")


def test_scores_that_never_differ_hold_nothing(world: World) -> None:
    result = fa.backtest(world.skill * 0.0, world.panel)
    assert "nothing can be said" in result.sentence
    assert list(result.returns) == ["buy and hold", "cash"]
    assert result.sentence in result._repr_html_()


def test_first_and_last_session(found: Backtest, world: World) -> None:
    result = fa.backtest(world.skill, world.panel, start="2002-01-01", end="2002-03-29")
    assert (result.returns.index[0], result.returns.index[-1]) == (
        pd.Timestamp("2002-01-01"),
        pd.Timestamp("2002-03-29"),
    )
    assert len(result.returns) < len(found.returns)


def test_no_scores_on_some_rows_are_no_scores(found: Backtest, world: World) -> None:
    gaps = tidy(world.skill)
    gaps = pd.concat([gaps, gaps.iloc[:5].assign(date=world.panel.sessions[20], score=np.nan)])
    pd.testing.assert_frame_equal(fa.backtest(gaps, world.panel).table, found.table)


MALFORMED: dict[str, tuple[Callable[[pd.DataFrame], object], str]] = {
    "no frame": (lambda scores: [1.0], "must be a frame.*not list"),
    "empty": (lambda scores: scores.iloc[:0], "holds no number"),
    "all NaN": (lambda scores: scores.assign(score=np.nan), "holds no number"),
    "text": (lambda scores: scores.assign(score="high"), "no dates or numbers"),
    "no dates": (lambda scores: scores.assign(date="soon"), "no dates or numbers"),
    "a missing date": (lambda scores: scores.assign(date=scores["date"].where(scores.index > 0)), "without a date"),
    "a time zone": (lambda scores: scores.assign(date=scores["date"].dt.tz_localize("UTC")), "time zone"),
    "a time of day": (lambda scores: scores.assign(date=scores["date"] + pd.Timedelta("16h")), "not in the panel"),
    "no session": (lambda scores: scores.assign(date=scores["date"] + pd.Timedelta("36500D")), "not in the panel"),
    "another ticker": (lambda scores: scores.replace({"ticker": {"T3": "ZZZ"}}), "ZZZ"),
    "twice": (lambda scores: pd.concat([scores, scores.iloc[:1]]), "model_or_scores: "),
    "infinite": (lambda scores: scores.assign(score=np.inf), "model_or_scores: .*infinite"),
    "a probability of 2": (lambda scores: scores.assign(probability_up=2.0), "not a probability"),
    "no score": (lambda scores: scores.drop(columns="score"), "date, ticker and score"),
    "an unknown column": (lambda scores: scores.assign(alpha=1.0), "alpha"),
    "wide by number": (lambda scores: scores.pivot(index="date", columns="ticker").reset_index(drop=True), "tickers"),
    "a wide frame without dates": (lambda scores: pd.DataFrame(np.ones((5, 2)), columns=["T1", "T2"]), "not numbers"),
    "quantiles alone": (
        lambda scores: scores[["date", "ticker"]].assign(q01=-0.03, q05=-0.02, q50=0.0, q95=0.02, q99=0.03),
        "neither scores nor probabilities",
    ),
    "no file": (lambda scores: "absent.onnx", "start is missing"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_scores_are_refused_by_name(world: World, fault: str) -> None:
    spoil, message = MALFORMED[fault]
    with pytest.raises(FinancialAssetsError, match=message) as caught:
        fa.backtest(spoil(tidy(world.skill)), world.panel)  # type: ignore[arg-type]
    assert "BUSINESS_" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"commission_bps": -1.0}, "^commission_bps must be at least 0"),
        ({"capital": 0.0}, "^capital must be above 0"),
        ({"cost_bps": float("nan")}, "^cost_bps must be finite"),
        ({"capital": "much"}, "not a number"),
        ({"book": "all"}, "^book: choose among direction"),
        ({"book": []}, "^book: choose among direction"),
        ({"sizing": "kelly"}, "sizing='kelly' needs probabilities"),
        ({"stop_loss": 2.0}, "^stop_loss must lie"),
        ({"level": 1.0}, "^level"),
        ({"fees": 3.0}, "no argument fees"),
        ({"start": "soon"}, "^start='soon' is not a date"),
        ({"start": "2002-02-01", "end": "2002-01-01"}, "no forecast between start and end"),
    ],
)
def test_bad_arguments_are_named(world: World, arguments: dict[str, object], message: str) -> None:
    with pytest.raises((PortfolioError, ForecastError), match=message):
        fa.backtest(world.skill, world.panel, **arguments)  # type: ignore[arg-type]


def test_all_assumptions_are_arguments() -> None:
    fields = {field.name for field in dataclasses.fields(Assumptions)}
    assert set(Rules.__annotations__) == fields - {"books"}


def test_no_setting_is_read_and_nothing_is_written(
    found: Backtest, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUSINESS_CAPITAL", "1")
    monkeypatch.setenv("COST_BPS", "500")
    pd.testing.assert_frame_equal(fa.backtest(world.skill, world.panel).table, found.table)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def prices() -> PricePanel:
    return walk(seed=4, tickers=3, count=700)


@pytest.fixture(scope="module")
def training(prices: PricePanel, graph: FeatureGraph) -> Training:
    features, cutoff = compute_panel(prices, graph), prices.sessions[669]
    return train(VARIANTS["linear"], features, prices, cutoff=cutoff, sequence_length=3, seed=1, device="cpu")


@pytest.fixture(scope="module")
def file(training: Training, graph: FeatureGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "linear.onnx"
    export_onnx(build_predictor(training, graph), path)
    return path


def test_a_training_and_its_file_give_the_same(prices: PricePanel, training: Training, file: Path) -> None:
    after = prices.sessions[670]
    of_training = fa.backtest(training, prices)
    assert of_training.forecasts["date"].min() == after
    for path in (file, str(file)):
        of_file = fa.backtest(path, prices, start=after)
        assert set(of_file.table["model"]) == {"linear"}
        pd.testing.assert_frame_equal(of_file.forecasts, of_training.forecasts, atol=2e-4, rtol=0)
        pd.testing.assert_frame_equal(of_file.table, of_training.table, rtol=1e-6)
    table = fa.backtest(of_training.forecasts, prices)
    pd.testing.assert_frame_equal(table.table, of_training.table)


def test_what_a_model_has_learned_from_is_no_evidence(prices: PricePanel, training: Training, file: Path) -> None:
    with pytest.raises(ForecastError, match=r"^start=.* has learned from sessions up to"):
        fa.backtest(training, prices, start=training.cutoff)
    with pytest.raises(ForecastError, match=r"^start is missing: linear\.onnx"):
        fa.backtest(file, prices)
    with pytest.raises(ForecastError, match="the panel ends on"):
        fa.backtest(training, prices.until(training.cutoff))


def test_a_training_on_features_that_are_not_there(prices: PricePanel, training: Training) -> None:
    strange = dataclasses.replace(training, feature_names=("vix_level", *training.feature_names[1:]))
    with pytest.raises(ForecastError, match=r"model_or_scores reads features .* vix_level"):
        fa.backtest(strange, prices)


def test_files_that_are_no_served_model(prices: PricePanel, tmp_path: Path) -> None:
    start, damaged, other = prices.sessions[680], tmp_path / "damaged.onnx", tmp_path / "other.onnx"
    damaged.write_bytes(b"no graph")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [value], [result])
    save(helper.make_model(nodes, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), other)
    for path, message in {
        tmp_path / "absent.onnx": "cannot be read",
        damaged: "not a model that onnxruntime opens",
        other: r"reads \{'x': \[\]\}, where bars",
    }.items():
        with pytest.raises(ForecastError, match=f"model_or_scores: .*{message}"):
            fa.backtest(path, prices, start=start)
