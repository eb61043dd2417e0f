from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel
from financial_assets.models.baselines import fitted as baselines
from financial_assets.models.baselines.fitted import (
    HISTORY,
    PREDICTION_COLUMNS,
    Baselines,
    fit_baselines,
    trailing_quantiles,
)
from financial_assets.models.baselines.risk import fit_har
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.risk.registry import fit_forecasters
from financial_assets.models.training_data import TrainingData, panel_volatility

QUANTILES, QUANTILES_5D = list(PREDICTION_COLUMNS[4:9]), list(PREDICTION_COLUMNS[9:14])
MODELS = ["ewma", "filtered", "har", "historical", "logistic", "majority", "momentum", "persistence", "reversal"]


@pytest.fixture(scope="module")
def fitted(features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, sequence_length: int) -> Baselines:
    return fit_baselines(features, panel, cutoff=cutoff, sequence_length=sequence_length)


def test_table_is_tidy_and_complete(fitted: Baselines, features: FeaturePanel, panel: PricePanel) -> None:
    later = panel.sessions[800:]
    table = fitted.predict(features, panel, later)
    assert list(table.columns) == list(PREDICTION_COLUMNS)
    assert not table.duplicated(["date", "ticker", "model"]).any()
    assert len(table) == len(later) * len(panel.tickers) * len(MODELS)
    assert table.equals(table.sort_values(["date", "ticker", "model"], ignore_index=True))
    assert sorted(table["model"].unique()) == MODELS
    answers = table.groupby("model")
    for name in ("logistic", "majority", "persistence"):
        assert answers.get_group(name)["probability_up"].between(0, 1).all()
        assert answers.get_group(name)[QUANTILES].isna().all(axis=None)
        assert answers.get_group(name)["excess_return"].isna().all()
    for name in ("ewma", "filtered", "har", "historical"):
        assert answers.get_group(name)["probability_up"].isna().all()
        assert (np.diff(answers.get_group(name)[QUANTILES].to_numpy(), axis=1) > 0).all()
    for name in ("ewma", "filtered", "har"):
        assert (np.diff(answers.get_group(name)[QUANTILES_5D].to_numpy(), axis=1) > 0).all()
    for name in ("reversal", "momentum"):
        assert answers.get_group(name)["excess_return"].notna().all()
        assert answers.get_group(name)[["probability_up", *QUANTILES, *QUANTILES_5D]].isna().all(axis=None)


def test_constants_come_from_the_fit_block(
    fitted: Baselines, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, sequence_length: int
) -> None:
    block = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length).blocks.fit
    today = np.diff(np.log(panel.values[:, 3].astype(float)), axis=1, prepend=np.nan)[:, block.start : block.stop]
    up = next_session_return(panel)[:, block.start : block.stop] > 0
    assert fitted.majority_up == pytest.approx(up.mean())
    assert fitted.up_after_up == pytest.approx(up[today > 0].mean())
    assert fitted.up_after_down == pytest.approx(up[today <= 0].mean())


def test_historical_quantiles_are_those_of_the_last_returns(
    fitted: Baselines, features: FeaturePanel, panel: PricePanel
) -> None:
    day = panel.sessions[700]
    row = fitted.predict(features, panel, pd.DatetimeIndex([day])).query("ticker == 'T1' and model == 'historical'")
    returns = np.diff(np.log(panel.values[1, 3].astype(float)))[700 - HISTORY : 700]
    assert len(returns) == HISTORY
    assert row[QUANTILES].to_numpy()[0] == pytest.approx(np.quantile(returns, [0.01, 0.05, 0.5, 0.95, 0.99]))


