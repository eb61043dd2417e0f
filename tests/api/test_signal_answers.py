"""Signals over HTTP: what is stored is what is answered, and what cannot be answered says why and what makes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.desk.home import make_home, write_signals
from financial_assets.api.schemas.signals import Signal, Signals
from financial_assets.installation import Installation, open_installation
from financial_assets.portfolio.trade_edge import RULE
from financial_assets.serving.signal_files import read_signals
from financial_assets.settings import load_settings
from tests.api.local_client import LocalClient

Open = Callable[..., LocalClient]


@pytest.fixture
def own_home(home: Path, tmp_path: Path) -> Installation:
    """A copy that a test may change."""
    shutil.copytree(home, tmp_path / "home")
    return open_installation(load_settings(financial_assets_home=tmp_path / "home"))


def stored(installation: Installation) -> pd.DataFrame:
    found = read_signals(installation.market.folder / "signals", installation.market.clock().now())
    assert found is not None
    return found.set_index("ticker")


def error(answer: object) -> dict[str, object]:
    found: dict[str, object] = answer.json()["error"]  # type: ignore[attr-defined]
    assert set(found) == {"code", "message", "fix", "request_id", "problems"}
    assert found["fix"]
    return found


def test_every_value_of_a_signal_is_that_of_the_stored_file(client: LocalClient, installation: Installation) -> None:
    rows = stored(installation)
    for ticker, row in rows.iterrows():
        answer = client.get(f"/v1/signals/{ticker}")
        assert answer.status_code == 200
        signal = Signal.model_validate(answer.json())
        assert (signal.ticker, signal.model, signal.version) == (ticker, row["model"], row["version"])
        assert signal.as_of == row["as_of"].date()
        assert (signal.target_session, signal.target_session_5d) == (
            row["target_session"].date(),
            row["target_session_5d"].date(),
        )
        assert (signal.probability_up, signal.score, signal.rank) == (row["probability_up"], row["score"], row["rank"])
        assert signal.ranked == len(rows)
        assert signal.expected_range.low == pytest.approx(row["expected_low"])
        assert signal.expected_range.high == pytest.approx(row["expected_high"])
        assert signal.expected_range_5d is not None
        assert signal.expected_range_5d.high == pytest.approx(row["expected_high_5d"])
        assert signal.long.one_session.var_95 == pytest.approx(row["var_95"])
        assert signal.long.one_session.var_99 == pytest.approx(row["var_99"])
        assert signal.long.one_session.es_95 == pytest.approx(row["es_95"])
        assert signal.long.five_sessions is not None
        assert signal.long.five_sessions.es_95 == pytest.approx(row["es_95_5d"])
        assert signal.short.one_session.var_99 == pytest.approx(np.expm1(row["q99"]))
        assert signal.rule == RULE
        assert "not investment advice" in signal.caveat


def test_direction_size_and_stop_follow_the_rule(client: LocalClient, installation: Installation) -> None:
    """The forecasts of this folder know the future, so that all are traded."""
    rows = stored(installation)
    for signal in Signals.model_validate(client.get("/v1/signals").json()).signals:
        row = rows.loc[signal.ticker]
        up = row["probability_up"] > 0.5
        assert signal.direction == ("BUY" if up else "SELL")
        assert signal.edge_after_costs is not None
        assert signal.edge_after_costs.low > 0
        assert np.sign(signal.suggested.weight) == (1 if up else -1)
        assert abs(signal.suggested.weight) <= installation.settings.business_kelly_cap
        stop = np.expm1(row["q01" if up else "q99"])
        assert signal.suggested.stop_return == pytest.approx(stop)
        assert signal.last_close is not None
        assert signal.suggested.stop_price == pytest.approx(signal.last_close * (1 + stop))


def test_a_forecast_without_evidence_is_held_with_no_size_and_no_stop(tmp_path: Path, open_client: Open) -> None:
    client = open_client(make_home(tmp_path / "home", replayed=30))
    for signal in Signals.model_validate(client.get("/v1/signals").json()).signals:
        assert (signal.direction, signal.edge_after_costs) == ("HOLD", None)
        assert "fewer than 60 sessions" in signal.reason
        assert signal.suggested.model_dump() == {"weight": 0.0, "stop_return": None, "stop_price": None}


def test_all_signals_come_by_rank_and_can_be_filtered(client: LocalClient) -> None:
    whole = Signals.model_validate(client.get("/v1/signals").json())
    assert [signal.rank for signal in whole.signals] == [1, 2, 3]
    assert whole.current
    for direction in ("BUY", "SELL", "HOLD"):
        chosen = Signals.model_validate(client.get("/v1/signals", params={"direction": direction}).json())
        assert chosen.signals == [signal for signal in whole.signals if signal.direction == direction]


def test_case_of_a_ticker_does_not_matter_and_an_unknown_one_names_its_neighbours(client: LocalClient) -> None:
    assert client.get("/v1/signals/aaa").json()["ticker"] == "AAA"
    for path in ("/v1/signals/AAX", "/v1/signals/AAX/explanation"):
        answer = client.get(path)
        assert answer.status_code == 404
        found = error(answer)
        assert found["code"] == "unknown_ticker"
        assert "AAA" in str(found["message"])
    assert client.get("/v1/signals/" + "A" * 5000).status_code in (404, 422)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("session=yesterday", "query.session"),
        ("session=2024-1-1", "query.session"),
        ("direction=UP", "query.direction"),
        ("sesion=2024-01-02", "query.sesion"),
        ("direction=BUY&direction=SELL", "query.direction"),
    ],
)
def test_a_parameter_that_is_not_understood_is_named(client: LocalClient, query: str, field: str) -> None:
    answer = client.get(f"/v1/signals?{query}")
    assert answer.status_code == 422
    assert [problem["field"] for problem in error(answer)["problems"]] == [field]  # type: ignore[union-attr,attr-defined]


def test_an_earlier_session_is_answered_when_it_is_named_and_says_that_it_is_not_current(
    own_home: Installation, open_client: Open
) -> None:
    earlier = write_signals(own_home, at=-3)
    client = open_client(own_home)
    found = Signals.model_validate(client.get("/v1/signals", params={"session": f"{earlier:%Y-%m-%d}"}).json())
    assert (found.as_of, found.current) == (earlier.date(), False)
    current = client.get("/v1/signals").json()
    assert current["current"]
    assert current["as_of"] > found.as_of.isoformat()
    # Two sessions of evidence less are known then.
    one, other = (client.get("/v1/signals/AAA", params=p).json() for p in ({}, {"session": f"{earlier:%Y-%m-%d}"}))
    assert one["edge_after_costs"]["sessions"] == other["edge_after_costs"]["sessions"] + 2
    answer = client.get("/v1/signals", params={"session": "1999-01-04"})
    assert (answer.status_code, error(answer)["code"]) == (404, "unknown_session")


def test_stale_signals_are_not_answered_and_the_error_names_the_command(
    own_home: Installation, open_client: Open
) -> None:
    client = open_client(own_home)
    before = client.get("/v1/signals").json()["as_of"]
    market = own_home.market
    market.clock().advance_to(market.whole_panel().sessions[-2])  # type: ignore[attr-defined]
    for path in ("/v1/signals", "/v1/signals/AAA", "/v1/universe", "/v1/signals/AAA/explanation"):
        answer = client.get(path)
        assert answer.status_code == 503
        found = error(answer)
        assert found["code"] == "signals_stale"
        assert before in str(found["message"])
        assert "`daily`" in str(found["fix"])
    assert client.post("/v1/risk", json={"positions": [{"ticker": "AAA", "value": 1}]}).status_code == 503
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["as_of"]) == (503, False, None)
    assert "session_timestamp_seconds 0.0" in client.get("/metrics").text
    assert client.get("/healthz").status_code == 200
    # Who names the old session gets it, marked.
    assert client.get("/v1/signals", params={"session": before}).json()["current"] is False


def test_a_new_session_is_served_once_its_signals_are_there(own_home: Installation, open_client: Open) -> None:
    client = open_client(own_home)
    before = client.get("/v1/signals").json()["as_of"]
    market = own_home.market
    market.clock().advance_to(market.whole_panel().sessions[-2])  # type: ignore[attr-defined]
    assert client.get("/v1/signals").status_code == 503
    market.panel().save(market.panel_path)
    session = write_signals(own_home)
    answer = client.get("/v1/signals/AAA").json()
    assert answer["as_of"] == f"{session:%Y-%m-%d}" > before


def test_a_scrape_tells_of_the_session_as_it_is_now_though_nobody_asked(
    own_home: Installation, open_client: Open
) -> None:
    client, market = open_client(own_home), own_home.market

    def told() -> float:
        (line,) = re.findall(
            r"^financial_assets_api_session_timestamp_seconds (.+)$", client.get("/metrics").text, re.M
        )
        return float(line)

    now = market.clock().now().timestamp()
    assert told() == now
    market.clock().advance_to(market.whole_panel().sessions[-2])  # type: ignore[attr-defined]
    assert told() == 0
    market.panel().save(market.panel_path)
    later = write_signals(own_home).timestamp()
    assert later > now
    assert told() == later


def test_signals_that_are_written_again_are_read_again(own_home: Installation, open_client: Open) -> None:
    client = open_client(own_home)
    before = client.get("/v1/signals/AAA").json()["probability_up"]
    write_signals(own_home)  # those of a coin instead
    assert client.get("/v1/signals/AAA").json()["probability_up"] != before


def test_a_folder_without_a_run_and_one_without_signals(
    tmp_path: Path, own_home: Installation, open_client: Open
) -> None:
    empty = open_installation(load_settings(financial_assets_home=tmp_path / "empty"))
    answer = open_client(empty).get("/v1/signals")
    assert answer.status_code == 503
    assert "financial-assets run" in str(error(answer)["message"])
    shutil.rmtree(own_home.market.folder / "signals")
    answer = open_client(own_home).get("/v1/signals")
    assert (answer.status_code, error(answer)["code"]) == (503, "signals_missing")
    assert "financial-assets run" in str(error(answer)["fix"])


def test_a_lost_log_is_an_error_not_an_answer(own_home: Installation, open_client: Open) -> None:
    client = open_client(own_home)
    (own_home.market.folder / "predictions.db").unlink()
    for path in ("/v1/signals", "/v1/models", "/v1/decisions"):
        answer = client.get(path)
        assert (answer.status_code, error(answer)["code"]) == (503, "log_unreadable")
    assert not (own_home.market.folder / "predictions.db").exists()


def test_a_model_of_an_earlier_version_has_no_five_sessions_and_no_rank(tmp_path: Path, open_client: Open) -> None:
    client = open_client(make_home(tmp_path / "home", replayed=70, heads=False))
    whole = Signals.model_validate(client.get("/v1/signals").json())
    assert "earlier version" in whole.remarks[0]
    for signal in whole.signals:
        assert (signal.rank, signal.score, signal.expected_range_5d, signal.target_session_5d) == (None,) * 4
        assert signal.long.five_sessions is None
    body = {"positions": [{"ticker": "AAA", "value": 1000}], "limits": {"es_99_5d": 0.1}}
    answer = client.post("/v1/risk", json=body)
    assert (answer.status_code, error(answer)["code"]) == (422, "limit_not_checkable")
    risk = client.post("/v1/risk", json={"positions": body["positions"]}).json()
    assert [horizon["sessions"] for horizon in risk["horizons"]] == [1]
    assert "forecasts one session only" in risk["warnings"][-1]


def test_the_universe_says_who_has_a_signal(client: LocalClient) -> None:
    found = client.get("/v1/universe").json()["tickers"]
    assert [(member["ticker"], member["sector"], member["has_signal"]) for member in found] == [
        ("AAA", "energy", True),
        ("BBB", "energy", True),
        ("CCC", "banks", True),
    ]
    assert all(member["last_close"] > 0 for member in found)


def test_who_has_no_signal_is_named_with_the_reason(own_home: Installation, open_client: Open) -> None:
    """A ticker is taken out of the stored signals, as one that did not trade would be."""
    market = own_home.market
    path = market.folder / "signals" / f"{market.clock().now():%Y-%m-%d}.parquet"
    signals = pd.read_parquet(path)
    signals[signals["ticker"] != "CCC"].to_parquet(path)
    client = open_client(own_home)
    answer = client.get("/v1/signals/CCC")
    assert (answer.status_code, error(answer)["code"]) == (404, "no_signal")
    member = client.get("/v1/universe").json()["tickers"][2]
    assert (member["has_signal"], bool(member["reason"])) == (False, True)
    answer = client.post("/v1/risk", json={"positions": [{"ticker": "CCC", "value": 5}]})
    assert (answer.status_code, error(answer)["code"]) == (422, "no_signal")


def test_models_and_decisions(client: LocalClient, installation: Installation) -> None:
    found = client.get("/v1/models").json()
    assert [(arm["model"], arm["role"], arm["share"]) for arm in found["arms"]] == [
        ("baseline-predictor-v1", "champion", 1.0)
    ]
    assert client.get("/v1/decisions").json() == {
        "experiment": installation.ab_test.policy().experiment,
        "decisions": [],
    }
    assert client.get("/v1/decisions", params={"last": 0}).status_code == 422
