"""False alarms a year and delays of the drift check, beside rivals on the same worlds.

    python benchmarks/drift_detection.py [--worlds 100 --seed 0]

Whole markets without drift are drawn, a logistic model is fitted, calibrated and served on each, and one year of it is
judged by the real check (features and loss), by the same check as it would be without its safeguards, and by two
customs: PSI above 0.2 and a Kolmogorov-Smirnov test at 5 %, both of the last 60 sessions against the reference, of the
loss alone. An alarm that no longer holds counts as one; how many years end with one that holds is shown beside it.
Then markets that turn: how soon that is found, and whether the alarm holds afterwards. Then the delays after shifts of
known size, and time between false alarms, of single streams.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from rich.progress import track
from scipy.signal import lfilter
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market import calendar
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.answers import Answers
from financial_assets.models.calibration import fit_platt
from financial_assets.models.dataset import chronological_blocks
from financial_assets.monitoring.drift.cusum import Autoregression, fit_autoregression, run_cusum
from financial_assets.monitoring.drift.detection import LOSS, DriftPolicy, DriftReport, detect_drift
from financial_assets.monitoring.drift.samples import kolmogorov_smirnov, population_stability
from financial_assets.monitoring.drift.streams import cross_fitted_excess_loss, daily_excess_loss, feature_means
from financial_assets.monitoring.drift.thresholds import SESSIONS_A_YEAR, false_alarm_probability, threshold

REFERENCE, YEAR = 1500, SESSIONS_A_YEAR
TICKERS = ("AAA", "BBB")
CALENDAR = [feature.name for feature in CATALOGUE if feature.family == "calendar"]
DAYS = calendar.sessions(dt.date(2005, 1, 3), dt.date(2012, 12, 31))[: REFERENCE + YEAR + 1]
LATER = (20, 60, 120)
"""Sessions after an alarm at which it is looked at again."""
BLOCK = 63
"""Sessions that stay together when real bars are drawn anew."""


@dataclass(frozen=True)
class World:
    """Features by session, and a model's answers: on its calibrate block, and as served."""

    means: pd.DataFrame
    held_out: Answers
    served: Answers
    majority_up: float

    def platt(self, answers: Answers) -> np.ndarray:
        """Probabilities, calibrated on the calibrate block."""
        scaling = fit_platt(self.held_out.logit, self.held_out.up, self.held_out.session)
        return expit(scaling.scale * answers.logit + scaling.bias)


def simulated(rng: np.random.Generator, shift: int | None = None, signal: float = 0.2) -> PricePanel:
    """The package's own market."""
    market = SimulatedMarket(
        sessions=len(DAYS),
        seed=int(rng.integers(1 << 31)),
        signal_strength=signal,
        regime_shift_session=shift,
        start=DAYS[0].date(),
    )
    return build_panel(SimulatedPrices(market).fetch(TICKERS).prices)


def garch(rng: np.random.Generator) -> PricePanel:
    """A market factor and two stocks, each GARCH(1, 1) with Student-t innovations of 5 degrees of freedom."""
    warm = 500
    shocks = rng.standard_t(5, (3, len(DAYS) + warm)) / np.sqrt(5 / 3)
    sizes, variance = np.empty_like(shocks), np.ones(3)
    for at in range(shocks.shape[1]):
        sizes[:, at] = np.sqrt(variance)
        variance = 0.02 + (0.08 * shocks[:, at] ** 2 + 0.90) * variance
    return factor_market(rng, shocks[:, warm:], sizes[:, warm:])


def long_memory(rng: np.random.Generator) -> PricePanel:
    """Log volatility of three speeds, half-lives 5, 50 and 250 sessions: as good as long memory for years."""
    level, warm = np.zeros((3, len(DAYS))), 1000
    for half_life, spread in ((5, 0.2), (50, 0.25), (250, 0.3)):
        coefficient = 0.5 ** (1 / half_life)
        shocks = spread * np.sqrt(1 - coefficient**2) * rng.standard_normal((3, len(DAYS) + warm))
        level += np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))[:, warm:]
    return factor_market(rng, rng.standard_normal((3, len(DAYS))), np.exp(0.8 * level[0] + 0.6 * level))


