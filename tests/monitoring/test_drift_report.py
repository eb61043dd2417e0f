"""Whole reports: what alarms, since when, which way; and what is not judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from financial_assets.errors import MonitoringError
from financial_assets.monitoring.drift.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.drift.detection import LOSS, DriftPolicy, DriftReport, detect_drift
from financial_assets.monitoring.drift.plots import plot_drift
from financial_assets.monitoring.drift.thresholds import false_alarm_probability, threshold

REFERENCE, LATER = 500, 250
SESSIONS = pd.bdate_range("2015-01-02", periods=REFERENCE + LATER)
NAMES = [f"feature_{number:03d}" for number in range(40)]


def world(seed: int = 0, coefficient: float = 0.3, features: int = len(NAMES)) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((len(SESSIONS), features))
    means = pd.DataFrame(lfilter([1.0], [1.0, -coefficient], shocks, axis=0), SESSIONS, NAMES[:features])
    return means, pd.Series(0.01 * rng.standard_normal(len(SESSIONS)), SESSIONS)


def report(means: pd.DataFrame, loss: pd.Series, policy: DriftPolicy | None = None, held_out: int = 200) -> DriftReport:
    return detect_drift(
        feature_reference=means.iloc[:REFERENCE],
        features=means.iloc[REFERENCE:],
        loss_reference=loss.iloc[REFERENCE - held_out : REFERENCE],
        loss=loss.iloc[REFERENCE:],
        policy=policy,
    )


def row(found: DriftReport, name: str) -> pd.Series:
    return found.streams.set_index("name").loc[name]


def test_a_quiet_world() -> None:
    means, loss = world()
    found = report(means, loss)
    assert not found.alarm
    assert not found.loss_alarm
    assert found.moved == ()
    assert found.since is None
    assert found.streams["name"].iloc[0] == LOSS
    assert sorted(found.streams["name"]) == sorted([LOSS, *NAMES])
    ratio = (found.streams["statistic"] / found.streams["threshold"]).to_numpy()
    assert np.all(ratio < 1)
    assert np.all(np.diff(ratio[1:]) <= 0)
    assert set(found.streams["state"]) == {"watched"}
    assert found.streams[["psi", "ks"]].notna().all().all()
    assert list(found.paths.index) == list(SESSIONS[REFERENCE:])
    assert np.abs(found.paths.to_numpy()).max() == pytest.approx(ratio.max())


def test_moved_features_are_named_the_clearest_first() -> None:
    means, loss = world()
    at = REFERENCE + 50
    means.iloc[at:, 7] -= 3.0
    means.iloc[at:, 3] += 1.5
    found = report(means, loss)
    assert found.alarm
    assert not found.loss_alarm
    assert found.moved == (NAMES[7], NAMES[3])
    down, up = row(found, NAMES[7]), row(found, NAMES[3])
    assert (down["direction"], up["direction"]) == ("down", "up")
    assert down["shift"] == pytest.approx(-3.0 * np.sqrt(1 - 0.3**2), abs=0.3)
    assert up["shift"] == pytest.approx(1.5 * np.sqrt(1 - 0.3**2), abs=0.3)
    for stream, delay in ((down, 20), (up, 60)):
        assert SESSIONS[at] <= stream["since"] <= SESSIONS[at + delay]
        assert abs(SESSIONS.get_loc(stream["onset"]) - at) <= 15
        assert stream["onset"] <= stream["since"]
    assert found.since == min(down["since"], up["since"])
    assert (found.paths[NAMES[7]].dropna() < 1).all()
    assert found.paths[NAMES[7]].min() < -1
    assert down["psi"] > 0.2
    assert down["ks"] > 0.5


def test_the_loss_alarms_by_itself() -> None:
    means, loss = world()
    loss.iloc[REFERENCE + 30 :] += 0.01
    found = report(means, loss)
    assert found.alarm
    assert found.loss_alarm
    assert found.moved == ()
    assert row(found, LOSS)["direction"] == "up"
    assert SESSIONS[REFERENCE + 30] <= row(found, LOSS)["since"] <= SESSIONS[REFERENCE + 80]
    assert found.since == row(found, LOSS)["since"]
    assert 0 < row(found, LOSS)["chance"] < 0.01
    means.iloc[REFERENCE + 5 :, 3] += 4.0
    both = report(means, loss)
    assert both.moved == (NAMES[3],)
    assert row(both, NAMES[3])["since"] < both.since == found.since  # it is the loss that counts


def test_a_loss_that_falls_is_no_alarm() -> None:
    means, loss = world()
    loss.iloc[REFERENCE + 30 :] -= 0.02
    found = report(means, loss)
    assert not found.alarm
    assert row(found, LOSS)["statistic"] < row(found, LOSS)["threshold"]


def test_heavy_tails_and_skewness_raise_no_alarm() -> None:
    """Any increasing map of a feature leaves its verdict as it is; only the range is one of values."""
    means, loss = world()
    means.iloc[REFERENCE + 50 :, 7] -= 3.0
    one, other = report(means, loss), report(np.exp(2.0 * means), loss)
    assert one.moved == other.moved == (NAMES[7],)
    both = one.streams.merge(other.streams, on="name", suffixes=("", "_other"))
    both = both[both["aspect_other"] != "range"]
    assert len(both) > 30
    np.testing.assert_allclose(both["statistic"], both["statistic_other"])


def test_an_alarm_holds_until_its_sum_has_come_down_by_a_threshold_and_a_new_one_begins_anew() -> None:
    means, loss = world(features=2)
    at, end = REFERENCE + 30, REFERENCE + 60
    loss.iloc[at:end] += 0.02
    means.iloc[at:end, 0] += 4.0
    during = report(means.iloc[:end], loss.iloc[:end])
    assert during.loss_alarm
    assert during.passed == ()
    after = report(means, loss)
    assert not after.alarm
    assert after.moved == ()
    assert after.since is None
    assert after.passed == (LOSS, NAMES[0])
    for name in after.passed:
        stream = row(after, name)
        assert stream["since"] == row(during, name)["since"] < stream["ended"]  # what fired and when is kept
        path = after.paths[name]
        # The upper sum began anew. A jump of four deviations and back is news to the lower sum and to the scale of a
        # feature, too; whatever they raised has ended as well.
        assert path[stream["ended"]] <= 0 if name == LOSS else abs(path.iloc[-1]) < 1
        before_end = path[: stream["ended"] - pd.offsets.BDay(1)]
        assert 0 < before_end.max() - before_end.iloc[-1] < 1  # in units of the threshold
        assert before_end.iloc[-1] > 1  # it holds as long, and need not come down to zero
        assert stream["now"] < 1 < stream["statistic"] / stream["threshold"]
        assert stream["shift"] > 0.5
    again = REFERENCE + 200
    loss.iloc[again:] += 0.02
    renewed = report(means, loss)
    assert renewed.loss_alarm
    assert renewed.passed == (NAMES[0],)
    assert SESSIONS[again] <= row(renewed, LOSS)["since"] == renewed.since
    assert abs(SESSIONS.get_loc(row(renewed, LOSS)["onset"]) - again) <= 15


def test_a_change_that_lasts_goes_on_holding_and_its_episode_keeps_its_name() -> None:
    """At each session after the crossing; by the threshold alone, a fourth of the worlds would be let go in between."""
    kept: list[bool] = []
    below: list[bool] = []
    for seed in range(40):
        means, loss = world(seed, features=1)
        loss.iloc[REFERENCE + 30 :] += 0.007
        path = report(means, loss).paths[LOSS]
        crossed = path[path > 1].index[:1]
        if len(crossed) and SESSIONS.get_loc(crossed[0]) < REFERENCE + LATER - 60:
            kept.append(bool((path[crossed[0] :] > 0).all()))
            below.append(bool((path[crossed[0] :] < 1).any()))
            assert (report(means, loss).since == crossed[0]) == kept[-1]
    assert len(kept) >= 30
    assert np.mean(kept) > 0.95
    assert np.mean(below) > 0.2


def test_the_same_sessions_give_the_same_report() -> None:
    means, loss = world()
    pd.testing.assert_frame_equal(report(means, loss).streams, report(means, loss).streams)


def test_units_do_not_matter() -> None:
    means, loss = world()
    means.iloc[REFERENCE + 50 :, 7] -= 3.0
    one, other = report(means, loss), report(1e-6 * means + 40.0, 1e4 * loss)
    assert one.moved == other.moved
    np.testing.assert_allclose(one.streams["statistic"], other.streams["statistic"], rtol=1e-3)


def test_a_stricter_budget_raises_every_threshold() -> None:
    means, loss = world()
    usual, strict = (
        report(means, loss, DriftPolicy(features_a_year=budget, loss_a_year=budget)).streams.set_index("name")
        for budget in (0.1, 0.01)
    )
    assert (strict["threshold"] > usual.loc[strict.index, "threshold"]).all()


@pytest.mark.parametrize("worlds", [15, pytest.param(60, marks=pytest.mark.statistics)])
def test_false_alarms_of_forty_features_together_stay_within_their_budget(worlds: int) -> None:
    """A year each of drift-free worlds, against the binomial 99 % bound of 0.1 false alarms of all features."""
    alarms = sum(bool(report(*world(seed, coefficient=0.6)).moved) for seed in range(100, 100 + worlds))
    assert alarms <= binom.ppf(0.99, worlds, false_alarm_probability(0.1, 1))


def test_a_reference_that_wanders_is_no_drift() -> None:
    """A stream that is no AR(1) process shows on its own reference how far it goes without drift."""
    means, loss = world()
    slow = np.sin(np.arange(len(SESSIONS)) / 80.0)
    rng = np.random.default_rng(1)
    means[NAMES[0]] = slow + 0.5 * rng.standard_normal(len(SESSIONS))
    found = report(means, loss)
    assert row(found, NAMES[0])["statistic"] < row(found, NAMES[0])["threshold"]
    assert not row(found, NAMES[0])["alarmed"]
    fitted = fit_autoregression(means.iloc[:REFERENCE, [0]].to_numpy().T)
    plain = replace(fitted, inflation=np.ones(1)).innovations(means.iloc[REFERENCE:, [0]].to_numpy().T)
    iid_like = threshold(0.1, len(NAMES), REFERENCE, float(fitted.coefficient[0]))
    assert run_cusum(plain).peak()[0] > iid_like  # what AR(1) whitening alone would say


def test_a_constant_reference_is_listed_and_not_judged() -> None:
    means, loss = world()
    means.iloc[:REFERENCE, 2] = 0.1
    found = report(means, loss)
    constant = row(found, NAMES[2])
    assert constant["state"] == "constant"
    assert not constant["alarmed"]
    assert np.isnan(constant["statistic"])
    assert found.paths[NAMES[2]].isna().all()
    assert not found.alarm


def test_a_short_reference_takes_the_first_sessions_that_follow() -> None:
    means, loss = world()
    loss.iloc[REFERENCE + 120 :] += 0.03
    found = report(means, loss, held_out=20)
    assert row(found, LOSS)["reference"] == 60
    judged = found.paths[LOSS].dropna().index
    assert judged[0] == SESSIONS[REFERENCE + 40]
    assert found.loss_alarm
    assert row(found, LOSS)["since"] >= SESSIONS[REFERENCE + 120]


@pytest.mark.parametrize("later", [0, 15])
def test_too_few_sessions_wait(later: int) -> None:
    means, loss = world()
    end = REFERENCE + later
    found = report(means.iloc[:end], loss.iloc[:end], held_out=20)
    assert row(found, LOSS)["state"] == "waiting"
    assert not found.alarm
    assert set(found.streams["state"][1:]) == ({"watched"} if later else {"waiting"})
    assert plot_drift(found).startswith(b"\x89PNG")


def test_no_loss_yet() -> None:
    means, _ = world()
    nothing = pd.Series(dtype=np.float64, index=pd.DatetimeIndex([]))
    found = detect_drift(
        feature_reference=means.iloc[:REFERENCE], features=means.iloc[REFERENCE:], loss_reference=nothing, loss=nothing
    )
    assert row(found, LOSS)["state"] == "waiting"
    assert set(found.streams["state"][1:]) == {"watched"}


def test_unknown_sessions_are_passed_over() -> None:
    means, loss = world()
    means.iloc[REFERENCE + 50 :, 7] -= 3.0
    means.iloc[::9] = np.nan
    found = report(means, loss)
    assert found.moved == (NAMES[7],)
    assert row(found, NAMES[7])["reference"] == int(means.iloc[:REFERENCE, 7].notna().sum())


def test_the_picture_shows_an_alarm_and_a_calm() -> None:
    means, loss = world()
    calm = plot_drift(report(means, loss))
    means.iloc[REFERENCE + 50 :, :8] -= 3.0
    wild = plot_drift(report(means, loss))
    assert calm.startswith(b"\x89PNG")
    assert wild.startswith(b"\x89PNG")
    assert calm != wild


def test_infinite_values_are_named() -> None:
    means, loss = world()
    means.iloc[REFERENCE + 5, 4] = np.inf
    with pytest.raises(MonitoringError, match=rf"infinite values in the monitored span of {NAMES[4]}"):
        report(means, loss)
    loss.iloc[REFERENCE - 5] = -np.inf
    with pytest.raises(MonitoringError, match="infinite values in the reference of loss"):
        report(world()[0], loss)


def test_contradictory_input_is_refused() -> None:
    means, loss = world()
    parts = {"loss_reference": loss.iloc[:REFERENCE], "loss": loss.iloc[REFERENCE:]}
    with pytest.raises(MonitoringError, match="differ"):
        detect_drift(feature_reference=means.iloc[:REFERENCE, 1:], features=means.iloc[REFERENCE:], **parts)
    with pytest.raises(MonitoringError, match="without overlap"):
        detect_drift(feature_reference=means.iloc[:REFERENCE], features=means.iloc[REFERENCE - 1 :], **parts)
    with pytest.raises(MonitoringError, match="in order"):
        detect_drift(feature_reference=means.iloc[:REFERENCE][::-1], features=means.iloc[REFERENCE:], **parts)
    renamed = means.rename(columns={NAMES[0]: LOSS})
    with pytest.raises(MonitoringError, match="loss stream"):
        detect_drift(feature_reference=renamed.iloc[:REFERENCE], features=renamed.iloc[REFERENCE:], **parts)
