"""Back-tests of the forecast value at risk on series whose exceedances are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.evaluation.var_backtest import (
    FAMILY_ALPHA,
    TailBackTest,
    backtest_arm,
    backtest_arms,
    summary,
)
from financial_assets.experiment.report import html as report
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.evaluation.builders import judge

FORECAST = {"q01": -0.03, "q05": -0.02, "q95": 0.02, "q99": 0.03}


def series(
    ticker: str, sessions: int, *, deep: int = 0, low: int = 0, high: int = 0, far: int = 0, together: bool = False
) -> pd.DataFrame:
    """Sessions of which ``deep`` are below the 1 % quantile, ``low`` below the 5 % one, these included; so upwards."""
    returns = np.zeros(sessions)
    kinds = [-0.04] * deep + [-0.025] * (low - deep) + [0.04] * far + [0.025] * (high - far)
    places = np.arange(len(kinds)) if together else np.linspace(1, sessions - 2, len(kinds)).astype(int)
    returns[places] = np.random.default_rng(1).permutation(kinds) if not together else kinds
    days = pd.bdate_range("2010-01-04", periods=sessions)
    return pd.DataFrame({"session": days, "ticker": ticker, "log_return": returns, **FORECAST})


def tail(found: tuple[TailBackTest, ...], ticker: str, side: str, level: float) -> TailBackTest:
    (one,) = (t for t in found if (t.ticker, t.side, t.level) == (ticker, side, level))
    return one


def test_the_figures_of_a_known_example() -> None:
    """26 and 29 of 500 below the 5 % quantile, 3 below the 1 % one: Kupiec (1995) gives p = 0.84, 0.42 and 0.33."""
    rows = pd.concat(
        [series("AAPL", 500, deep=3, low=26, far=2, high=27), series("MSFT", 500, deep=3, low=29, far=7, high=24)]
    )
    found = backtest_arm(CHAMPION, "champion", rows.sample(frac=1, random_state=0))
    counts = {(t.ticker, t.side, t.level): (t.beyond, round(t.expected, 6)) for t in found}
    assert counts == {
        ("AAPL", "lower", 0.95): (26, 25.0),
        ("AAPL", "lower", 0.99): (3, 5.0),
        ("AAPL", "upper", 0.95): (27, 25.0),
        ("AAPL", "upper", 0.99): (2, 5.0),
        ("MSFT", "lower", 0.95): (29, 25.0),
        ("MSFT", "lower", 0.99): (3, 5.0),
        ("MSFT", "upper", 0.95): (24, 25.0),
        ("MSFT", "upper", 0.99): (7, 5.0),
    }
    p_values = [tail(found, name, "lower", level).kupiec for name in ("AAPL", "MSFT") for level in (0.95, 0.99)]
    assert [round(p, 2) for p in p_values if p is not None] == [0.84, 0.33, 0.42, 0.33]
    said = tail(found, "AAPL", "lower", 0.95).sentence
    assert said.startswith("26 of 500 sessions beyond it (25 expected; Kupiec p = 0.84, independence p = ")
    assert {t.verdict for t in found} == {"fine"}
    assert summary(found) == "No tail is rejected of 8 at a family level of 1 % (Holm)."


@pytest.mark.parametrize(
    ("rows", "side", "verdict"),
    [
        (series("A", 500, low=60, high=25), "lower", "too many"),
        (series("A", 500, low=25, high=60), "upper", "too many"),
        (series("A", 500, low=0, high=25), "lower", "too few"),
        (series("A", 500, low=25, together=True), "lower", "in clusters"),
    ],
)
def test_what_is_wrong_with_a_tail_is_said(rows: pd.DataFrame, side: str, verdict: str) -> None:
    found = backtest_arm(CHAMPION, "champion", rows)
    wrong = tail(found, "A", side, 0.95)
    assert (wrong.verdict, wrong.failed) == (verdict, True)
    assert f"A, {wrong.name}: {verdict}, {wrong.beyond} of 500 sessions beyond it" in summary(found)


def test_a_wrong_tail_of_one_side_is_not_hidden_by_the_other() -> None:
    """Two-sided coverage is 90 % here, and the left tail twice as heavy as promised."""
    found = backtest_arm(CHAMPION, "champion", series("A", 500, low=50, high=0))
    assert [tail(found, "A", side, 0.95).verdict for side in ("lower", "upper")] == ["too many", "too few"]


def test_p_values_count_all_tests_of_an_arm() -> None:
    """What would be striking for one ticker is expected of one among twenty."""
    striking = series("A", 500, low=39, high=25, deep=5, far=5)
    alone = tail(backtest_arm(CHAMPION, "champion", striking), "A", "lower", 0.95)
    calm = [series(f"B{n}", 500, low=25, high=25, deep=5, far=5) for n in range(19)]
    among = tail(backtest_arm(CHAMPION, "champion", pd.concat([striking, *calm])), "A", "lower", 0.95)
    assert alone.kupiec == among.kupiec
    assert alone.kupiec is not None
    assert among.kupiec_holm is not None
    assert alone.kupiec < FAMILY_ALPHA < among.kupiec_holm
    assert not among.failed


@pytest.mark.parametrize(
    ("sessions", "tested"), [(1, set()), (49, set()), (50, {0.95}), (249, {0.95}), (250, {0.95, 0.99})]
)
def test_too_few_sessions_are_said_to_be_too_few(sessions: int, tested: set[float]) -> None:
    usual = sessions // 20
    found = backtest_arm(CHAMPION, "champion", series("A", sessions, low=usual, high=usual))
    assert {t.level for t in found if t.kupiec is not None} == tested
    assert not any(t.failed for t in found)
    assert ("Too few sessions for a back-test" in summary(found)) == (not tested)
    if 0.99 not in tested:
        assert tail(found, "A", "lower", 0.99).verdict == "250 sessions are needed"
    assert backtest_arm(CHAMPION, "champion", series("A", 5).iloc[:0]) == ()
    assert "0 have a known outcome, 50 are needed" in summary(())


def test_a_report_shows_every_arm_and_tells_it_from_the_strategys_risk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.charts, "svg", lambda evaluation, name: "<svg></svg>")
    evaluation = judge({CHAMPION: 0.5, CHALLENGER: 0.5}, days=60, tickers=2)
    assert [t.model for t in evaluation.backtests] == [CHAMPION] * 8 + [CHALLENGER] * 8
    page = report.html(evaluation)
    assert page.count("VaR 99 % of a short position</td>") == 4
    assert "historical VaR 95 %, per session" in page
    assert "VaR 95 %, a day" not in page
    assert '"backtests"' in evaluation.to_json()
    rows = {CHAMPION: series("A", 60)}
    assert backtest_arms(rows, {CHALLENGER: "challenger", CHAMPION: "champion"})[0].role == "champion"
