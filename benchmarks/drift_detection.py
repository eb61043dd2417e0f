"""False alarms per year, and delays, of the loss's drift check, beside rivals on the same worlds.

    python benchmarks/drift_detection.py [--worlds 100 --seed 0]

Whole markets without drift are drawn, a logistic model is fitted, calibrated and served on each, and one year of its
loss is judged by the real check, by the same check as it would be without its safeguards, and by two customs: PSI above
0.2 and a Kolmogorov-Smirnov test at 5 %, both of the last 60 sessions against the reference. An alarm that no longer
holds counts as one; how many years end with one that holds is shown beside it. Then markets that turn: how soon that is
found, and whether the alarm holds afterwards. Then the delays after shifts of known size, and time between false
alarms, of single streams. Features have a benchmark of their own: ``benchmarks/drift``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from drift_loss.markets import REFERENCE, YEAR, World, garch, long_memory, redrawn, served, simulated
from drift_loss.single import LATER, holding, single_streams
from rich.progress import track
from scipy.stats import binomtest

from financial_assets.features.graph import FeatureGraph
from financial_assets.models.answers import Answers
from financial_assets.monitoring.drift.cusum import fit_autoregression, run_cusum
from financial_assets.monitoring.drift.detection import LOSS, DriftPolicy, DriftReport, detect_drift
from financial_assets.monitoring.drift.samples import kolmogorov_smirnov, population_stability
from financial_assets.monitoring.drift.streams import cross_fitted_excess_loss, daily_excess_loss
from financial_assets.monitoring.drift.thresholds import false_alarm_probability, threshold


def verdicts(world: World) -> dict[str, bool]:
    """Who alarms within the year."""
    reference = cross_fitted_excess_loss(world.held_out, world.majority_up)
    loss, report = excess(world, world.served), loss_report(world, YEAR)
    nats, nats_later = (in_nats(world, part) for part in (world.held_out, world.served))
    windows = [loss.to_numpy()[end - 60 : end] for end in range(60, len(loss) + 1, 3)]
    far = 1.358 * np.sqrt(1 / len(reference) + 1 / 60)
    return {
        "loss": report.loss_alarm or LOSS in report.passed,
        "loss, holds at the end": report.loss_alarm,
        "loss, AR(1) alone": plain_alarm(nats, nats_later),
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


def plain_alarm(reference: np.ndarray, later: np.ndarray) -> bool:
    """The prewhitened sum of the losses themselves, without long-run variance."""
    fitted = replace(fit_autoregression(reference[None]), inflation=np.ones(1))
    bound = threshold(DriftPolicy().loss_a_year, 1, len(reference), float(fitted.coefficient[0]), sides=1)
    return bool(run_cusum(fitted.innovations(later[None])).upper.max() > bound)


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
