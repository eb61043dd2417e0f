"""Who takes part in the experiment, and what can be asked, is checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from financial_assets.errors import SettingsError
from financial_assets.experiment.arms import Arm
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings


def resources(home: Path, **changes: Any) -> dict[str, Any]:
    return make_resources(load_settings(financial_assets_home=home, **changes))


def test_variants_that_do_not_exist_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"VARIANTS: got perceiver; allowed are baseline, "):
        resources(tmp_path, variants="baseline,perceiver")


def test_an_experiment_cannot_start_without_the_variants_of_its_policy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VARIANTS: got baseline,linear; the experiment starts with enhanced, too"):
        resources(tmp_path, variants="baseline,linear")["ab_test"].check_participants()
    assert not list(tmp_path.iterdir()), "to look is not to make"
    resources(tmp_path, variants="baseline,enhanced")["ab_test"].check_participants()


def test_a_question_that_needs_more_tickers_than_there_are_is_told_with_its_setting(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    arms = (
        "experiment: e-experiment\nchampion: {variant: baseline, weight: 60}\n"
        "challengers: [{variant: enhanced, weight: 40}]\n"
    )
    policy.write_text(f"{arms}questions: [risk, ranking]\n")
    ab_test = resources(tmp_path / "home", rollout_policy=policy)["ab_test"]
    assert ab_test.too_few_tickers(20) == ()
    (sentence,) = ab_test.too_few_tickers(2)
    assert sentence == (
        "ROLLOUT_POLICY: questions[1] asks about ranking, which needs 20 tickers, but the universe has 2: add tickers "
        "to TICKERS or UNIVERSE_FILE, or remove that entry; the other questions are tested"
    )
    policy.write_text(f"{arms}test: {{question: ranking, metric: rank_ic}}\n")
    (sentence,) = ab_test.too_few_tickers(2)
    assert "test.question asks about ranking" in sentence
    assert "name another question there" in sentence


def test_a_model_made_elsewhere_may_start_in_any_role(tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "enhanced-elsewhere.onnx").touch()
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "experiment: risk-experiment\nchampion: {variant: enhanced-elsewhere, weight: 60}\n"
        "challengers: [{variant: house, weight: 40}]\n"
    )
    given = {"variants": "linear", "external_models": folder, "rollout_policy": policy}
    with pytest.raises(SettingsError, match=r"starts with house, too: .* EXTERNAL_MODELS"):
        resources(tmp_path / "home", **given)["ab_test"].check_participants()
    (folder / "house.onnx").touch()
    resources(tmp_path / "home", **given)["ab_test"].check_participants()


def test_an_experiment_that_runs_keeps_arms_of_variants_that_are_not_made(tmp_path: Path) -> None:
    ab_test = resources(tmp_path, variants="linear")["ab_test"]
    arm = Arm("baseline-predictor-v1", "baseline", 1, "champion", 100, pd.Timestamp("2010-01-29"))
    with ab_test.log() as log:
        log.open_epoch(ab_test.policy().experiment, (arm,), "start", after=0)
    ab_test.check_participants()
