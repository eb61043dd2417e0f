"""What is tried is counted as a trial: once, however often it is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import SettingsError
from financial_assets.installation import ModelStore, configure
from financial_assets.market.panel import PricePanel
from financial_assets.models.search.result import TrialRecord
from financial_assets.models.search.search import HyperparameterSearch
from financial_assets.models.variants import VARIANTS, Variant
from financial_assets.portfolio.trials import Trial, hyperparameters_hash
from financial_assets.settings import load_settings
from tests.models.conftest import walk

HELD_OUT = slice(300, 420)


@pytest.fixture(scope="module")
def panel() -> PricePanel:
    return walk(count=450)


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return configure(ModelStore, load_settings(financial_assets_home=tmp_path))


def trained(panel: PricePanel, fingerprint: str, variant: Variant = VARIANTS["baseline"]) -> Any:
    """A training whose answers on the held-out sessions are random."""
    days = np.repeat(panel.sessions[HELD_OUT], len(panel.tickers))
    logit = np.random.default_rng(0).normal(size=len(days))
    held_out = SimpleNamespace(
        session=days, ticker=np.tile(panel.tickers, len(days) // len(panel.tickers)), logit=logit
    )
    return SimpleNamespace(fingerprint=fingerprint, training=SimpleNamespace(variant=variant, held_out=held_out))


def walked(panel: PricePanel, kept: dict[tuple[str, str], str]) -> Any:
    """A walk-forward of two folds; ``kept`` has the fingerprints of those that are there, by variant and fold."""
    days = {"fold-1": panel.sessions[300:330], "fold-2": panel.sessions[330:360]}

    def found(name: str, fold: str) -> Any:
        if (name, fold) not in kept:
            return None
        rows = {"date": np.repeat(days[fold], 2), "ticker": np.tile(panel.tickers, 30), "model": name}
        forecasts = pd.DataFrame({**rows, "probability_up": np.random.default_rng(1).uniform(size=60)})
        return SimpleNamespace(forecasts=forecasts, provenance=SimpleNamespace(fingerprint=kept[name, fold]))

    names = dict.fromkeys(name for name, _ in kept)
    return SimpleNamespace(trained={name: VARIANTS[name] for name in names}, folds=list(days), kept=found, panel=panel)


def lines(models: ModelStore) -> int:
    return len((models.folder / "trials.jsonl").read_text().splitlines())


def test_a_training_counts_once(models: ModelStore, panel: PricePanel) -> None:
    models.record_training(trained(panel, "a"), panel)
    models.record_training(trained(panel, "a"), panel)
    (trial,) = models.trials().read()
    assert (trial.fingerprint, trial.kind, trial.variant) == ("a", "training", "baseline")
    assert trial.hyperparameters == hyperparameters_hash(VARIANTS["baseline"].hyperparameters())
    assert trial.sharpe is not None
    assert 100 < trial.sessions <= 120
    models.record_training(trained(panel, "b"), panel)
    assert lines(models) == len(models.trials().read()) == 2


def test_folds_of_a_variant_are_one_trial_once_all_are_there(models: ModelStore, panel: PricePanel) -> None:
    half = {("baseline", "fold-1"): "1", ("linear", "fold-1"): "2", ("linear", "fold-2"): "3"}
    models.record_walk_forward(walked(panel, half))
    models.record_walk_forward(walked(panel, half))
    (trial,) = models.trials().read()
    assert (trial.kind, trial.variant) == ("walk_forward", "linear")
    assert 50 < trial.sessions <= 60, "of both folds"
    models.record_walk_forward(walked(panel, {**half, ("baseline", "fold-2"): "4"}))
    assert [one.variant for one in models.trials().read()] == ["linear", "baseline"]
    models.record_walk_forward(walked(panel, {**half, ("linear", "fold-2"): "other prices"}))
    assert lines(models) == 3


def test_a_trial_of_a_search_counts_once(models: ModelStore) -> None:
    tried = TrialRecord("study", "baseline", 3, {"hidden": 8}, {"hidden": 8}, "pruned", 0.9, 1, 2, 3.0)
    for search in (models.search(), models.search()):
        assert isinstance(search, HyperparameterSearch)
        search.ledger(tried)
    (trial,) = models.trials().read()
    assert (trial.fingerprint, trial.kind, trial.sharpe) == (tried.fingerprint, "search", None)
    assert trial.hyperparameters == hyperparameters_hash({"hidden": 8})
    assert lines(models) == 1


def test_models_that_were_registered_before_there_was_a_record_are_in_it(
    models: ModelStore, panel: PricePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = ({"fingerprint": "early", "variant": "enhanced"}, {"variant": "made elsewhere"})
    registry = SimpleNamespace(versions=lambda: [SimpleNamespace(tags=each) for each in tags])
    monkeypatch.setattr(ModelStore, "registry", lambda _: registry)
    first, again = models.trials().read(), models.trials().read()
    assert first == again
    assert [(one.fingerprint, one.variant, one.sharpe) for one in first] == [("early", "enhanced", None)]
    models.record_training(trained(panel, "early", VARIANTS["enhanced"]), panel)
    known: Trial = models.trials().read()[0]
    assert known.sharpe is not None, "what was not known of it is added"


def test_adopted_settings_keep_what_they_were_chosen_on(tmp_path: Path) -> None:
    path = tmp_path / "adopted.yaml"
    path.write_text("baseline: {hidden: 8, chosen_until: 2009-02-03}\n")
    settings = load_settings(financial_assets_home=tmp_path, hyperparameters=path)
    found = configure(ModelStore, settings)
    assert found.adopted().chosen_until == {"baseline": pd.Timestamp("2009-02-03")}
    assert found.lifecycle().as_trained(VARIANTS["baseline"]).hidden == 8
    assert configure(ModelStore, load_settings(financial_assets_home=tmp_path)).adopted().settings == {}
    assert found.adoption_problem() is None


def test_a_remembered_file_that_was_deleted_stops_trainings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "adopted.yaml"
    marker = {"PRICE_SOURCE": "sample", "settings": {"HYPERPARAMETERS": str(gone)}}
    (tmp_path / "market.json").write_text(json.dumps(marker))
    (tmp_path / "training.json").write_text("{}")  # the folder holds state
    store = configure(ModelStore, load_settings(financial_assets_home=tmp_path))
    assert store.hyperparameters == str(gone)
    lifecycle = store.lifecycle()  # as drift, predictors, predictions and the evaluation ask for it
    with pytest.raises(SettingsError, match="HYPERPARAMETERS=") as refused:
        lifecycle.as_trained(VARIANTS["baseline"])
    said = f"HYPERPARAMETERS: {gone} cannot be read: No such file or directory; restore it, name another file, or set"
    assert str(refused.value).startswith(said)
    assert (
        store.adoption_problem() == f"{refused.value}; until then nothing can be trained, and everything else goes on"
    )
    gone.write_text("baseline: {hidden: 8}\n")
    assert lifecycle.as_trained(VARIANTS["baseline"]).hidden == 8, "the next training reads the file anew"
    gone.unlink()
    monkeypatch.setenv("HYPERPARAMETERS", "")  # as the message says
    own = configure(ModelStore, load_settings(financial_assets_home=tmp_path))
    assert own.adoption_problem() is None
    assert own.lifecycle().as_trained(VARIANTS["baseline"]) == VARIANTS["baseline"]
