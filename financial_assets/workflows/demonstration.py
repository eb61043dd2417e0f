"""See it decide: pairs of models whose difference is known, judged on the bundled prices by the real graph and gateway.

Each pair has a state folder of its own. Its two models are external models whose risk heads are known formulas
(``models.external.risk_heads``); they answer the same direction. The whole graph is run again and again, two months
of sessions further each time, until its own rule has come to a verdict.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import ExperimentError, LogNotFoundError

if TYPE_CHECKING:
    import pandas as pd

    from financial_assets.experiment.decision.record import Decision
    from financial_assets.market.panel import PricePanel
    from financial_assets.models.external.risk_heads import RiskHead

HORIZON = 252
LOOKS = 6
_EVALUATION_SHARE = 0.2
_TICKERS = ("AAPL", "MSFT")
_EXPERIMENT = "demonstration-experiment"
_SEEDS = (1, 2)
_DRAWN_SESSIONS = 40
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class PlantedPair:
    """Two models, and what a judge must make of them.

    Attributes
    ----------
    name
        Of its folder.
    champion, challenger
        Names of planted models.
    metric, plausible_effect
        Of the test: the largest daily difference that one may reasonably hope for between these two.
    verdict
        What it must come to, as :func:`verdict_of` says it.
    why
        What is known of the two beforehand.
    """

    name: str
    champion: str
    challenger: str
    metric: str
    plausible_effect: float
    verdict: str
    why: str


PROMOTED, FUTILE, ROLLED_BACK = "promoted", "ended by futility", "rolled back by evidence"

PAIRS = (
    PlantedPair(
        *("better", "constant", "har", "qlike", 0.3, PROMOTED),
        why="HAR terms know that large moves follow large ones; a constant volatility does not",
    ),
    PlantedPair(
        *("equal", "first-draw", "second-draw", "pinball", 0.003, FUTILE),
        why=f"two draws of the weights of the last {_DRAWN_SESSIONS} days: they know the same and say it differently",
    ),
    PlantedPair(
        *("worse", "har", "constant", "qlike", 0.3, ROLLED_BACK),
        why="the first pair with its roles exchanged",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What became of a pair.

    Attributes
    ----------
    pair
        The pair.
    said
        ``promoted``, ``ended by futility``, ``rolled back by evidence``, or what else it came to.
    decision
        The record.
    record, report
        Its file, and the page that was written with it.
    """

    pair: PlantedPair
    said: str
    decision: Decision
    record: Path
    report: Path

    @property
    def as_planted(self) -> bool:
        """Whether the judge found what had been planted."""
        return self.said == self.pair.verdict


def planted_heads(panel: PricePanel, cutoff: pd.Timestamp) -> Mapping[str, Callable[[], RiskHead]]:
    """Name of a planted model -> its head, fitted on sessions up to ``cutoff`` and on nothing later."""
    from financial_assets.models.external.risk_heads import (
        ConstantVolatility,
        HarTerms,
        RiskHead,
        WeightedVolatility,
    )

    one, other = _SEEDS
    # The level of the constant does not matter: its multiples are fitted.
    return {
        "constant": lambda: RiskHead.fitted(ConstantVolatility(0.02), panel, cutoff),
        "har": lambda: RiskHead.fitted(HarTerms.fitted(panel, cutoff), panel, cutoff),
        "first-draw": lambda: RiskHead.fitted(WeightedVolatility.drawn(_DRAWN_SESSIONS, one), panel, cutoff),
        "second-draw": lambda: RiskHead.fitted(WeightedVolatility.drawn(_DRAWN_SESSIONS, other), panel, cutoff),
    }


def plant(pair: PlantedPair, folder: Path) -> None:
    """Write a pair's two models and its rollout policy: ``models/`` and ``policy.yaml``; nothing where they are.

    What a policy names, a running experiment rests on: neither is written twice.
    """
    if (folder / "policy.yaml").exists():
        return
    from financial_assets.market.panel import build_panel
    from financial_assets.market.sources.sample import SamplePrices
    from financial_assets.models.external.card import ExternalCard
    from financial_assets.models.external.writing import write_external_model

    # As the graph reads them: of these bars it leaves none out.
    panel = build_panel(SamplePrices().fetch(_TICKERS).prices)
    cutoff = panel.sessions[int(len(panel.sessions) * (1 - _EVALUATION_SHARE)) - 1]  # where the graph puts its own
    heads = planted_heads(panel.until(cutoff), cutoff)
    for name in (pair.champion, pair.challenger):
        card = ExternalCard(
            name=name,
            data_cutoff=cutoff.date(),
            licence="as this project",
            description=f"risk head {name} of the demonstration",
        )
        write_external_model(heads[name](), card, folder / "models")
    policy = {
        "experiment": _EXPERIMENT,
        "champion": {"variant": pair.champion, "weight": 50},
        "challengers": [{"variant": pair.challenger, "weight": 50}],
        "test": {
            "metric": pair.metric,
            "plausible_effect": pair.plausible_effect,
            "horizon_sessions": HORIZON,
            "looks": LOOKS,
        },
        # What is shown is evidence: a machine that is busy with other things must not end it.
        "guardrails": {"latency_objective_s": _PATIENCE_S},
    }
    atomic_write_text(folder / "policy.yaml", yaml.safe_dump(policy, sort_keys=False))


