"""Definitions whose steps write into MLflow from processes of their own; ``test_tracking_dagster`` executes the jobs.

The variable ``TRACKED_STEPS`` names the folder of one job. Its parent holds the store, which all jobs share.
"""

import faulthandler
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from financial_assets.automation.executor import make_owning_executor
from financial_assets.resources import PipelineTracking
from financial_assets.resources.pipeline_run import DAGSTER_RUN, pipeline_run_of
from financial_assets.tracking import MlflowTracker

HERE = Path(os.environ["TRACKED_STEPS"])
STORE, ARTIFACTS = HERE.parent / "mlflow.db", HERE.parent / "mlartifacts"
faulthandler.register(signal.SIGUSR1, all_threads=True)  # in the job's process and in each step's
tracker = MlflowTracker(f"sqlite:///{STORE}", "experiment", ARTIFACTS)


def meet_another(me: str) -> None:
    """Go on once a second step is at work: steps that follow one another would wait for ever."""
    (HERE / f"{me}.pid").write_text(str(os.getpid()))
    while len(list(HERE.glob("*.pid"))) < 2:
        time.sleep(0.05)


@dg.asset(required_resource_keys={"mlflow"})
def one(context: dg.AssetExecutionContext) -> None:
    interface = context.resources.mlflow
    with interface.start_run(nested=True, run_name="below one"):
        meet_another("one")
        interface.log_metrics({"own": 1.0})
    interface.log_metrics({"one": 1.0})
    with tracker.run("training", parent=pipeline_run_of(context.instance, context.run_id)):
        pass


@dg.asset
def two(mlflow: dg.ResourceParam[Any]) -> None:
    with mlflow.start_run(nested=True, run_name="below two"):
        meet_another("two")
        mlflow.log_metrics({"own": 2.0})
    mlflow.log_metrics({"two": 2.0})
    mlflow.end_run("FAILED")  # what dagster-mlflow's hook does; the run is not this step's to end


@dg.asset
def trials(context: dg.AssetExecutionContext) -> None:
    from financial_assets.models.search.result import TrialRecord
    from financial_assets.models.search.tracked import TrialRuns
    from financial_assets.models.variants import VARIANTS

    runs = TrialRuns(tracker, pipeline_run_of(context.instance, context.run_id), {DAGSTER_RUN: context.run_id})
    found: dict[str, Any] = {"hyperparameters": {}, "values": {}, "best_epoch": 1, "epochs": 1, "seconds": 1.0}
    for number, (outcome, loss) in enumerate((("complete", 0.7), ("diverged", float("nan")))):
        with runs.trial("study", number, VARIANTS["baseline"], {}) as tell:
            tell(TrialRecord("study", "baseline", number, **found, outcome=outcome, loss=loss, losses=(loss,)))


@dg.asset
def folds(context: dg.AssetExecutionContext) -> None:
    import pandas as pd

    from financial_assets.models.walk_forward.folds import Fold, FoldPlan
    from financial_assets.models.walk_forward.run import BASELINES
    from financial_assets.models.walk_forward.tracked import FoldRuns

    def fit(models: str, fold: Fold) -> Any:
        if fold.name == "fold-2":
            raise ValueError("too few sessions")
        return SimpleNamespace(models=models, fold=fold)

    class Quick(FoldRuns):
        """The runs of folds that nobody has fitted, so that there is nothing to score."""

        def _log(self, run: Any, found: Any) -> None:
            run.log_metrics({"decisions": 1.0})

    walk: Any = SimpleNamespace(
        folder=HERE / "walk",
        kept=lambda models, fold: None,
        run=fit,
        fingerprint=lambda models, fold: f"{models}/{fold.name}",
        panel=SimpleNamespace(sessions=pd.date_range("2020-01-01", periods=9)),
        plan=FoldPlan(splits=2, test_sessions=20),
        sequence_length=10,
        seed=7,
    )
    parent = pipeline_run_of(context.instance, context.run_id)
    runs = Quick(walk, tracker, parent, {DAGSTER_RUN: context.run_id})
    runs.run(BASELINES, Fold("fold-1", range(3), range(4, 6)))
    with suppress(ValueError):
        runs.run(BASELINES, Fold("fold-2", range(5), range(6, 8)))


@dg.asset
def bad(mlflow: dg.ResourceParam[Any]) -> None:
    meet_another("bad")
    mlflow.log_metrics({"bad": 3.0})
    with tracker.run("bad", parent=mlflow.mlflow_run_id):
        raise ValueError("no prices")


@dg.asset
def slow(mlflow: dg.ResourceParam[Any]) -> None:
    meet_another("slow")
    with tracker.run("long", parent=mlflow.mlflow_run_id):
        (HERE / "slow is running").touch()
        for _ in range(3000):  # training runs Python all the time, it does not sleep in one system call
            time.sleep(0.1)


@dg.asset
def dies(context: dg.AssetExecutionContext) -> None:
    meet_another("dies")
    with tracker.run("long", parent=pipeline_run_of(context.instance, context.run_id)):
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out


JOBS = {
    "fine": ["one", "two", "trials", "folds"],
    "failing": ["one", "bad", "two"],
    "dying": ["one", "dies"],
    "slow": ["one", "slow"],
}
# Each step has a process of its own, forked from one that has imported what most of them need and done nothing else.
_PRELOADED = [
    "financial_assets.automation.executor",
    "financial_assets.resources.mlflow_interface",
    "mlflow.store.tracking.sqlalchemy_store",
]
_PROCESSES = {"max_concurrent": 4, "start_method": {"forkserver": {"preload_modules": _PRELOADED}}}
defs = dg.Definitions(
    assets=[one, two, trials, folds, bad, slow, dies],
    jobs=[
        dg.define_asset_job(name, selection=steps, config={"execution": {"config": {"multiprocess": _PROCESSES}}})
        for name, steps in JOBS.items()
    ],
    resources={
        "mlflow": PipelineTracking(
            home=str(HERE.parent), tracking_uri=tracker.connection.uri, mlflow_experiment_name="experiment"
        )
    },
    executor=make_owning_executor(lambda: tracker),
)
