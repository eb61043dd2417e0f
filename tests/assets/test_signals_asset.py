"""The asset ``daily_signals``, run by Dagster in this process; only the gateway is a double."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from financial_assets.assets.signals import daily_signals
from financial_assets.experiment.arms import Arm
from financial_assets.market.calendar import session_close
from financial_assets.market.clock import HistoricalClock, LiveClock
from financial_assets.resources import ABTest, Market, Serving
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.signal_files import read_signals
from financial_assets.serving.signal_schema import FURTHER_COLUMNS
from financial_assets.serving.signals import SIGNAL_SCHEMA, check_signals
from tests.assets.alone import execute_checks, verdicts
from tests.assets.conftest import Outcome

CUTOFF = pd.Timestamp("2000-01-03")
CHAMPION, CHALLENGER = "baseline-predictor-v1", "enhanced-predictor-v2"
Spoil = Callable[[np.ndarray, np.ndarray], None]


def sound(_probability: np.ndarray, _quantiles: np.ndarray) -> None:
    """Leaves the answer as it is."""


@dataclass
class Double:
    """Answers from the last bar, and as the model that is asked; ``spoil`` changes an answer in place."""

    spoil: Spoil = sound
    route: str | None = None
    earlier: bool = False
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def connect(self) -> Iterator[Double]:
        yield self

    def infer_batch(self, target: str, bars: np.ndarray, /) -> Answer:
        self.asked.append(target)
        change = np.log(bars[:, -1, 3] / bars[:, -2, 3])
        probability = 1 / (1 + np.exp(-20 * change))
        quantiles = np.tile(np.array([-0.03, -0.02, 0.0, 0.02, 0.03]), (len(bars), 1)) + change[:, None]
        self.spoil(probability, quantiles)
        answer = Answer(probability, quantiles, self.route or target, 1, "served", 0.001, "an-id")
        further = {"return_quantiles_5d": 2 * quantiles, "excess_return": change / 0.02}
        return answer if self.earlier else replace(answer, **further)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Double:
    double = Double()
    monkeypatch.setattr(Serving, "connect", lambda _: double.connect())
    return double


def experiment_at(home: Path) -> ABTest:
    return ABTest(
        home=str(home),
        log_url=f"sqlite:///{home / 'log.db'}",
        replay_sessions=0,
        replay_workers=1,
        cost_bps=5.0,
        progress=False,
    )


@pytest.fixture
def ab_test(tmp_path: Path) -> ABTest:
    """An experiment whose champion is the baseline."""
    resource = experiment_at(tmp_path)
    champion = Arm(CHAMPION, "baseline", 1, "champion", 70, CUTOFF)
    challenger = Arm(CHALLENGER, "enhanced", 2, "challenger", 30, CUTOFF)
    with resource.log() as log:
        log.open_epoch(resource.policy().experiment, (champion, challenger), "start", after=0)
    return resource


Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(instance: dg.DagsterInstance, gateway: Double, ab_test: ABTest, tmp_path: Path) -> Run:
    def execute(market: Market, experiment: ABTest = ab_test) -> dg.ExecuteInProcessResult:
        serving = Serving(home=str(tmp_path), serving_target="local", request_timeout=1.0, ready_timeout=1.0)
        return dg.materialize(
            [daily_signals],
            resources={"market": market, "serving": serving, "ab_test": experiment},
            instance=instance,
            raise_on_error=False,
        )

    return execute


def begun(market: Market) -> Market:
    market.ingest()
    market.begin(market.whole_panel().sessions)
    return market


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("daily_signals")
    return {name: value.value for name, value in event.metadata.items()}


def data_version(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.asset_materializations_for_node("daily_signals")
    return (event.tags or {})["dagster/data_version"]


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data: Any = event.event_specific_data
    cause = data.error.cause.message if data.error and data.error.cause else ""
    return f"{data.user_failure_data and data.user_failure_data.description} {cause}"


def files(market: Market) -> list[str]:
    folder = market.folder / "signals"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_one_sound_row_a_ticker_in_both_files_and_in_dagster(make_market: Any, run: Run, gateway: Double) -> None:
    market = begun(make_market())
    result = run(market)
    assert result.success
    clock = market.clock().now()
    day = f"{clock:%Y-%m-%d}"
    assert files(market) == [f"{day}.csv", f"{day}.parquet"]
    signals = pd.read_parquet(market.folder / "signals" / f"{day}.parquet")
    assert check_signals(signals, market.tickers).empty
    assert signals["ticker"].tolist() == ["AAA", "BBB"]
    assert set(signals["as_of"]) == {clock}
    assert set(signals["model"]) == set(gateway.asked) == {CHAMPION}
    assert {name: check.passed for name, check in checks(result).items()} == {
        "sound": True,
        "coverage": True,
        "current": True,
    }
    shown = metadata(result)
    assert shown["dagster/row_count"] == shown["up"] + shown["down"] == 2
    assert [column.name for column in shown["dagster/column_schema"].columns] == list(SIGNAL_SCHEMA.columns)
    assert all(column.description for column in shown["dagster/column_schema"].columns)
    assert (shown["as of"], shown["model"], shown["without a signal"]) == (day, CHAMPION, 0)
    assert shown["target session"] > day
    assert "| AAA |" in shown["signals"]
    assert "| BBB |" in shown["signals"]
    assert sorted(signals["rank"]) == [1, 2]
    assert signals.sort_values("rank")["score"].is_monotonic_decreasing
    assert shown["five sessions and ranking"] == "in all rows"


def test_its_checks_alone_judge_the_stored_signals_and_ask_nobody(
    make_market: Any, run: Run, gateway: Double, ab_test: ABTest, instance: dg.DagsterInstance
) -> None:
    market = begun(make_market())
    serving = Serving(home=str(market.folder), serving_target="local", request_timeout=1.0, ready_timeout=1.0)
    resources = {"market": market, "serving": serving, "ab_test": ab_test}
    missing = execute_checks(daily_signals, resources, instance)
    assert not missing.success
    assert "there are no signals of" in missing.failure_text
    made = run(market)
    gateway.asked.clear()
    found = execute_checks(daily_signals, resources, instance)
    assert found.success, found.failure_text
    assert verdicts(found, daily_signals) == verdicts(made, daily_signals)
    assert gateway.asked == []
    (path,) = (market.folder / "signals").glob("*.parquet")
    stored = pd.read_parquet(path)
    stored.loc[0, "probability_up"] = 1.5
    stored.to_parquet(path)
    broken = execute_checks(daily_signals, resources, instance)
    assert not broken.success, "the check blocks"
    assert not broken.checks("daily_signals")["sound"].passed


def test_a_champion_of_an_earlier_version_gives_signals_and_what_it_lacks_is_said_once(
    make_market: Any, run: Run, gateway: Double
) -> None:
    market = begun(make_market())
    gateway.earlier = True
    result = run(market)
    assert result.success
    assert all(check.passed for check in checks(result).values())
    signals = read_signals(market.folder / "signals", market.clock().now())
    assert signals is not None
    assert signals["probability_up"].notna().all()
    assert signals[[*FURTHER_COLUMNS]].isna().all(axis=None)
    said = metadata(result)["five sessions and ranking"]
    assert said.startswith(f"{CHAMPION} was deployed by an earlier version")
    gateway.earlier = False
    assert run(market).success
    again = read_signals(market.folder / "signals", market.clock().now())
    assert again is not None
    assert again[[*FURTHER_COLUMNS]].notna().all(axis=None)


def test_the_data_version_follows_the_content(make_market: Any, run: Run, gateway: Double) -> None:
    market = begun(make_market())
    first, again = data_version(run(market)), data_version(run(market))
    assert first == again

    def other(probability: np.ndarray, _: np.ndarray) -> None:
        probability[0] = 0.123

    gateway.spoil = other
    assert data_version(run(market)) != first


def test_a_session_later_the_earlier_signals_stay(make_market: Any, run: Run) -> None:
    market = begun(make_market())
    run(market)
    before = {name: (market.folder / "signals" / name).read_bytes() for name in files(market)}
    clock = market.clock()
    assert isinstance(clock, HistoricalClock)
    following = clock.next(market.whole_panel().sessions)
    assert following is not None
    clock.advance_to(following)
    assert run(market).success
    assert len(files(market)) == 4
    assert {name: (market.folder / "signals" / name).read_bytes() for name in before} == before


def test_missed_sessions_of_a_live_source_get_their_signals_in_order_each_as_of_its_close(
    make_market: Any, run: Run, gateway: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = begun(make_market())
    days = market.whole_panel().sessions
    now = days[340]

    def clock(_: Market) -> LiveClock:
        return LiveClock(lambda: session_close(now) + pd.Timedelta(hours=2))

    monkeypatch.setattr(Market, "_clock", clock)
    assert run(market).success
    assert files(market) == [f"{now:%Y-%m-%d}.csv", f"{now:%Y-%m-%d}.parquet"]  # nothing is known of earlier days
    market.complete_session(now)

    now = days[344]
    caught_up = run(market)
    names = [f"{day:%Y-%m-%d}" for day in days[340:345]]
    assert files(market) == [f"{name}.{kind}" for name in names for kind in ("csv", "parquet")]
    assert metadata(caught_up)["caught up"] == ", ".join(names[1:4])
    punctual = begun(make_market(home="punctual"))
    now = days[342]
    run(punctual)
    late, prompt = (pd.read_parquet(one.folder / "signals" / f"{names[2]}.parquet") for one in (market, punctual))
    pd.testing.assert_frame_equal(late, prompt)

    now = days[344]  # a run that broke off half-way: what is there stays as it is
    (market.folder / "signals" / f"{names[3]}.csv").unlink()
    assert metadata(run(market))["caught up"] == names[3]
    market.complete_session(now)
    gateway.asked.clear()
    assert metadata(run(market))["caught up"] == "none"
    assert gateway.asked == [CHAMPION]


def test_nothing_after_the_clock_reaches_the_model(
    make_market: Any, run: Run, bars: pd.DataFrame, tmp_path: Path
) -> None:
    versions: set[str] = set()
    for name, factor in (("one", 1.0), ("other", 1.3)):
        frame = bars.copy()
        frame.loc[frame["date"] > bars["date"].unique()[319], ["open", "high", "low", "close", "adj_close"]] *= factor
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        versions.add(data_version(run(begun(make_market(home=name, files=tmp_path / f"{name}.csv")))))
    assert len(versions) == 1


def unlisted(bars: pd.DataFrame, keep: Sequence[bool] | pd.Series, path: Path) -> Path:
    bars[keep].to_csv(path, index=False)
    return path


def test_a_ticker_with_too_few_bars_is_named_and_the_rest_is_served(
    make_market: Any, run: Run, bars: pd.DataFrame, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    late = (bars["ticker"] == "BBB") & (bars["date"] < bars["date"].unique()[200])
    market = begun(make_market(files=unlisted(bars, ~late, tmp_path / "bars.csv")))
    result = run(market)
    assert result.success
    found = checks(result)
    assert found["sound"].passed
    assert not found["coverage"].passed
    assert found["coverage"].severity is dg.AssetCheckSeverity.WARN
    assert "BBB | has 120 bars" in str(found["coverage"].metadata["failed rows"].value)
    assert metadata(result)["without a signal"] == 1
    (parquet,) = (market.folder / "signals").glob("*.parquet")
    assert pd.read_parquet(parquet)["ticker"].tolist() == ["AAA"]
    (warning,) = Outcome(result, instance).warnings
    assert warning.startswith("no signal for 1 of the tickers:\n  BBB has 120 bars")


def test_signals_that_rest_on_doubtful_bars_say_so(
    make_market: Any, run: Run, bars: pd.DataFrame, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = bars["date"].unique()
    fault = (bars["ticker"] == "BBB") & (bars["date"] == days[310])
    path = tmp_path / "bars.csv"
    bars.assign(volume=bars["volume"].where(~fault, 0.0)).to_csv(path, index=False)
    market = begun(make_market(files=path))
    result = run(market)
    assert result.success
    (warning,) = Outcome(result, instance).warnings
    assert warning.startswith("signals that rest on doubtful bars:\n  BBB: ")
    assert f"{days[310]:%Y-%m-%d}" in warning
    assert "no volume although the price moves" in warning
    assert metadata(result)["doubts about the bars"] in warning


def test_without_any_ticker_the_run_fails_and_says_why(
    make_market: Any, run: Run, bars: pd.DataFrame, tmp_path: Path
) -> None:
    early = bars["date"] < bars["date"].unique()[200]
    result = run(begun(make_market(files=unlisted(bars, early, tmp_path / "bars.csv"))))
    assert not result.success
    assert not checks(result)["coverage"].passed
    assert "AAA has 160 bars" in failure(result)


def test_prices_that_end_before_the_clock_are_told(make_market: Any, run: Run) -> None:
    market = begun(make_market())
    clock = market.clock()
    assert isinstance(clock, HistoricalClock)
    last = market.whole_panel().sessions[-1]
    clock.advance_to(last + pd.offsets.BDay(20))
    result = run(market)
    assert result.success
    current = checks(result)["current"]
    assert not current.passed
    assert current.severity is dg.AssetCheckSeverity.WARN
    assert current.metadata["last session with prices"].value == f"{last:%Y-%m-%d}"


def nan(probability: np.ndarray, _: np.ndarray) -> None:
    probability[1] = np.nan


def disordered(_: np.ndarray, quantiles: np.ndarray) -> None:
    quantiles[1] = quantiles[1, ::-1].copy()


@pytest.mark.parametrize(
    ("spoil", "problem"), [(nan, "probability_up is missing"), (disordered, "quantiles out of order")]
)
def test_an_unsound_answer_fails_the_blocking_check_and_nothing_is_stored(
    make_market: Any, run: Run, gateway: Double, spoil: Spoil, problem: str
) -> None:
    market = begun(make_market())
    gateway.spoil = spoil
    result = run(market)
    assert not result.success
    assert not checks(result)["sound"].passed
    assert checks(result)["sound"].blocking
    shown = str(checks(result)["sound"].metadata["failed rows"].value)
    assert "BBB" in shown
    assert "AAA" not in shown
    assert problem in shown
    assert problem in failure(result)
    assert files(market) == []


def test_signals_of_another_model_are_refused(make_market: Any, run: Run, gateway: Double) -> None:
    market = begun(make_market())
    gateway.route = CHALLENGER
    result = run(market)
    assert not result.success
    assert f"{CHALLENGER} answered" in failure(result)
    assert files(market) == []


def test_after_a_promotion_the_new_champion_is_asked(
    make_market: Any, run: Run, gateway: Double, ab_test: ABTest
) -> None:
    market = begun(make_market())
    champion = Arm(CHALLENGER, "enhanced", 2, "champion", 100, CUTOFF)
    with ab_test.log() as log:
        log.open_epoch(ab_test.policy().experiment, (champion,), "promoted", after=1)
    result = run(market)
    assert metadata(result)["model"] == CHALLENGER
    assert gateway.asked == [CHALLENGER]


def test_before_the_experiment_there_is_no_champion(make_market: Any, run: Run, tmp_path: Path) -> None:
    result = run(begun(make_market()), experiment_at(tmp_path / "empty"))
    assert not result.success
    assert "run `financial-assets run`" in failure(result)
