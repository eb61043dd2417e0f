"""Experiments on one simulated market, one training and one serving plane: begun, replayed and decided as in use."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import yaml
from click.testing import Result
from mlflow.tracking import MlflowClient

from financial_assets.assets.evaluation import ab_evaluation, predictions
from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.assets.rollout import rollout
from financial_assets.assets.training import reference_models
from financial_assets.definitions import artifact_assets, experiment, model_assets, predictor_assets
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.resources import make_resources
from financial_assets.serving.target import ExperimentStatus
from financial_assets.settings import Settings, load_settings
from financial_assets.workflows.decisions import BaselinePredictions, Step, decide_as_of, take_step, update_allocation
from financial_assets.workflows.replay import run_replay
from tests.in_process import financial_assets
from tests.waiting import run

__all__ = ["ROOT", "World", "environment", "policy"]

ROOT = Path(__file__).parents[2]
_KILLED = """
import os, signal
from financial_assets.resources import make_resources
from financial_assets.workflows import decisions as conduct
from financial_assets.settings import load_settings
assert hasattr(conduct, "{part}")
conduct.{part} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
found = make_resources(load_settings())
with found["ab_test"].log() as log:
    decisions = log.decisions(found["ab_test"].policy().experiment)[-1:]
conduct.take_step(decisions, found["models"], found["serving"], found["ab_test"])
"""


def policy(name: str, champion: str, *challengers: str, **sections: Mapping[str, object]) -> dict[str, Any]:
    """A rollout policy as its file holds it: half of the requests are the champion's, unless it climbs a ladder.

    Variants that are not named are shadows. A busy machine is no reason to roll back, unless ``sections`` say so.
    """
    share = 50 // len(challengers)
    return {
        "experiment": f"{name}-experiment",
        "champion": {"variant": champion, "weight": 100 - share * len(challengers)},
        "challengers": [{"variant": variant, "weight": share} for variant in challengers],
        "shadow": sorted({"baseline", "enhanced", "lightweight"} - {champion, *challengers}),
        "guardrails": {"latency_objective_s": 5.0},
        **sections,
    }


@dataclass
class World:
    """One experiment; all worlds of a home share prices, models, plane and log, and take turns.

    Parameters
    ----------
    environment
        Of the processes; names the home.
    policy_file
        Its policy.
    """

    environment: Mapping[str, str]
    policy_file: Path
    history: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, environment: Mapping[str, str], rules: dict[str, Any], folder: Path) -> World:
        """A world with these rules."""
        path = folder / f"{rules['experiment']}.yaml"
        path.write_text(yaml.safe_dump(rules))
        return cls({**environment, "ROLLOUT_POLICY": str(path)}, path)

    @cached_property
    def resources(self) -> dict[str, Any]:
        values = {key.lower(): value for key, value in self.environment.items()}
        return make_resources(load_settings(**{key: values[key] for key in Settings.model_fields if key in values}))

    @property
    def name(self) -> str:
        return self.resources["ab_test"].policy().experiment

    # What a person or a scheduler does.

    def build(self) -> None:
        """Everything from the prices to the first predictions."""
        road = [raw_prices, price_panel, features, reference_models, *model_assets, *artifact_assets]
        assert self._materialize([*road, *predictor_assets, experiment, predictions]).success

    def command(self, *arguments: str) -> Result:
        """``financial-assets`` with these arguments; it must succeed."""
        done = financial_assets(*arguments, environment=self.environment)
        assert done.exit_code == 0, done.output
        return done

    def materialize(self, *names: str) -> dg.ExecuteInProcessResult:
        """Assets in this process; what they depend on is taken as it is."""
        return self._materialize([*predictor_assets, experiment, predictions, ab_evaluation, rollout], list(names))

    def _materialize(self, assets: Any, selection: Any = None) -> dg.ExecuteInProcessResult:
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(assets, selection=selection, resources=self.resources, instance=instance)

    def begin(self) -> WeightEpoch:
        """At the data cut-off, after what was there before has ended: the predictors, then the experiment."""
        market, target = self.resources["market"], self.resources["serving"].target()
        for other in target.status().experiments:
            target.delete("Experiment", other.name)
        clock = market.folder / "clock.json"
        clock.unlink()
        market.clock().start(market.first_cutoff().get())
        self.materialize(*(f"predictors/{name}" for name in ("baseline", "enhanced", "lightweight")), "experiment")
        return self.epoch()

    def go_on(self, *, first: int, until: int, every: int, short_of: str = "") -> Step:
        """Replay and decide every so many sessions, until one is promoted or rolled back; the last step.

        It ends short of carrying out a decision that says ``short_of``.
        """
        market, models, serving, ab_test = (self.resources[name] for name in ("market", "models", "serving", "ab_test"))
        for sessions in range(first, until + 1, every):
            run_replay(market, serving, ab_test, sessions=sessions)
            decisions = self.decide_all()
            if any(decision.action == short_of for decision in decisions):
                return Step(decisions, self.epoch(), moved=False)
            self.history.append(take_step(decisions, models, serving, ab_test, always=False))
            if any(decision.action != "hold" for decision in decisions):
                break
        return self.history[-1]

    def decide(self) -> Decision:
        """The decision about the only challenger, now."""
        (decision,) = self.decide_all()
        return decision

    def decide_all(self) -> tuple[Decision, ...]:
        """The decisions about all challengers, now; adaptive shares learn from their evidence."""
        market, models, ab_test = (self.resources[name] for name in ("market", "models", "ab_test"))
        as_of = market.clock().now()
        known = KnownPrices.of(self.panel.until(as_of), as_of)
        judgements = decide_as_of(known, self.rivals, models, ab_test)
        update_allocation(judgements, known, ab_test)
        return tuple(judgement.decision for judgement in judgements)

    def killed_before(self, part: str) -> None:
        """Carry the latest decision out in a process that is killed where it comes to ``part``."""
        done = run([sys.executable, "-c", _KILLED.format(part=part)], env=self.environment, cwd=ROOT)
        assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)

    # What is there already, read once.

    @cached_property
    def panel(self):
        return self.resources["market"].whole_panel()

    @cached_property
    def rivals(self) -> BaselinePredictions:
        return BaselinePredictions(self.resources["models"], self.panel)

    # What can be seen.

    def epoch(self) -> WeightEpoch:
        """The weight epoch in force."""
        with self.resources["ab_test"].log() as log:
            return self.resources["ab_test"].current_epoch(log)

    def decisions(self) -> tuple[Decision, ...]:
        """All that were recorded, in order."""
        with self.resources["ab_test"].log() as log:
            return log.decisions(self.name)

    def plan(self, decision: Decision) -> ExperimentPlan:
        """The plan that a decision was taken under."""
        with self.resources["ab_test"].log() as log:
            plan = log.plan_of(decision)
        assert plan is not None
        assert plan.digest == decision.plan_digest
        return plan

    def routed(self, epoch: int | None = None) -> pd.DataFrame:
        """Routed predictions of the experiment."""
        with self.resources["ab_test"].log() as log:
            return log.routed(self.name, epoch=epoch)

    def routes(self) -> ExperimentStatus:
        """What Envoy runs."""
        status = self.resources["serving"].target().status()
        (found,) = (one for one in status.experiments if one.name == self.name)
        assert found.ready, status.problems
        return found

    def aliases(self) -> dict[str, int]:
        """Alias -> version, of the registry."""
        versions = self.resources["models"].registry().versions()
        return {alias: version.version for version in versions for alias in version.aliases}

    def recorded(self, decision: Decision) -> dict[str, str]:
        """The record as the log, the file and MLflow hold it: canonical JSON by place."""
        models, ab_test = self.resources["models"], self.resources["ab_test"]
        with ab_test.log() as log:
            found = [one.to_json() for one in log.decisions(self.name) if one.digest == decision.digest]
        assert len(found) == 1
        run = models.tracker().find("decision", decision.digest)
        assert run is not None
        file = ab_test.decisions_folder / f"{decision.as_of}-{decision.digest[:12]}.json"
        with tempfile.TemporaryDirectory() as folder:
            client = MlflowClient(models.tracking_uri)
            tracked = Path(client.download_artifacts(run, "decision.json", folder)).read_text()
        return {"log": found[0], "file": _canonical(file.read_text()), "tracker": _canonical(tracked)}


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def environment(home: Path, instance: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Of the processes of all worlds of a home."""
    (instance / "dagster.yaml").write_text(
        f"telemetry: {{enabled: false}}\nstorage: {{sqlite: {{base_dir: {instance}}}}}\n"
    )
    return {**os.environ, **settings, "FINANCIAL_ASSETS_HOME": str(home), "DAGSTER_HOME": str(instance)}
