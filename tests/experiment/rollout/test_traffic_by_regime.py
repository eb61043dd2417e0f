"""Requests split by regime: one weight epoch holds all weights, and every level from the log to the gateway follows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.allocation.regimes import Regime
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.decision.guardrails import watch_traffic
from financial_assets.experiment.evaluation.traffic import epoch_traffic
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.plan.policy import RolloutPolicy
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.regimes import request_regimes
from financial_assets.experiment.rollout.routing import apply_epoch, regime_manifests, repair_routing
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.experiment.statistics.srm_sequential import SequentialSrm, log_bayes_factor
from financial_assets.market.panel import CHANNELS
from financial_assets.monitoring.metrics import ExperimentCollector
from financial_assets.scoring.regimes import trend_directions, volatility_terciles
from financial_assets.serving.manifest_sets import validate_set
from financial_assets.serving.manifests import model_manifest, parse_experiment
from financial_assets.serving.target import ExperimentStatus, TargetStatus
from tests.experiment.builders import CHALLENGER, CHAMPION, FakeGateway, panel, play
from tests.experiment.decision.builders import EPOCH, OPENED, plan, policy, requests
from tests.experiment.rollout.builders import BASE, PRICES, SECOND, answer, begin, judged, predict

SPLIT = {"tech": {CHAMPION: 20, CHALLENGER: 80}, "banks": {CHAMPION: 90, CHALLENGER: 10}}
SECTORS = {"T00": "tech", "T01": "tech", "T02": "banks"}


def contextual(*regimes: str, mode: str = "hedge", **sectors: str) -> RolloutPolicy:
    rules = policy()
    traffic = replace(rules.traffic, mode=mode, regimes=regimes, sectors=sectors or SECTORS)  # type: ignore[arg-type]
    return replace(rules, traffic=traffic)


def split_epoch(log: PredictionLog) -> WeightEpoch:
    return log.open_epoch(EPOCH.experiment, EPOCH.arms, "by sector", after=0, regimes=SPLIT)


def test_an_epoch_with_regimes_reads_back_equal(log: PredictionLog) -> None:
    epoch = split_epoch(log)
    (found,) = log.epochs()
    assert found == epoch
    assert found.weights_in("tech") == SPLIT["tech"]
    assert found.weights_in("mars") == found.weights_in(None) == {CHAMPION: 70, CHALLENGER: 30}
    for regime in (None, "tech", "banks"):
        assert sum(found.propensity(model, regime) for model in found.weights) == pytest.approx(1.0)
    assert found.propensity(CHALLENGER, "tech") == 0.8


@pytest.mark.parametrize(
    "regimes",
    [{"": SPLIT["tech"]}, {"tech": {CHAMPION: 100}}, {"tech": {CHAMPION: 100, CHALLENGER: 0}}, {"tech": {"x": 1}}],
)
def test_weights_that_are_none_are_refused(regimes: dict[str, dict[str, int]]) -> None:
    with pytest.raises(ExperimentError, match="whole number from 1 on for each of"):
        WeightEpoch("ab-experiment", 1, OPENED, EPOCH.arms, "x", regimes)


ADDED = {
    3: (log_schema.epochs.c.regimes, log_schema.routed.c.regime),
    4: (log_schema.routed.c.inclusion,),
}
"""Version of the log -> columns that it added to tables of before."""


@pytest.mark.parametrize("version", log_schema.UPGRADABLE)
def test_a_log_of_an_earlier_version_gets_the_new_columns_and_keeps_its_rows(tmp_path: Path, version: int) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    session, target = PRICES.sessions[30], PRICES.sessions[31]
    with PredictionLog(url) as log:
        epoch = log.open_epoch(EPOCH.experiment, EPOCH.arms, "start", after=0)
        (intent,) = log.begin_routed(epoch, session, target, ["T00"])
        log.complete_routed([answer(intent.id, True, CHAMPION)])
        before = log.routed()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for column in (column for added, columns in ADDED.items() if added > version for column in columns):
            connection.execute(sa.text(f"ALTER TABLE {column.table.name} DROP COLUMN {column.name}"))
        if version < 4:
            connection.execute(sa.text(f"DROP TABLE {log_schema.complete.name}"))
        connection.execute(sa.text(f"UPDATE prediction_log_version SET version = {version}"))
    engine.dispose()
    with PredictionLog(url) as log:
        pd.testing.assert_frame_equal(log.routed(), before.assign(inclusion=np.nan) if version < 4 else before)
        assert log.complete_sessions([CHAMPION]) == {}
        assert log.epochs() == (epoch,)
        assert log.open_epoch(EPOCH.experiment, EPOCH.arms, "now", after=1, regimes=SPLIT).regimes == SPLIT
    with PredictionLog(url) as log:
        assert log.epochs()[-1].regimes == SPLIT


def test_the_regime_of_a_session_comes_from_the_bars_before_it() -> None:
    prices = panel(sessions=400, tickers=3)
    found = request_regimes(contextual("volatility", "trend"), prices)
    assert found is not None
    level = prices.values[0, CHANNELS.index("market")].astype(np.float64)
    expected = [
        Regime.of(volatility=volatility, trend=trend).label if volatility and trend else None
        for volatility, trend in zip(volatility_terciles(level), trend_directions(level), strict=True)
    ]
    assert [found.label(session, "T00") for session in prices.sessions] == expected
    assert set(filter(None, expected)) <= {one.label for one in found.policy.traffic.every_regime()}
    values = prices.values.copy()
    values[:, CHANNELS.index("market"), 350:] *= 3
    changed = request_regimes(found.policy, replace(prices, values=values))
    assert changed is not None
    assert changed.label(prices.sessions[350], "T00") == found.label(prices.sessions[350], "T00")
    assert found.label(pd.Timestamp("1999-01-04"), "T00") is None
    assert found.labels(prices.sessions[5], ["T00"]) == {}, "too little history is no regime"


def test_sector_and_time_need_no_history() -> None:
    found = request_regimes(contextual("sector", "time"), panel(sessions=30, tickers=3))
    assert found is not None
    labels = found.labels(found.panel.sessions[3], ["T00", "T02"])
    assert labels == {"T00": "tech-closed", "T02": "banks-closed"}
    assert len(found.policy.traffic.every_regime()) == 2 * 4
    assert request_regimes(policy(), found.panel) is None
    with pytest.raises(ExperimentError, match=r"T01, T02 have no sector: add to traffic\.sectors"):
        request_regimes(contextual("sector", T00="tech"), found.panel)


def test_each_request_goes_to_the_experiment_of_its_regime(log: PredictionLog) -> None:
    prices = panel(sessions=60, tickers=4)
    gateway, asked = FakeGateway(), dict[str, str]()
    epoch = split_epoch(log)

    def heard(target: str, _bars: np.ndarray, request: str | None) -> None:
        if request is not None:
            asked[request] = target

    gateway.before = heard
    rules = contextual("sector", T00="tech", T01="tech", T02="banks", T03="unheard")
    after = prices.sessions[prices.sessions > epoch.data_cutoff][:10]
    play(log, epoch, prices, after, gateway.connect, regimes=request_regimes(rules, prices))
    routed = log.routed().assign(target=lambda rows: rows["request_id"].map(asked))
    assert len(routed) == 40
    for ticker, regime in {"T00": "tech", "T01": "tech", "T02": "banks", "T03": None}.items():
        rows = routed[routed["ticker"] == ticker]
        name = "ab-experiment" if regime is None else f"ab-{regime}-experiment"
        assert set(rows["target"]) == {f"{name}.experiment"}
        assert set(rows["regime"].map(lambda value: value or "none")) == {regime or "none"}
        wanted = [epoch.propensity(model, regime) for model in rows["model"]]
        assert rows["propensity"].tolist() == pytest.approx(wanted)


@dataclass
class Plane:
    """A target that dies after so many calls, and keeps what it was told before."""

    dies_after: int = 99
    splits: dict[str, ExperimentStatus] = field(default_factory=dict)

    def _live(self) -> None:
        self.dies_after -= 1
        if self.dies_after < 0:
            raise KeyboardInterrupt

    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        self._live()
        for spec in map(parse_experiment, manifests):
            self.splits[spec.name] = ExperimentStatus(spec.name, spec.default, spec.weights, spec.mirror, ready=True)

    def wait_ready(self, names: Sequence[str], _timeout_s: float) -> None:
        self._live()
        assert set(names) <= set(self.splits)

    def delete(self, _kind: str, name: str) -> None:
        self._live()
        del self.splits[name]

    def status(self) -> TargetStatus:
        return TargetStatus("double", ready=True, endpoint=None, experiments=tuple(self.splits.values()))


def test_each_regime_has_an_experiment_without_a_default() -> None:
    epoch = replace(EPOCH, regimes=SPLIT)
    made = regime_manifests(epoch)
    assert [one["metadata"]["name"] for one in made] == ["ab-tech-experiment", "ab-banks-experiment"]
    assert all("default" not in one["spec"] for one in made)
    models = [model_manifest(name, f"file:///m/{name}") for name in EPOCH.weights]
    validate_set([*models, *made])


@pytest.mark.parametrize("dies_after", range(5), ids=["apply", "wait", "first delete", "second delete", "never"])
def test_wherever_a_promotion_is_killed_the_next_call_heals_it(log: PredictionLog, dies_after: int) -> None:
    plane, rollout = Plane(), Rollout(log, contextual("sector"))
    before = split_epoch(log)
    stranger = ExperimentStatus("ab-fast-experiment", None, {CHAMPION: 100}, None, ready=True)
    apply_epoch(before, plane, "space", 1.0)  # type: ignore[arg-type]
    plane.splits[stranger.name] = stranger
    after = rollout.change_weights({CHAMPION: 40, CHALLENGER: 60}, "all alike")
    assert rollout.former_regimes() == {"tech", "banks"}
    plane.dies_after = dies_after
    try:
        apply_epoch(after, plane, "space", 1.0, former=rollout.former_regimes())  # type: ignore[arg-type]
    except KeyboardInterrupt:
        plane.dies_after = 99
        assert plane.splits["ab-experiment"].default == CHAMPION
        assert repair_routing(after, plane, "space", 1.0, former=rollout.former_regimes())  # type: ignore[arg-type]
    else:
        assert dies_after == 4, "apply, wait and two deletions are all there is to die in"
    plane.dies_after = 99
    assert set(plane.splits) == {"ab-experiment", "ab-fast-experiment"}
    assert dict(plane.splits["ab-experiment"].weights) == {CHAMPION: 40, CHALLENGER: 60}
    assert not repair_routing(after, plane, "space", 1.0, former=rollout.former_regimes())  # type: ignore[arg-type]


def test_a_missing_regime_is_restored(log: PredictionLog) -> None:
    plane, epoch = Plane(), split_epoch(log)
    assert not repair_routing(epoch, plane, "space", 1.0), "an experiment that nobody began is left alone"  # type: ignore[arg-type]
    apply_epoch(epoch, plane, "space", 1.0)  # type: ignore[arg-type]
    del plane.splits["ab-tech-experiment"]
    assert repair_routing(epoch, plane, "space", 1.0)  # type: ignore[arg-type]
    assert dict(plane.splits["ab-tech-experiment"].weights) == SPLIT["tech"]


def drawn(epoch: WeightEpoch, count: int, seed: int = 0, broken: str | None = None) -> pd.DataFrame:
    """Routed requests of both regimes; those of ``broken`` are split half and half."""
    rng = np.random.default_rng(seed)
    regimes = rng.choice(["tech", "banks"], size=count)
    shares = {name: epoch.propensity(CHALLENGER, name) if name != broken else 0.5 for name in ("tech", "banks")}
    to_challenger = rng.random(count) < np.array([shares[name] for name in regimes])
    frame = requests(count, seed=seed)
    return frame.assign(regime=regimes, model=np.where(to_challenger, CHALLENGER, CHAMPION))


def test_the_split_is_judged_regime_by_regime() -> None:
    epoch = replace(EPOCH, regimes=SPLIT)

    def split(rows: pd.DataFrame) -> Any:
        (found,) = (one for one in watch_traffic(plan(), [epoch], rows).guardrails if one.name == "sample ratio")
        return found

    fine = split(drawn(epoch, 3000))
    assert not fine.fired
    assert fine.objective == pytest.approx(0.45, abs=0.02)
    for broken in ("tech", "banks"):
        assert split(drawn(epoch, 3000, broken=broken)).fired
    pooled = drawn(epoch, 3000).assign(regime=None)
    assert split(pooled).fired, "the control: without regimes a healthy split looks broken"


def test_traffic_is_told_regime_by_regime() -> None:
    epoch = replace(EPOCH, regimes=SPLIT)
    told = {one.label: one for one in epoch_traffic(drawn(epoch, 3000, broken="banks"), [epoch], 0.001)}
    assert set(told) == {"1, tech", "1, banks"}
    assert told["1, tech"].passed
    assert not told["1, banks"].passed
    assert told["1, tech"].weights == SPLIT["tech"]
    assert sum(sum(one.observed.values()) for one in told.values()) == 3000
    (alone,) = epoch_traffic(drawn(EPOCH, 300), [EPOCH], 0.001)
    assert alone.label == "1"
    (quiet,) = epoch_traffic(drawn(epoch, 0), [epoch], 0.001)
    assert (quiet.label, quiet.weights) == ("1", EPOCH.weights), "a regime without requests is no line"


def test_the_exporter_compares_each_regime_with_its_own_weights(log: PredictionLog) -> None:
    epoch, rng = split_epoch(log), np.random.default_rng(2)
    for session, target in itertools.pairwise(PRICES.sessions[PRICES.sessions > epoch.data_cutoff]):
        begun = log.begin_routed(epoch, session, target, PRICES.tickers, {"T00": "tech", "T01": "tech", "T02": "banks"})
        chosen = [epoch.propensity(CHALLENGER, one.regime) > rng.random() for one in begun]
        log.complete_routed(
            [answer(one.id, True, CHALLENGER if hit else CHAMPION) for one, hit in zip(begun, chosen, strict=True)]
        )
    collector = ExperimentCollector(lambda: PredictionLog(str(log.engine.url)), lambda: PRICES)
    families = {family.name: family.samples for family in collector.collect()}
    wanted = {tuple(one.labels.values()): one.value for one in families["ab_test_traffic_weight_percentage"]}
    assert wanted[(CHALLENGER, "ab-tech-experiment")] == pytest.approx(80)
    assert wanted[(CHALLENGER, "ab-banks-experiment")] == pytest.approx(10)
    assert wanted[(CHALLENGER, "ab-experiment")] == pytest.approx(30)
    got = {tuple(one.labels.values()): one.value for one in families["ab_test_traffic_percentage"]}
    assert got[(CHALLENGER, "ab-tech-experiment")] > 60 > got[(CHALLENGER, "ab-banks-experiment")]
    (mismatch,) = families["ab_test_srm_p_value"]
    assert mismatch.value > 0.001


def test_false_alarms_of_many_strata_are_as_rare_as_of_one() -> None:
    rng, alarms, runs = np.random.default_rng(5), 0, 400
    weights = [{"a": share, "b": 100 - share} for share in (10, 30, 50, 90)]
    for _ in range(runs):
        test = SequentialSrm()
        for _look in range(20):
            given = {}
            for stratum, own in enumerate(weights):
                count = int(rng.binomial(25, own["a"] / 100))
                given[stratum] = (own, {"a": count, "b": 25 - count})
            test.update(given)
        alarms += test.p_value <= 0.05
    assert alarms / runs <= 0.05


@given(looks=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=12))
@settings(max_examples=50)
def test_one_stratum_is_the_plain_test(looks: list[tuple[int, int]]) -> None:
    own = SequentialSrm()
    for a, b in looks:
        own.update({1: ({"a": 70, "b": 30}, {"a": a, "b": b})})
    plain = log_bayes_factor(np.cumsum(looks, axis=0), (0.7, 0.3))
    assert own.p_value == pytest.approx(min(1.0, math.exp(-plain.max())), rel=1e-9)
    assert own.log_e == pytest.approx(plain[-1])


SKILLED = {"T00": 0.95, "T01": 0.95, "T02": 0.05, "T03": 0.05}
KINDS = {ticker: "good" if chance > 0.5 else "bad" for ticker, chance in SKILLED.items()}
BY_SECTOR = {"mode": "hedge", "regimes": ("sector",), "sectors": KINDS}


def by_ticker(log: PredictionLog, sessions: int) -> None:
    """The second arm is right on some tickers and wrong on the others, all others are coins."""
    epoch = log.current_epoch("ab-experiment")
    assert epoch is not None
    ups = outcome_frame(PRICES).set_index(["session", "ticker"])["up"]
    rng = np.random.default_rng(9)
    later = PRICES.sessions[PRICES.sessions > epoch.data_cutoff]
    for session, target in list(itertools.pairwise(later))[:sessions]:
        direct = log.begin_direct(epoch.arms, session, target, PRICES.tickers)
        chance = [SKILLED[one.ticker] if one.model == SECOND else 0.5 for one in direct]
        right = [rng.random() < one for one in chance]
        log.complete_direct(
            [answer(one.id, bool(ups[(session, one.ticker)]) == hit) for one, hit in zip(direct, right, strict=True)]
        )


def test_every_kind_of_request_learns_from_its_own_rows(log: PredictionLog) -> None:
    conduct = begin(log, test={"horizon_sessions": 200}, traffic=BY_SECTOR)
    by_ticker(log, 14)
    later = PRICES.sessions[PRICES.sessions > EPOCH.data_cutoff]
    decisions = judged(conduct, later[13])
    assert {one.action for one in decisions} == {"hold"}, [one.reasons for one in decisions]
    epoch = apply_decisions(conduct.rollout, decisions)
    assert set(epoch.regimes) == {"good", "bad"}
    assert epoch.regimes["good"][SECOND] > 40
    assert epoch.regimes["bad"][SECOND] < 20
    assert epoch.weights == {BASE: 60, SECOND: 25, "lightweight-predictor-v3": 15}, "of requests of no regime"
    assert epoch.reason.startswith("hedge by sector: ")
    for weights in epoch.regimes.values():
        assert sum(weights.values()) == 100
        assert min(weights.values()) >= 10
    assert apply_decisions(conduct.rollout, judged(conduct, later[13])) == epoch
    again = log.allocations("ab-good-experiment", epoch)
    assert len(again) == decisions[0].days
    with pytest.raises(LogError):
        log.record_allocations(epoch, {"ab-good-experiment": again})


def test_a_new_challenger_begins_without_regimes_and_a_fixed_policy_ends_them(log: PredictionLog) -> None:
    conduct = begin(log, test={"horizon_sessions": 200}, traffic=BY_SECTOR)
    by_ticker(log, 10)
    later = PRICES.sessions[PRICES.sessions > EPOCH.data_cutoff]
    epoch = apply_decisions(conduct.rollout, judged(conduct, later[9]))
    assert epoch.regimes
    models = [arm_model(arm) for arm in epoch.arms]
    assert conduct.rollout.reconcile(models) == epoch
    newer = replace(models[-1], model="lightweight-predictor-v4", version=4)
    fixed = Rollout(log, replace(conduct.rollout.policy, traffic=policy().traffic))
    assert fixed.reconcile(models).reason == "all requests are split alike again"
    assert fixed.started().regimes == {}
    entered = conduct.rollout.reconcile([*models, newer])
    assert (entered.regimes, entered.challengers[-1].model) == ({}, "lightweight-predictor-v4")
    assert conduct.rollout.former_regimes() == {"good", "bad"}


def arm_model(arm: Arm) -> AvailableModel:
    return AvailableModel(arm.model, arm.variant, arm.version, arm.data_cutoff)


def test_predictions_of_a_plain_epoch_have_no_regime(log: PredictionLog) -> None:
    begin(log)
    predict(log, dict.fromkeys((BASE, SECOND, "lightweight-predictor-v3"), 0.5), last=2)
    assert log.routed()["regime"].isna().all()
