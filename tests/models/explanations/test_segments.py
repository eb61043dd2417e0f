from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import TrainingError
from financial_assets.market.universe import Membership, Universe
from financial_assets.models.explanations.segments import SCORES, group_labels, row_scores, view_segments
from financial_assets.scoring.intervals import day_clustered_difference
from tests.models.conftest import walk

PANEL = walk(count=900, tickers=4)
NORMAL = np.array([-2.3263, -1.6449, 0.0, 1.6449, 2.3263])


def forecasts(seed: int = 0, days: int = 400) -> pd.DataFrame:
    """Calibrated answers without skill on the last days of the panel."""
    rng = np.random.default_rng(seed)
    sessions = PANEL.sessions[-days:]
    rows = pd.DataFrame({"date": np.repeat(sessions, 4), "ticker": list(PANEL.tickers) * days})
    rows["volatility"] = rng.uniform(0.005, 0.03, len(rows))
    rows["probability_up"] = rng.uniform(0.45, 0.55, len(rows))
    rows["outcome"] = rng.normal(0.0, 1.0, len(rows)) * rows["volatility"]
    rows[["q01", "q05", "q50", "q95", "q99"]] = NORMAL * rows[["volatility"]].to_numpy()
    return rows


def sectors(**by_ticker: str) -> Universe:
    return Universe(tuple(Membership(ticker=name, sector=sector) for name, sector in by_ticker.items()))


def test_every_dimension_is_there_and_sectors_only_if_known() -> None:
    rows = forecasts()
    found = {segment.dimension for segment in view_segments(rows, group_labels(rows, PANEL)).segments}
    assert found == {"market volatility", "market trend", "weekday", "stock volatility"}
    universe = sectors(T0="energy", T1="energy", T2="tech", T3="tech")
    with_sectors = view_segments(rows, group_labels(rows, PANEL, universe)).segments
    assert [s.value for s in with_sectors if s.dimension == "sector"] == ["energy", "tech"]
    assert "sector" not in group_labels(rows, PANEL, sectors(T0="", T1=""))


def test_groups_of_a_dimension_hold_every_known_row_once() -> None:
    rows = forecasts()
    view = view_segments(rows, group_labels(rows, PANEL))
    for dimension in ("weekday", "stock volatility"):
        assert sum(segment.rows for segment in view.segments if segment.dimension == dimension) == len(rows)


def test_a_planted_weak_sector_stands_out_and_noise_does_not() -> None:
    rows = forecasts()
    labels = group_labels(rows, PANEL, sectors(T0="energy", T1="energy", T2="tech", T3="tech"))
    clean = view_segments(rows, labels)
    assert not any(segment.stands_out for segment in clean.segments)
    assert "None differs from the rest" in clean.caution
    # Its outcomes are three times as wide as it is told, and it is sure of the wrong direction.
    weak = rows["ticker"].isin(["T2", "T3"])
    rows.loc[weak, "outcome"] *= 3
    rows.loc[weak, "probability_up"] = np.where(rows.loc[weak, "outcome"] > 0, 0.3, 0.7)
    found = view_segments(rows, labels)
    (tech,) = (segment for segment in found.segments if segment.value == "tech")
    assert set(tech.stands_out) == set(SCORES)
    assert tech.difference["log_loss"].low > 0
    assert tech.difference["accuracy"].high < 0
    assert "sector energy, sector tech differ" in found.caution
    assert "not planned beforehand" in found.caution


def test_simultaneous_intervals_are_wider_and_rarely_all_wrong() -> None:
    """In worlds without any difference, at most one view in twenty may show one; without the allowance most do."""
    alarms, single = 0, 0
    for seed in range(40):
        rows = forecasts(seed, days=200)
        labels = {name: group_labels(rows, PANEL)[name] for name in ("weekday", "stock volatility")}
        alarms += any(segment.stands_out for segment in view_segments(rows, labels).segments)
        scores, days = row_scores(rows), rows["date"].to_numpy()
        single += any(
            not day_clustered_difference(score[inside], days[inside], score[~inside], days[~inside]).spans_zero
            for known, values in labels.values()
            for inside in (known == value for value in values if (known == value).any())
            for score in scores.values()
        )
    assert alarms <= 6
    assert single > 2 * alarms + 4


def test_a_group_of_few_days_is_named_and_left_out() -> None:
    rows = forecasts(days=60)
    view = view_segments(rows, group_labels(rows, PANEL))
    assert "weekday: Monday" in view.left_out
    assert not any(segment.dimension == "weekday" for segment in view.segments)


def test_rows_that_are_not_settled_are_left_out() -> None:
    rows = forecasts()
    rows.loc[rows["date"] == rows["date"].max(), "outcome"] = np.nan
    view = view_segments(rows, group_labels(rows, PANEL))
    assert sum(segment.rows for segment in view.segments if segment.dimension == "stock volatility") == len(rows) - 4
    with pytest.raises(TrainingError, match="no outcome is settled"):
        view_segments(rows.assign(outcome=np.nan), group_labels(rows, PANEL))


def test_scores_of_a_row() -> None:
    rows = pd.DataFrame({"outcome": [0.02, -0.01], "probability_up": [0.6, 0.6], "volatility": [0.01, 0.01]}).assign(
        q01=-0.02, q05=-0.01, q50=0.0, q95=0.01, q99=0.02
    )
    found = row_scores(rows)
    assert found["log_loss"] == pytest.approx([-np.log(0.6), -np.log(0.4)])
    assert found["accuracy"].tolist() == [1.0, 0.0]
    pinball = np.mean([0.01 * 4, 0.05 * 3, 0.5 * 2, 0.95 * 1, 0.0])
    assert found["pinball"][0] == pytest.approx(pinball)


def test_a_sector_counts_from_the_day_of_its_membership() -> None:
    rows = forecasts()
    middle = rows["date"].iloc[len(rows) // 2].date()
    universe = Universe(
        (
            Membership(ticker="T0", last=middle, sector="energy"),
            Membership(ticker="T0", first=middle + dt.timedelta(days=1), sector="tech"),
        )
    )
    found, order = group_labels(rows, PANEL, universe)["sector"]
    own = (rows["ticker"] == "T0").to_numpy()
    assert order == ("energy", "tech")
    assert set(found[own & (rows["date"].dt.date <= middle).to_numpy()]) == {"energy"}
    assert set(found[own & (rows["date"].dt.date > middle).to_numpy()]) == {"tech"}
    assert set(found[~own]) == {None}