def factor_market(rng: np.random.Generator, shocks: np.ndarray, sizes: np.ndarray) -> PricePanel:
    """Bars of two stocks: row 0 moves both, rows 1 and 2 one each."""
    shape = (2, len(DAYS))
    moves = 0.011 * (shocks[0] * sizes[0] + shocks[1:] * sizes[1:])
    sigma = 0.011 * np.sqrt(sizes[0] ** 2 + sizes[1:] ** 2)
    close = np.log(50.0) + np.cumsum(moves, axis=1)
    opening = np.roll(close, 1, axis=1) + 0.4 * sigma * rng.standard_normal(shape)
    opening[:, 0] = close[:, 0]
    high = np.maximum(opening, close) + 0.4 * sigma * np.abs(rng.standard_normal(shape))
    low = np.minimum(opening, close) - 0.4 * sigma * np.abs(rng.standard_normal(shape))
    slow = np.asarray(lfilter([1.0], [1.0, -0.9], 0.15 * rng.standard_normal(shape), axis=1))
    volume = slow + 0.5 * np.log(sigma / 0.015) + 0.25 * rng.standard_normal(shape)
    return panel_of(TICKERS, opening, high, low, close, volume)


def panel_of(names: tuple[str, ...], *logs: np.ndarray) -> PricePanel:
    """A panel of log open, high, low, close and log relative volume, each ``[ticker, session]``."""
    opening, high, low, close, volume = (np.exp(values).ravel() for values in logs)
    prices = {"open": opening, "high": high, "low": low, "close": close, "adj_close": close}
    keys = {"date": np.tile(DAYS, len(names)), "ticker": np.repeat(names, len(DAYS))}
    return build_panel(pd.DataFrame({**keys, **prices, "volume": np.round(5e6 * volume)}))


