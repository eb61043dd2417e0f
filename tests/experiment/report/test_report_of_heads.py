"""The page's tables of both horizons and of the ranking, and what they say where an arm has no such head."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS
from financial_assets.experiment.report import html as report
from tests.experiment.builders import CHALLENGER, CHAMPION
from tests.experiment.decision.builders import evaluated
from tests.experiment.evaluation.builders import EPOCH, evidence

FURTHER = [*QUANTILE_5D_COLUMNS, "excess_return"]


def judged(days: int, tickers: int, *earlier: str) -> Evaluation:
    prices, routed, direct, baselines = evidence({CHAMPION: 0.5, CHALLENGER: 0.6}, days=days, tickers=tickers)
    direct.loc[direct["model"].isin(earlier), FURTHER] = np.nan
    return evaluated(routed=routed, direct=direct, epochs=[EPOCH], panel=prices, baselines=baselines)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.charts, "svg", lambda evaluation, name: "<svg></svg>")


def table_of(page: str, name: str) -> list[list[str]]:
    (body,) = re.findall(rf'<caption id="table-{name}">.*?<tbody>(.*?)</tbody>', page, re.S)
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    return [[re.sub(r"<[^>]+>|&nbsp;", " ", cell).strip() for cell in re.split(r"</t[hd]>", row)[:-1]] for row in rows]


def test_an_earlier_champion_beside_a_challenger_with_all_heads() -> None:
    evaluation = judged(80, 20, CHAMPION)
    page = report.html(evaluation)
    rows = table_of(page, "var-coverage")
    assert [row[0] for row in rows] == [CHAMPION] * 4 + [CHALLENGER] * 8
    assert rows[0][1] == "VaR 95 %, 1 session"
    assert rows[8][1] == "VaR 95 %, 5 sessions"
    for row, tail in zip(rows, evaluation.coverage, strict=True):
        assert tail.share is not None
        assert row[2:4] == [str(tail.sessions), f"{tail.rows:,}"]
        shown = f"{100 * tail.share.estimate:.1f} {100 * tail.share.low:.1f} to {100 * tail.share.high:.1f}"
        assert row[6].split() == shown.split()
    assert f"{CHAMPION} says nothing about five sessions" in page
    ((name, role, sessions, _, mean, _, _),) = table_of(page, "ranking")
    assert (name, role) == (CHALLENGER, "challenger")
    assert int(sessions) > 70
    assert mean.startswith("+0.")


def test_all_arms_of_an_earlier_version_are_named_and_nothing_is_ranked() -> None:
    page = report.html(judged(80, 20, CHAMPION, CHALLENGER))
    assert f"{CHAMPION} and {CHALLENGER} say nothing about five sessions" in page
    assert len(table_of(page, "var-coverage")) == 8
    assert 'id="ranking"' not in page


def test_young_and_small_universes_say_what_is_needed() -> None:
    page = report.html(judged(20, 3))
    assert page.count("<td>40 sessions are needed</td>") == 8
    assert "say nothing about five sessions" not in page
    assert 'id="ranking"' not in page


def test_the_json_beside_the_page_has_each_sessions_coefficient() -> None:
    evaluation = judged(40, 20)
    found = json.loads(evaluation.to_json())
    assert [arm["model"] for arm in found["rankings"]] == [CHAMPION, CHALLENGER]
    for arm in found["rankings"]:
        assert len(arm["sessions"]) == len(arm["coefficients"]) == arm["skill"]["sessions"]
    assert {tail["horizon"] for tail in found["coverage"]} == {1, 5}
