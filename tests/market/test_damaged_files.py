"""Damaged files of prices give an error of ours or the true bars; ``benchmarks/price_files.py`` tries thousands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.vendor_files.forms import FORMS, true_prices
from benchmarks.vendor_files.trials import SESSIONS, TICKERS, Sample, judge, prepared, trial
from financial_assets.errors import FinancialAssetsError
from financial_assets.market.schemas import check_prices
from financial_assets.market.sources.files import FilePrices

PRICES = true_prices(np.random.default_rng(3), TICKERS, SESSIONS)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return prepared(tmp_path_factory.mktemp("forms"), np.random.default_rng(5), FORMS[::5])


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damage_never_ends_in_a_traceback_or_a_wrong_number(samples: list[Sample], tmp_path: Path, seed: int) -> None:
    outcome = trial(samples, tmp_path / "trial", np.random.default_rng(seed))
    assert not outcome.is_failure, outcome


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "date",
        "Ticker",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "Adj Close",
        "2020-01-02",
        "01/02/20",
        "1.234",
        "1,5",
        "",
    ]
)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=9), max_size=6), separator=st.sampled_from(",;\t|"))
def test_any_text_is_read_or_refused(tmp_path: Path, rows: list[list[str]], separator: str) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_bytes("\n".join(separator.join(row) for row in rows).encode())
    refusal = ""
    try:
        check_prices(FilePrices(str(path)).fetch(["AAPL"]).prices)
    except FinancialAssetsError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) <= 5


def test_the_judge_sees_what_it_must() -> None:
    def kind(delivered: pd.DataFrame, *refused: str) -> str:
        return judge(delivered, PRICES, set(refused), loses_rows=False)[0]

    assert kind(PRICES) == "true bars"
    assert kind(PRICES.assign(close=PRICES["close"] * 10)) == "wrong"
    assert kind(PRICES.assign(date=PRICES["date"] + pd.Timedelta(days=1))) == "wrong"
    assert kind(PRICES.drop(index=3)) == "hole"
    assert kind(PRICES[PRICES["ticker"] == "AAPL"]) == "hole"
    assert kind(PRICES[PRICES["ticker"] == "AAPL"], "MSFT") == "one ticker refused"
    assert kind(PRICES.assign(close=PRICES["close"].where(PRICES.index != 3))) == "left to checks"
