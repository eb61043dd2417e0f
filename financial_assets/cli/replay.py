"""The command ``replay``: out-of-sample sessions through the gateway, as load and as evidence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from financial_assets.cli import examples, open_configured

if TYPE_CHECKING:
    from financial_assets.experiment.replay.counts import ReplayReport


@click.command(epilog=examples("replay", "replay --sessions 20", "replay --rate 50 --mode split", "replay --decide"))
@click.option(
    "--sessions", type=click.IntRange(min=0), default=0, help="Sessions after the first data cut-off; 0: all."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=None,
    help="Requests in flight at most; default: REPLAY_WORKERS, with --rate 64.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True, max=10_000),
    default=None,
    help="Open loop: requests per second at scheduled instants, answered or not; latency counts from the instant. "
    "Default: closed loop, each worker waits for its answer.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "uniform"]),
    default=None,
    help="Instants of --rate: exponential gaps (default; seeded by SEED) or equal ones.",
)
@click.option(
    "--mode",
    type=click.Choice(["split", "shadow", "paired"]),
    default=None,
    help="split: routed by the experiment. shadow: the champion answers, the challenger gets copies. paired: every "
    "arm scores the same bars. Default: split and paired.",
)
@click.option(
    "--decide", "deciding", is_flag=True, help="Decide after every session and carry it out: promote, roll back, step."
)
def replay(
    sessions: int, workers: int | None, rate: float | None, arrivals: str | None, mode: Any, deciding: bool
) -> None:
    """Send out-of-sample sessions through the gateway.

    They are load for the plane and evidence for the experiment. A replay continues where an earlier one stopped.
    """
    if arrivals is not None and rate is None:
        raise click.UsageError("--arrivals is about the instants of --rate: give a rate too")
    if rate is not None and mode == "paired":
        raise click.UsageError("--rate is about routed requests; --mode paired sends none")
    if deciding and mode is not None:
        raise click.UsageError("--decide needs routed requests and pairs: leave out --mode")
    installation = open_configured()
    from financial_assets.experiment.replay.open_loop import OpenLoop
    from financial_assets.workflows.replay import decide_between_sessions, run_replay

    market, serving, ab_test = installation.market, installation.serving, installation.ab_test
    load = None if rate is None else OpenLoop(rate, "uniform" if arrivals == "uniform" else "poisson", market.seed)
    decide = partial(decide_between_sessions, market, installation.models, serving, ab_test) if deciding else None
    try:
        report = run_replay(
            market, serving, ab_test, sessions=sessions, workers=workers, mode=mode, load=load, deciding=decide
        )
    except KeyboardInterrupt:
        message = "all answers are in the log; the same command continues where this one stopped"
        raise KeyboardInterrupt(message) from None
    for line in report_lines(report, rate):
        click.echo(line)
    if clock := market.clock_gap().sentence:
        click.echo(clock)


def report_lines(report: ReplayReport, rate: float | None) -> list[str]:
    """What a replay did, one sentence per line."""
    lines = [
        f"{report.sessions} sessions due, {report.worked} had something to send: {report.sent:,} routed requests "
        f"({report.failed} failed, {report.unattributed} unattributed), {report.direct:,} paired; {report.wall_s:.1f} s"
    ]
    if report.unanswered:
        lines.append(
            f"no model answered {report.unanswered:,} times; {report.repeated:,} requests were sent again when all "
            f"arms answered, after {report.waited_s:.1f} s of waiting"
        )
    if report.decisions:
        lines.append(f"{report.decisions} decisions, {report.epochs} weight epochs opened by them")
    if report.load is not None and report.load.requests:
        load = report.load
        lines += [
            f"open loop, {rate:g} requests/s: {load.late:,} of {report.sent:,} could not be sent in time (10 ms), "
            f"the latest {1000 * load.longest_delay_s:.0f} ms; at most {report.most_in_flight} were in flight",
            *(
                [f"{load.sent_again:,} got no answer at their instant and were sent again; they are in no latency"]
                if load.sent_again
                else []
            ),
            f"latency from the scheduled instant  {_milliseconds(load.from_schedule)}",
            f"service time from sending           {_milliseconds(load.service)}",
        ]
    return lines


def _milliseconds(values: Any) -> str:
    return ", ".join(f"{name} {1000 * value:.1f}" for name, value in values.items()) + " ms"