def redrawn() -> Callable[[np.random.Generator], PricePanel]:
    """The bundled bars of AAPL and MSFT in blocks of a quarter, drawn with replacement, both stocks together."""
    panel = build_panel(SamplePrices().fetch(["AAPL", "MSFT"]).prices)
    opening, high, low, close, volume = np.log(np.maximum(panel.values[:, :5].astype(np.float64), 1e-9)).swapaxes(0, 1)
    usual = pd.DataFrame(volume.T).rolling(252, center=True, min_periods=60).median().to_numpy().T
    parts = (opening[:, 1:] - close[:, :-1], *(x[:, 1:] - opening[:, 1:] for x in (high, low, close)))
    parts = (*parts, (volume - usual)[:, 1:])

    def draw(rng: np.random.Generator) -> PricePanel:
        starts = rng.integers(0, parts[0].shape[1] - BLOCK + 1, len(DAYS) // BLOCK + 1)
        days = (starts[:, None] + np.arange(BLOCK)).ravel()[: len(DAYS)]
        gap, up, down, body, traded = (part[:, days] for part in parts)
        last = np.log(50.0) + np.cumsum(gap + body, axis=1)
        first = last - body
        return panel_of(panel.tickers, first, first + up, first + down, last, traded)

    return draw


def served(panel: PricePanel, graph: FeatureGraph, rng: np.random.Generator) -> World:
    """A logistic model of thirty features, fitted on the fit block; its answers on the calibrate block and after."""
    features = compute_panel(panel, graph)
    outcome = next_session_return(panel)
    known = features.valid & np.isfinite(outcome)
    blocks = chronological_blocks(REFERENCE, int(np.argmax(features.valid.any(axis=0))))
    usable = [place for place, name in enumerate(features.names) if name not in CALENDAR]
    chosen = rng.choice(usable, 30, replace=False)
    values = features.values[:, chosen, :].transpose(0, 2, 1)
    sessions = np.broadcast_to(panel.sessions.to_numpy(), known.shape)

    def rows(span: range) -> np.ndarray:
        inside = np.zeros_like(known)
        inside[:, span.start : span.stop] = known[:, span.start : span.stop]
        return inside

    fit = rows(blocks.fit)
    centre, spread = values[fit].mean(axis=0), values[fit].std(axis=0) + 1e-9
    up = outcome > 0
    model = LogisticRegression(C=0.02).fit(np.clip((values[fit] - centre) / spread, -5, 5), up[fit])

    def answers(span: range) -> Answers:
        at = rows(span)
        order = np.argsort(sessions[at], kind="stable")
        logit = model.decision_function(np.clip((values[at] - centre) / spread, -5, 5))[order]
        ones = np.ones(len(order))
        names = np.broadcast_to(np.array(panel.tickers)[:, None], known.shape)[at][order]
        # Only the direction is watched; what the other heads would answer is not looked at.
        return Answers(
            session=sessions[at][order],
            ticker=names,
            logit=logit,
            multiples=np.ones((len(order), 5)),
            multiples_5d=np.ones((len(order), 5)),
            score=ones,
            outcome=outcome[at][order],
            outcome_5d=ones,
            excess=ones,
            volatility=np.ones((len(order), 2)),
        )

    means = feature_means(features).drop(columns=CALENDAR)
    means = means[means.index >= panel.sessions[blocks.fit.start]]
    return World(means, answers(blocks.calibrate), answers(range(REFERENCE, len(DAYS))), float(up[fit].mean()))


def verdicts(world: World) -> dict[str, bool]:
    """Who alarms within the year."""
    cut = DAYS[REFERENCE - 1]
    reference = cross_fitted_excess_loss(world.held_out, world.majority_up)
    loss = excess(world, world.served)
    before, later = world.means[world.means.index <= cut], world.means[world.means.index > cut]
    report = detect_drift(feature_reference=before, features=later, loss_reference=reference, loss=loss)
    nats, nats_later = (in_nats(world, part) for part in (world.held_out, world.served))
    windows = [loss.to_numpy()[end - 60 : end] for end in range(60, len(loss) + 1, 3)]
    far = 1.358 * np.sqrt(1 / len(reference) + 1 / 60)
    return {
        "loss": report.loss_alarm or LOSS in report.passed,
        "loss, holds at the end": report.loss_alarm,
        "features": bool(report.moved) or bool({*report.passed} - {LOSS}),
        "features, hold at the end": bool(report.moved),
        "loss, AR(1) alone": plain_alarm(nats[None], nats_later[None], sides=1),
        "features, AR(1) alone": plain_alarm(before.to_numpy(np.float64).T, later.to_numpy(np.float64).T, sides=2),
        "loss, PSI > 0.2": any(population_stability(reference.to_numpy(), window) > 0.2 for window in windows),
        "loss, KS at 5 %": any(kolmogorov_smirnov(reference.to_numpy(), window) > far for window in windows),
    }


def excess(world: World, answers: Answers) -> pd.Series:
    return daily_excess_loss(answers.session, world.platt(answers), answers.up, world.majority_up)


def in_nats(world: World, answers: Answers) -> np.ndarray:
    """Excess loss by session, not measured by its stake, the reference answered with its own calibration."""
    probability = world.platt(answers)
    chance = np.where(answers.up, probability, 1 - probability)
    usual = np.where(answers.up, world.majority_up, 1 - world.majority_up)
    return pd.Series(np.log(usual / chance)).groupby(answers.session).mean().to_numpy()


def plain_alarm(reference: np.ndarray, later: np.ndarray, sides: int) -> bool:
    """The prewhitened sums of the values themselves, without long-run variance."""
    fitted = replace(fit_autoregression(reference), inflation=np.ones(len(reference)))
    sums = run_cusum(fitted.innovations(later))
    peaks = (sums.larger if sides == 2 else sums.upper).max(axis=1)
    budget = DriftPolicy().features_a_year
    bounds = [
        threshold(budget, len(reference), int(count), float(coefficient), sides=sides)
        for count, coefficient in zip(fitted.sessions, fitted.coefficient, strict=True)
    ]
    return bool((peaks > np.array(bounds)).any())


def false_alarms(worlds: int, seed: int) -> None:
    """Table: kind of world by detector."""
    graph = FeatureGraph()
    kinds = {"simulated": simulated, "GARCH-t": garch, "long memory": long_memory, "real, redrawn": redrawn()}
    allowed = false_alarm_probability(DriftPolicy().loss_a_year, 1)
    print(f"Years with a false alarm, %, {worlds} years each [95 % Wilson]; budget of each row {100 * allowed:.1f} %")
    found: dict[str, pd.DataFrame] = {}
    for number, (kind, draw) in enumerate(kinds.items()):
        rngs = [np.random.default_rng([seed, number, world]) for world in range(worlds)]
        found[kind] = pd.DataFrame([verdicts(served(draw(rng), graph, rng)) for rng in track(rngs, kind)])
    print(f"{'':<26}" + "".join(f"{kind:>18}" for kind in found))
    for name in next(iter(found.values())).columns:
        print(f"{name:<26}" + "".join(f"{interval(frame[name]):>18}" for frame in found.values()))


def interval(alarms: pd.Series) -> str:
    count = int(alarms.sum())
    low, high = binomtest(count, len(alarms)).proportion_ci(0.95, "wilson")
    return f"{100 * count / len(alarms):.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def turned_market(worlds: int, seed: int) -> None:
    """The simulated market goes against what was learnt, 20 sessions after the cut-off."""
    graph, begin = FeatureGraph(), 20
    for signal in (0.2, 0.6):
        delays: list[float] = []
        held: dict[int, list[bool]] = {later: [] for later in LATER}
        above: dict[int, list[bool]] = {later: [] for later in LATER}
        for number in track(range(worlds), f"turned signal {signal}"):
            rng = np.random.default_rng([seed, 99, number])
            world = served(simulated(rng, REFERENCE + begin, signal), graph, rng)
            path = loss_report(world, YEAR).paths[LOSS].to_numpy()
            beyond = np.flatnonzero(path > 1)
            delays.append(float(beyond[0] - begin + 1) if len(beyond) else float("inf"))
            for later in LATER:
                if len(beyond) and begin <= beyond[0] < len(path) - later:
                    held[later].append(loss_report(world, int(beyond[0]) + later + 1).loss_alarm)
                    above[later].append(bool(path[beyond[0] + later] > 1))
        waited = np.array(delays)
        within = 100 * np.mean((waited > 0) & (waited <= 60))
        print(
            f"simulated, signal {signal} turned: loss alarm after {np.median(waited):.0f} sessions (median), "
            f"{within:.0f} % within 60"
        )
        for later in LATER:
            print(
                f"    {later} sessions after it the alarm holds in {interval(pd.Series(held[later]))} % of "
                f"{len(held[later])} worlds; the sum is above its threshold in {interval(pd.Series(above[later]))} %"
            )


def loss_report(world: World, sessions: int) -> DriftReport:
    """The report as it is so many sessions after the cut-off, of the loss and one feature for form's sake."""
    return detect_drift(
        feature_reference=world.means.iloc[:-YEAR, :1],
        features=world.means.iloc[-YEAR:, :1],
        loss_reference=cross_fitted_excess_loss(world.held_out, world.majority_up),
        loss=excess(world, world.served).iloc[:sessions],
    )


def single_streams(seed: int) -> None:
    """Time between false alarms, and delays after a shift in the stream's own standard deviations."""
    print("One Gaussian stream                        bound  sessions to a    year with   delay in sessions at")
    print("                                                  false alarm      one, %      .5 / 1 / 2 sd")
    zero, one = np.zeros(1000), np.ones(1000)
    exact = Autoregression(zero, zero, one, one, one, zero, zero)
    cases = [("iid, known reference", 0, 0.0, 10.0), ("AR(.3), 250 sessions", 250, 0.3, 8.75)]
    for reference in (60, 120, 250, 500, 1000):
        bound = threshold(0.1, 1, reference, 0.3)
        cases.append((f"AR(.3), {reference} sessions, 0.1 a year", reference, 0.3, bound))
    for name, reference, coefficient, bound in track(cases, "single streams"):
        rng = np.random.default_rng([seed, reference])
        times: list[np.ndarray] = []
        for shift, length in ((0.0, 5000), (0.5, 2000), (1.0, 2000), (2.0, 500)):
            shocks = rng.standard_normal((1000, reference + length))
            shocks[:, 0] /= np.sqrt(1 - coefficient**2)
            values = np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))
            values[:, reference:] += shift / np.sqrt(1 - coefficient**2)
            fitted = fit_autoregression(values[:, :reference]) if reference else exact
            beyond = run_cusum(fitted.innovations(values[:, reference:])).larger > bound
            times.append(np.where(beyond.any(axis=1), beyond.argmax(axis=1), length) + 1)
        quiet, *delays = times
        shown = " / ".join(f"{delay.mean():.0f}" for delay in delays)
        capped = ">" if (quiet > 5000).any() else " "
        print(
            f"{name:<42} {bound:5.1f}  {capped}{quiet.mean():9.0f}  {100 * np.mean(quiet <= YEAR):10.1f}      {shown}"
        )


