"""Models on the same rows: the better one is found, luck is not taken for skill, errors name the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import financial_assets as fa
from financial_assets.errors import ForecastError
from financial_assets.models.forecasts import QUANTILES, QUANTILES_5D, outcomes_of, with_outcomes
from financial_assets.models.walk_forward.scores import score_table
from financial_assets.research import ModelComparison
from financial_assets.scoring.comparison import diebold_mariano
from tests.models.walk_forward.tables import NORMAL
from tests.research.conftest import World


def forecasts(world: World, name: str, *, weight: float = 0.0, deviation: float = 1.0) -> pd.DataFrame:
    """A probability that leans to what can be known, and normal quantiles as wide as so many volatilities."""
    rows = world.skill.stack().rename_axis(["date", "ticker"]).rename("known").reset_index()
    panel = world.panel
    at = [panel.tickers.index(name) for name in rows["ticker"]], panel.sessions.get_indexer(pd.Index(rows["date"]))
    unit = deviation * outcomes_of(panel)["volatility"][at]
    heads = {q: unit * z for q, z in zip(QUANTILES, NORMAL, strict=True)}
    heads |= {q: unit * 5**0.5 * z for q, z in zip(QUANTILES_5D, NORMAL, strict=True)}
    said = {"probability_up": 0.5 + weight * np.tanh(rows["known"]), "score": weight * rows["known"]}
    return with_outcomes(rows.drop(columns="known").assign(model=name, **said, **heads), panel)


@pytest.fixture(scope="module")
def direction(world: World) -> ModelComparison:
    models = [
        forecasts(world, "coin"),
        forecasts(world, "skilled", weight=0.12),
        forecasts(world, "wrong", weight=-0.1),
    ]
    return fa.compare_models(models, world.panel)


def test_the_skilled_model_is_found(direction: ModelComparison) -> None:
    assert direction.table["model"].tolist() == ["skilled", "coin", "wrong"]
    assert direction.table["may_be_best"].tolist() == [True, False, False]
    pairs = direction.pairs.set_index(["model", "rival"])
    assert set(pairs.index) == {("coin", "skilled"), ("coin", "wrong"), ("skilled", "wrong")}
    assert pairs.loc[("coin", "skilled"), "low"] > 0
    assert pairs.loc[("skilled", "wrong"), "high"] < 0
    assert (pairs["p_value"] < 0.05).all()
    assert "skilled has the best" in direction.sentence
    assert "holds no other model" in direction.sentence


def test_luck_is_not_skill(world: World) -> None:
    rng = np.random.default_rng(1)
    tables = [forecasts(world, name) for name in ("one", "two")]
    for table in tables:
        table["probability_up"] = 0.5 + 0.02 * rng.standard_normal(len(table)).clip(-3, 3)
    found = fa.compare_models(tables, world.panel)
    assert found.table["may_be_best"].all()
    assert "none of them has been shown to be best" in found.sentence


def test_models_that_agree_are_not_told_apart(world: World) -> None:
    found = fa.compare_models([forecasts(world, "one"), forecasts(world, "two")], world.panel)
    assert "no two of the models differ" in found.sentence
    assert found.table["may_be_best"].all()
    assert found.pairs["p_value"].tolist() == [1.0]
    found.plot()


def test_every_form_gives_the_same(direction: ModelComparison, world: World) -> None:
    tables = {"coin": forecasts(world, "a"), "skilled": forecasts(world, "a", weight=0.12)}
    tables["wrong"] = forecasts(world, "a", weight=-0.1)
    joined = pd.concat([table.assign(model=name) for name, table in tables.items()])
    bare = {name: table[["date", "ticker", "probability_up"]] for name, table in tables.items()}
    for models in (tables, joined, [joined[joined["model"] != "coin"], joined[joined["model"] == "coin"]], bare):
        found = fa.compare_models(models, world.panel)  # type: ignore[arg-type]
        for name in ("table", "pairs", "confidence_set", "coverage"):
            pd.testing.assert_frame_equal(getattr(found, name), getattr(direction, name))


def test_scores_are_those_of_the_walk_forward_on_the_common_rows(direction: ModelComparison, world: World) -> None:
    coin, skilled = forecasts(world, "coin"), forecasts(world, "skilled", weight=0.12)
    fewer = skilled[(skilled["date"] >= "2001-10-01") & (skilled["ticker"] != "T3")]
    found = fa.compare_models([coin, fewer], world.panel)
    whole = coin[(coin["date"] >= "2001-10-01") & (coin["ticker"] != "T3")]
    own = score_table(whole)
    own = own[(own["fold"] == "all") & (own["head"] == "direction")].reset_index(drop=True)
    of_coin = found.scores[found.scores["model"] == "coin"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_coin, own)
    assert not of_coin.equals(direction.scores[direction.scores["model"] == "coin"].reset_index(drop=True))


def test_rankings(world: World) -> None:
    models = {"skill": world.skill, "luck": world.luck, "again": world.skill * 3.0}
    found = fa.compare_models(models, world.panel, question="ranking")
    table = found.table.set_index("model")
    assert table.loc["skill", "low"] > 0
    assert table.loc["luck", "low"] < 0 < table.loc["luck", "high"]
    assert table["may_be_best"].to_dict() == {"skill": True, "again": True, "luck": False}
    assert found.table["model"].tolist()[-1] == "luck"
    pairs = found.pairs.set_index(["model", "rival"])
    # The loss is minus the rank correlation of a session, and its test that of Diebold and Mariano.
    ic = {name: float(table.loc[name, "estimate"]) for name in models}
    assert pairs.loc[("luck", "skill"), "difference"] == pytest.approx(ic["skill"] - ic["luck"])
    assert pairs.loc[("luck", "skill"), "low"] > 0
    assert pairs.loc[("again", "skill"), "p_value"] == 1.0


def test_the_pairs_of_rankings_by_hand(world: World) -> None:
    found = fa.compare_models({"a": world.luck, "b": world.skill}, world.panel, question="ranking").pairs.iloc[0]
    known = outcomes_of(world.panel)
    actual = pd.DataFrame(
        (known["excess"] / known["volatility"]).T, index=world.panel.sessions, columns=list(world.panel.tickers)
    )
    actual = actual.loc[world.skill.index].dropna(how="all")
    daily = [frame.loc[actual.index].corrwith(actual, axis=1, method="spearman") for frame in (world.luck, world.skill)]
    own = diebold_mariano(-daily[0], -daily[1], actual.index)
    assert found["difference"] == pytest.approx(own.difference.estimate)
    assert found["p_value"] == pytest.approx(own.p_value)


def test_risk(world: World) -> None:
    models = [forecasts(world, "fair"), forecasts(world, "narrow", deviation=0.5)]
    found = fa.compare_models(models, world.panel, question="risk")
    assert found.table["head"].tolist() == ["return_quantiles"] * 2 + ["return_quantiles_5d"] * 2
    assert found.table["model"].tolist() == ["fair", "narrow"] * 2
    universe = found.coverage[(found.coverage["ticker"] == "(universe)") & (found.coverage["promised"] == 0.05)]
    shares = universe[universe["head"] == "return_quantiles"].groupby("model")["share"].mean()
    assert shares["fair"] == pytest.approx(0.05, abs=0.02)
    assert shares["narrow"] > 0.15
    assert found.pairs["loss"].unique().tolist() == ["pinball_normalised", "fz_lower_5%"]
    page = found._repr_html_()
    assert "promised" in page
    assert "(universe)" not in page
    assert len(found.plot().axes) == 2


def test_it_plots_and_shows_itself(direction: ModelComparison) -> None:
    (axes,) = direction.plot().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["wrong", "coin", "skilled"]
    shown = np.asarray(axes.get_lines()[0].get_xdata())
    assert shown.tolist() == direction.table["estimate"].tolist()[::-1]
    page = direction._repr_html_()
    for text in (direction.sentence, "skilled", "difference", "Comparison: direction"):
        assert text in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "profit"}, "^question must be one of direction, ranking, risk"),
        ({"alpha": 0.0}, "^alpha must lie between 0 and 1"),
        ({"alpha": 1}, "^alpha must lie between 0 and 1"),
        ({"models": "linear"}, "^models must be two or more"),
        ({"models": []}, "^models must be two or more, not 0"),
        ({"start": "1999-01-01", "end": "1999-02-01"}, r"^models\[0\] has no forecast between"),
        ({"start": "2002-01-01", "end": "2002-01-04"}, "on 4 sessions only; at least 8 are needed"),
    ],
)
def test_bad_arguments_are_named(world: World, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"models": [forecasts(world, "a"), forecasts(world, "b")], **change}
    with pytest.raises(ForecastError, match=message):
        fa.compare_models(arguments.pop("models"), world.panel, **arguments)


def test_models_that_cannot_be_compared(world: World, small_world: World) -> None:
    with pytest.raises(ForecastError, match="several are called scores; give a mapping"):
        fa.compare_models([world.skill, world.luck], world.panel, question="ranking")
    with pytest.raises(ForecastError, match=r"^models\['b'\] must be a frame"):
        fa.compare_models({"a": world.skill, "b": 3}, world.panel)  # type: ignore[dict-item]
    with pytest.raises(ForecastError, match=r"models: a, b cannot answer question='direction'.*probability_up"):
        fa.compare_models({"a": world.skill, "b": world.luck}, world.panel)
    with pytest.raises(ForecastError, match=r"models: b cannot answer question='risk'.*q01 or q01_5d"):
        fa.compare_models(
            {"a": forecasts(world, "a"), "b": world.luck, "c": forecasts(world, "c")}, world.panel, question="risk"
        )
    with pytest.raises(ForecastError, match=r"at least 10 tickers .*; the median session has 3"):
        fa.compare_models({"a": small_world.skill, "b": small_world.luck}, small_world.panel, question="ranking")
    early, late = world.skill[:50], world.luck[50:]
    with pytest.raises(ForecastError, match="on 0 sessions only"):
        fa.compare_models({"a": early, "b": late}, world.panel, question="ranking")