def judge(pair: PlantedPair, folder: Path, progress: Callable[[str], None], environment: Mapping[str, str]) -> Verdict:
    """Run the graph over a pair until its test ends; one that has ended is read from its log.

    Parameters
    ----------
    pair
        Which models.
    folder
        Of this pair; models, policy, state and the output of the graph lie in it.
    progress
        Is told how far it has come.
    environment
        Variables that the graph's process has beside its settings; none of them is a setting.

    Raises
    ------
    ExperimentError
        The graph fails, or no verdict is reached by the horizon.
    """
    plant(pair, folder)
    step = HORIZON // LOOKS
    for look in range(1, LOOKS + 1):
        if (verdict := _verdict(pair, folder)) is not None:
            return verdict
        progress(
            f"{pair.name}: {pair.challenger} against {pair.champion}, sessions up to the look on day {look * step}"
        )
        # The outcome of the last session is known one session later.
        _run_graph(folder, environment, sessions=look * step + 1)
    if (verdict := _verdict(pair, folder)) is None:
        raise ExperimentError(f"{pair.name}: no verdict by the horizon of {HORIZON} sessions, see {_log_of(folder)}")
    return verdict


def verdict_of(decision: Decision) -> str | None:
    """In words, what a decision ends a test with; ``None`` where it goes on."""
    by_traffic = any(rail.fired and rail.action == "rollback" for rail in decision.guardrails)
    if decision.action == "promote":
        return PROMOTED
    if decision.action == "rollback":
        return "rolled back by a guardrail" if by_traffic else ROLLED_BACK
    if not decision.ended:
        return None
    return FUTILE if decision.looks and decision.looks[-1].outcome == "futile" else "ended without a winner"


def stop(folder: Path, environment: Mapping[str, str]) -> None:
    """End the serving plane of a pair, if one runs."""
    _command(folder, ["stop"], environment)


def _verdict(pair: PlantedPair, folder: Path) -> Verdict | None:
    from financial_assets.monitoring.metrics import open_log

    state = folder / "state"
    try:
        with open_log(f"sqlite:///{state / 'predictions.db'}") as log:
            decisions = log.decisions(_EXPERIMENT)
    except LogNotFoundError:
        return None
    for decision in decisions:
        if (said := verdict_of(decision)) is not None:
            reports = state / "reports"
            record = reports / "decisions" / f"{decision.as_of}-{decision.digest[:12]}.json"
            return Verdict(pair, said, decision, record, reports / "ab-evaluation.html")
    return None


def _run_graph(folder: Path, environment: Mapping[str, str], *, sessions: int) -> None:
    settings = {
        "VARIANTS": "linear",  # the graph wants one of its own; it is scored in pairs and gets no requests
        "EXTERNAL_MODELS": str(folder / "models"),
        "ROLLOUT_POLICY": str(folder / "policy.yaml"),
        "TICKERS": ",".join(_TICKERS),
        "EVALUATION_SHARE": str(_EVALUATION_SHARE),
        "REPLAY_SESSIONS": str(sessions),
        "PROGRESS": "false",
    }
    _command(folder, ["run"], {**environment, **settings})


def _command(folder: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
    """A command of the command line in a process of its own, with this environment and no other.

    A ``.env`` of the current folder and Dagster's instance belong to other state.
    """
    instance = folder / "dagster"
    instance.mkdir(parents=True, exist_ok=True)
    # Without queue, sensors and daemon a run needs nothing of the repository's instance.
    atomic_write_text(instance / "dagster.yaml", "telemetry:\n  enabled: false\n")
    variables = {**environment, "DAGSTER_HOME": str(instance), "FINANCIAL_ASSETS_HOME": str(folder / "state")}
    log = _log_of(folder)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", "financial_assets", *arguments],
            cwd=instance,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise ExperimentError(f"financial-assets {' '.join(arguments)} failed, see {log}: {' / '.join(last)}")


def _log_of(folder: Path) -> Path:
    return folder / "output.log"