def holding(seed: int) -> None:
    """How long alarms hold by three rules: without a change, and with one from the first session on."""
    print("AR(.3), 250 sessions, 0.1 a year: whose alarm holds, %   by the check   back at zero   below the threshold")
    bound = threshold(0.1, 1, 250, 0.3)
    for shift in (0.0, 0.5, 1.0, 2.0):
        rng = np.random.default_rng([seed, 250])
        shocks = rng.standard_normal((4000, 250 + YEAR))
        shocks[:, 0] /= np.sqrt(1 - 0.3**2)
        values = np.asarray(lfilter([1.0], [1.0, -0.3], shocks, axis=1))
        values[:, 250:] += shift / np.sqrt(1 - 0.3**2)
        innovations = fit_autoregression(values[:, :250]).innovations(values[:, 250:])
        plain = run_cusum(innovations).upper
        renewed = run_cusum(innovations, bounds=np.full(len(innovations), bound)).upper
        crossed = (plain > bound).argmax(axis=1)
        alarmed = (plain > bound).any(axis=1)
        held = [latched(side, bound) for side in (renewed, plain)] + [plain > bound]
        if shift == 0.0:
            shares = "".join(f"{100 * np.mean(state[:, -1]):15.1f}" for state in held)
            print(f"no change: years with an alarm {100 * alarmed.mean():.1f}, ending with one {shares}")
        for later in LATER if shift else ():
            seen = np.flatnonzero(alarmed & (crossed + later < YEAR))
            shares = "".join(f"{100 * np.mean(state[seen, crossed[seen] + later]):15.1f}" for state in held)
            print(f"shift {shift} sd, {later:3} sessions after it ({len(seen)} worlds)       {shares}")


def latched(side: np.ndarray, bound: float) -> np.ndarray:
    """Where a sum has been beyond its threshold and not at zero since, bool ``[world, session]``."""
    state, states = np.zeros(len(side), dtype=bool), np.empty(side.shape, dtype=bool)
    for at in range(side.shape[1]):
        state = (state | (side[:, at] > bound)) & (side[:, at] > 0)
        states[:, at] = state
    return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=100, help="markets of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    false_alarms(arguments.worlds, arguments.seed)
    turned_market(max(1, arguments.worlds // 4), arguments.seed)
    single_streams(arguments.seed)
    holding(arguments.seed)


if __name__ == "__main__":
    main()