def test_risk_baselines_are_the_forecasters_of_risk(
    fitted: Baselines, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    bars, later = RiskBars.of(panel), panel.sessions[panel.sessions > cutoff][:5]
    forecasters = fit_forecasters(bars, cutoff, ["ewma", "har"])
    table = fitted.predict(features, panel, later)
    rows = np.nonzero(np.ones((len(later), len(panel.tickers))))
    at = rows[1], panel.sessions.get_indexer(later)[rows[0]]
    for name, forecaster in forecasters.items():
        own = table[table["model"] == name]
        for horizon, columns in ((1, QUANTILES), (5, QUANTILES_5D)):
            np.testing.assert_allclose(own[columns], forecaster.forecast(bars, horizon).quantiles[at], rtol=1e-12)
    filtered = table[table["model"] == "filtered"]
    assert 1.5 < np.median(filtered["q99_5d"] / filtered["q99"]) < 3.0


def test_ranks_are_past_moves_less_the_market_in_units_of_volatility(
    fitted: Baselines, features: FeaturePanel, panel: PricePanel
) -> None:
    day = panel.sessions[700]
    table = fitted.predict(features, panel, pd.DatetimeIndex([day])).set_index(["model", "ticker"])["excess_return"]
    close, market = np.log(panel.values[1, 3].astype(float)), np.log(panel.values[1, 5].astype(float))
    volatility = float(panel_volatility(panel)[1, 700])
    for name, back, sign in (("reversal", 1, -1), ("momentum", 20, 1)):
        move = close[700] - close[700 - back] - market[700] + market[700 - back]
        assert table[name, "T1"] == pytest.approx(sign * move / (volatility * back**0.5))


def test_baselines_of_before_answer_what_they_were_fitted_for(
    fitted: Baselines, features: FeaturePanel, panel: PricePanel, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "new.json")
    assert Baselines.load(tmp_path / "new.json") == fitted
    kept = json.loads((tmp_path / "new.json").read_text())
    for name in ("scaled_quantiles_5d", "har", "har_silent"):
        del kept[name]
    (tmp_path / "old.json").write_text(json.dumps(kept))
    day = panel.sessions[[700]]
    table = Baselines.load(tmp_path / "old.json").predict(features, panel, day)
    whole = fitted.predict(features, panel, day)
    assert set(whole["model"]) - set(table["model"]) == {"har"}
    assert set(Baselines.load(tmp_path / "old.json").silent) == {"har"}
    assert not fitted.silent
    same = [name for name in PREDICTION_COLUMNS if not name.endswith("_5d")]
    pd.testing.assert_frame_equal(table[same], whole[whole["model"] != "har"][same].reset_index(drop=True))


def test_a_history_too_short_for_the_regression_says_so(panel: PricePanel) -> None:
    short = panel.until(panel.sessions[300])
    assert fit_har(short, short.sessions[-1])[0] is None
    assert "INGESTION_START_DATE" in fit_har(short, short.sessions[-1])[1]


def test_trailing_quantiles_are_those_of_numpy_to_the_last_bit() -> None:
    returns = np.random.default_rng(1).standard_t(4, (2, HISTORY + 400)) * 0.01
    returns[0, :300], returns[1, 600:607] = np.nan, np.nan
    found = trailing_quantiles(returns)
    for session in (*range(300, 340), *range(HISTORY - 20, HISTORY + 400)):
        window = returns[:, max(session - HISTORY + 1, 0) : session + 1]
        expected = np.nanquantile(window, [0.01, 0.05, 0.5, 0.95, 0.99], axis=1).T
        assert np.array_equal(found[:, session], expected), session
    assert np.isnan(found[0, :300]).all()


@pytest.mark.parametrize("has_gaps", [False, True])
def test_a_few_sessions_have_the_quantiles_of_all_of_them_to_the_last_bit(
    fitted: Baselines, features: FeaturePanel, panel: PricePanel, has_gaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = panel.sessions[[300, 301, 420, 500, 501, 640, 799, -1]]
    if has_gaps:
        valid = panel.valid.copy()
        valid[0, 310:330] = valid[:, 650] = valid[1, 200:290] = False
        panel = replace(panel, valid=valid)
        features = replace(features, valid=features.valid & valid)
    every = fitted.predict(features, panel)

    def refuse(_returns: np.ndarray) -> np.ndarray:
        raise AssertionError("a window that slides over all sessions, for a few of them")

    monkeypatch.setattr(baselines, "trailing_quantiles", refuse)
    few = fitted.predict(features, panel, days)
    expected = every[every["date"].isin(days)].reset_index(drop=True)
    assert len(few) > len(days)
    pd.testing.assert_frame_equal(few, expected, check_exact=True)


def test_answers_do_not_depend_on_the_future(
    fitted: Baselines,
    features: FeaturePanel,
    panel: PricePanel,
    graph: FeatureGraph,
    cutoff: pd.Timestamp,
    sequence_length: int,
) -> None:
    at = panel.position(cutoff) + 1
    values = panel.values.copy()
    values[:, :6, at:] *= np.float32(1.9)
    changed = replace(panel, values=values)
    again = compute_panel(changed, graph)
    assert fit_baselines(again, changed, cutoff=cutoff, sequence_length=sequence_length) == fitted
    known = panel.sessions[at - 30 : at]
    pd.testing.assert_frame_equal(fitted.predict(again, changed, known), fitted.predict(features, panel, known))


def test_logistic_regression_and_persistence_learn_a_signal(
    make_persistent: Callable[..., PricePanel], graph: FeatureGraph, sequence_length: int
) -> None:
    market = make_persistent(3, tickers=3)
    features = compute_panel(market, graph)
    baselines = fit_baselines(features, market, cutoff=market.sessions[699], sequence_length=sequence_length)
    assert baselines.up_after_up > 0.65
    assert baselines.up_after_down < 0.35
    table = baselines.predict(features, market, market.sessions[700:-1])
    outcome = pd.DataFrame(next_session_return(market).T, index=market.sessions, columns=list(market.tickers))
    up = outcome.stack().gt(0).reindex(pd.MultiIndex.from_frame(table[["date", "ticker"]])).to_numpy()
    right = ((table["probability_up"] > 0.5) == up).groupby(table["model"]).mean()
    assert right["logistic"] > 0.65
    assert right["persistence"] > 0.65
    assert right["majority"] < 0.6


def test_saved_as_json_and_read_back_equal(fitted: Baselines, tmp_path: Path) -> None:
    fitted.save(tmp_path / "baselines.json")
    assert Baselines.load(tmp_path / "baselines.json") == fitted
    assert len(json.loads((tmp_path / "baselines.json").read_text())["coefficients"]) == len(fitted.feature_names)


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"majority_up": 0.5}', '{"colour": 1}'])
def test_a_file_that_holds_no_baselines_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "baselines.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TrainingError, match=r"baselines\.json holds no baselines"):
        Baselines.load(path)


def test_other_features_are_refused(fitted: Baselines, features: FeaturePanel, panel: PricePanel) -> None:
    renamed = replace(features, names=tuple(f"x_{name}" for name in features.names))
    with pytest.raises(TrainingError, match="other features"):
        fitted.predict(renamed, panel)


def test_one_direction_only_cannot_be_fitted(panel: PricePanel, graph: FeatureGraph, sequence_length: int) -> None:
    values = panel.values.copy()
    values[:, :4] = np.exp(np.arange(values.shape[2]) * 0.001, dtype=np.float32)
    rising = replace(panel, values=values)
    with pytest.raises(TrainingError, match="one direction only"):
        fit_baselines(compute_panel(rising, graph), rising, cutoff=rising.sessions[-1], sequence_length=sequence_length)
