"""The page of results: comparisons say what their intervals carry, and the same forecasts make the same page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.results import judging, sentences, tables
from benchmarks.results.__main__ import PLANS, main
from benchmarks.results.judging import Comparison
from benchmarks.results.page import HOW_TO_READ
from benchmarks.results.walks import DEFAULT_VARIANTS, walk_over
from benchmarks.results.worlds import sample_world, world_of_files
from financial_assets.errors import ForecastError, SourceError
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.scoring.intervals import Interval
from tests.models.walk_forward.tables import model, world

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"


def forecasts(deviations: dict[str, float], sessions: int = 120, seed: int = 0) -> pd.DataFrame:
    """Normal quantiles with some deviations; that of the returns is 1 %."""
    of = world(sessions=sessions, seed=seed)
    tables_ = [model(of, name, deviation=deviation, probability=0.5) for name, deviation in deviations.items()]
    return pd.concat(tables_, ignore_index=True)


def variances(of: pd.DataFrame) -> pd.DataFrame:
    rows = of[["date", "ticker"]].drop_duplicates(ignore_index=True)
    # As of ranges: right on average, and of some noise.
    noise = np.random.default_rng(1).gamma(10, 0.1, len(rows))
    return rows.assign(variance=1e-4 * noise, variance_5d=5e-4 * noise)


def compared(deviations: dict[str, float], variants: list[str]) -> dict[tuple[str, str, str], Comparison]:
    of = forecasts(deviations)
    found = judging.risk_comparisons(of, variances(of), variants)
    return {(one.head, one.loss, one.rival): one for one in found}


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 100, 400, 0.99)


def test_who_knows_the_volatility_beats_who_does_not_and_is_beaten_by_who_knows_it_better():
    found = compared({"good": 0.0105, "poor": 0.02, "ewma": 0.016, "historical": 0.006, "har": 0.01}, ["good", "poor"])
    assert {one.best for one in found.values()} == {"good"}
    assert {key: one.verdict for key, one in found.items() if key[:2] == ("return_quantiles", "QLIKE")} == {
        ("return_quantiles", "QLIKE", "ewma"): "better",
        ("return_quantiles", "QLIKE", "historical"): "better",
        ("return_quantiles", "QLIKE", "har"): "worse",
    }
    assert found["return_quantiles", "pinball", "ewma"].gain.low > 0
    assert found["return_quantiles_5d", "QLIKE", "historical"].verdict == "better"


def test_equals_are_not_told_apart_and_a_choice_among_more_widens_the_interval():
    one = compared({"good": 0.0101, "ewma": 0.0103}, ["good"])
    several = compared({"good": 0.0101, "other": 0.02, "third": 0.03, "ewma": 0.0103}, ["good", "other", "third"])
    key = "return_quantiles", "pinball", "ewma"
    assert one[key].verdict == several[key].verdict == "not told apart"
    assert one[key].gain.estimate == several[key].gain.estimate
    assert several[key].gain.low < one[key].gain.low
    assert (one[key].gain.level, several[key].gain.level) == (0.95, pytest.approx(1 - 0.05 / 3))


def test_a_variant_without_the_head_is_no_silent_gap():
    of = forecasts({"good": 0.01, "ewma": 0.01})
    with pytest.raises(ForecastError, match=r"absent has no forecasts of return_quantiles"):
        judging.risk_comparisons(of, variances(of), ["good", "absent"])


def test_a_value_at_risk_that_does_not_hold_is_named():
    found = judging.coverages(forecasts({"right": 0.01, "narrow": 0.004}, sessions=200, seed=1))
    holds = {(one.model, one.head, one.promised): one.holds for one in found}
    assert all(held for key, held in holds.items() if key[0] == "right")
    assert not any(held for key, held in holds.items() if key[0] == "narrow")
    assert "all 4 tests" in sentences.coverage_sentence(found, "right")
    said = sentences.coverage_sentence(found, "narrow")
    assert "4 of 4 are off" in said
    assert "5% over one session" in said
    lines = tables.coverage_lines(found, ["right", "narrow"], "return_quantiles")
    assert ["**" in line for line in lines[2:]] == [False, True]
    assert "too few sessions" in sentences.coverage_sentence(found, "nobody")


def test_a_score_that_ranks_is_found_and_noise_is_not():
    of = world(signal=0.3)
    noise = np.random.default_rng(5).normal(size=len(of))
    ranked = pd.concat([model(of, "knows", score=of["known"].to_numpy()), model(of, "guesses", score=noise)])
    best = judging.best_ranking(ranked, ["guesses", "knows"])
    assert best is not None
    assert best[0] == "knows"
    assert "ranks the universe (" in sentences.ranking_sentence(best, 12)
    alone = judging.best_ranking(ranked, ["guesses"])
    assert "no variant is shown to rank" in sentences.ranking_sentence(alone, 12)
    few = world(tickers=4)
    assert judging.best_ranking(model(few, "knows", score=few["known"].to_numpy()), ["knows"]) is None


@pytest.mark.parametrize(
    ("bounds", "risk", "direction"),
    [
        ((0.1, 0.2), "beats `ewma`", "better than the share of rises"),
        ((-0.2, -0.1), "loses to `ewma`", "worse than a constant"),
        ((-0.1, 0.2), "is not distinguishable from `ewma`", "no variant is shown to know the direction"),
        ((0.0, 0.2), "is not distinguishable from `ewma`", "no variant is shown to know the direction"),
    ],
)
def test_a_sentence_claims_what_its_interval_carries(bounds: tuple[float, float], risk: str, direction: str):
    of_risk = Comparison("return_quantiles", "QLIKE", "mine", "ewma", interval(*bounds), 3)
    of_direction = Comparison("direction", "log loss", "mine", "majority", interval(*bounds), 3)
    assert risk in sentences.risk_sentences([of_risk])[0]
    assert direction in sentences.direction_sentences([of_direction])[0]
    rule = Comparison("direction", "log loss", "mine", "ewma", interval(*bounds), 3)
    assert risk in sentences.direction_sentences([of_direction, rule])[1]


def test_a_ranking_the_wrong_way_round_is_said():
    assert "wrong way round" in sentences.ranking_sentence(("mine", interval(-0.2, -0.1)), 30)


def test_prices_of_ones_own_make_the_same_page_again_from_kept_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    prices = tmp_path / "mine.parquet"
    source = SimulatedPrices(SimulatedMarket(sessions=600, signal_strength=0.0))
    source.fetch(["A", "B", "C"]).prices.to_parquet(prices, index=False)
    command = ["--prices", str(prices), "--tickers", "A,B", "--variants", "linear", "--splits", "1"]
    command += ["--test-sessions", "30", "--folder", str(tmp_path / "folds"), "--output", str(tmp_path / "page.md")]
    assert main(command) == 0
    first = (tmp_path / "page.md").read_text()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").rglob("*.parquet")}
    assert len(kept) == 2
    assert main(command) == 0
    assert (tmp_path / "page.md").read_text() == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert str(tmp_path) not in first
    assert "2 tickers, 600 sessions" in first
    assert "| linear |" in first
    assert "| har |" in first
    assert capsys.readouterr().err.count("fold-1") == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--variants", "oracle"], "VARIANTS: got oracle"),
        (["--prices", "missing.parquet"], "missing"),
        (["--splits", "0"], "WALK_FORWARD_SPLITS must be at least 1"),
        (["--splits", "500"], "set WALK_FORWARD_SPLITS to at most"),
    ],
)
def test_what_cannot_be_done_ends_with_a_message_and_no_page(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*given, "--folder", str(tmp_path / "folds"), "--output", str(tmp_path / "page.md")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_half_a_universe_is_not_judged_in_place_of_the_whole(tmp_path: Path):
    prices = tmp_path / "mine.parquet"
    SimulatedPrices(SimulatedMarket(sessions=600)).fetch(["A"]).prices.to_parquet(prices, index=False)
    with pytest.raises(SourceError, match="B"):
        world_of_files(prices, ["A", "B"])


def test_the_page_of_the_manual_is_what_the_command_writes(tmp_path: Path):
    """All but the scores, which take long to make again."""
    page, makefile = PAGE.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text()
    assert "Written by `make results`" in page
    assert "RESULTS ?= --output docs/results.md" in makefile
    assert HOW_TO_READ in page, "run: make results"
    sample = sample_world()
    walk = walk_over(sample, PLANS["sample"], folder=tmp_path)
    assert sample.description in page, "run: make results"
    assert "\n".join(tables.fold_lines(walk)) in page, "run: make results"
    missing = [name for name in (*DEFAULT_VARIANTS, "har", "majority", "trees") if f"| {name} |" not in page]
    assert missing == [], "run: make results"
