"""What is broken off: each job as the command line starts it, in the present process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

DEFINITIONS = ("-m", "financial_assets.definitions")


@dataclass(frozen=True)
class Job:
    """One row of the matrix.

    Attributes
    ----------
    name
        As it is known.
    command
        Of which it is one call.
    work
        Makes that call and returns its exit code.
    starts
        Snapshot that it starts from.
    brings_a_session
        Whether another run goes on where a complete one ended, instead of finding nothing to do.
    moves_the_clock
        Whether it moves the market clock after it has made panel and features.
    of_a_part
        Points of one kind and part, at most, where nobody asks for another number; ``None``: all names have their own.
    """

    name: str
    command: str
    work: Callable[[], int]
    starts: str = "built"
    brings_a_session: bool = False
    moves_the_clock: bool = False
    of_a_part: int | None = None


def _dagster(*arguments: str) -> Callable[[], int]:
    def work() -> int:
        from dagster._cli import cli

        cli.main(list(arguments), prog_name="dagster")
        return 0

    return work


def _financial_assets(*arguments: str) -> Callable[[], int]:
    def work() -> int:
        from financial_assets.cli.main import main

        main.main(list(arguments), prog_name="financial-assets")
        return 0

    return work


def promote_next() -> int:
    """Put a record in the log by which the challenger has won, so that the next rollout has something to carry out."""
    from financial_assets.resources import make_resources
    from financial_assets.settings import load_settings

    ab_test = make_resources(load_settings())["ab_test"]
    with ab_test.log() as log:
        latest = log.decisions(ab_test.policy().experiment)
        (decision,) = [one for one in latest if one.moves_traffic and one.as_of == latest[-1].as_of]
        log.record_decision(replace(decision, action="promote"))
    return 0


def carry_out() -> int:
    """Apply the latest decisions: epoch, routes, aliases."""
    from financial_assets.errors import FinancialAssetsError
    from financial_assets.experiment.rollout.controller import ExperimentController
    from financial_assets.experiment.rollout.state import Rollout
    from financial_assets.resources import make_resources
    from financial_assets.settings import load_settings
    from financial_assets.workflows.decisions import take_step

    found = make_resources(load_settings())
    try:
        with found["ab_test"].log() as log:
            decisions = ExperimentController(Rollout(log, found["ab_test"].policy())).latest()
        take_step(decisions, found["models"], found["serving"], found["ab_test"])
    except FinancialAssetsError as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def jobs(replayed: int) -> dict[str, Job]:
    """All rows, by name.

    Parameters
    ----------
    replayed
        Sessions after the first data cut-off that the row ``replay`` goes up to.
    """
    replay = ("replay", "--sessions", str(replayed))
    rows = (
        Job("daily", "dagster job execute -j daily", _dagster("job", "execute", *DEFINITIONS, "-j", "daily"),
            brings_a_session=True),
        Job("replay", f"financial-assets {' '.join(replay)}", _financial_assets(*replay)),
        Job("rollout", "what the asset rollout does with the latest decisions", carry_out, starts="won"),
        Job("retrain", "dagster job execute -j retrain", _dagster("job", "execute", *DEFINITIONS, "-j", "retrain"),
            of_a_part=2),
        Job("full_pipeline", "dagster job execute -j full_pipeline",
            _dagster("job", "execute", *DEFINITIONS, "-j", "full_pipeline"), starts="empty",
            moves_the_clock=True, of_a_part=2),
    )  # fmt: skip
    return {row.name: row for row in rows}


def environment(folder: Path) -> dict[str, str]:
    """Settings of a small market whose jobs take seconds."""
    return {
        **os.environ,
        "FINANCIAL_ASSETS_HOME": str(folder / "state"),
        "DAGSTER_HOME": str(folder / "dagster"),
        "PRICE_SOURCE": "simulated",
        "TICKERS": "AAA,BBB",
        "SIMULATED_SESSIONS": "700",
        "REPLAY_SESSIONS": "15",
        "REPLAY_WORKERS": "1",  # one request after the other, so that boundaries come in the same order
        "MAX_EPOCHS": "1",
        "PROGRESS": "false",
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # the other one has threads, which a forked process would lack
    }
