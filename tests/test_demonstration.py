"""The demonstration apart from its runs of the graph, which ``tests/integration/test_demonstration.py`` makes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from financial_assets.cli.demonstrate import demonstrate
from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.record import Decision, TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.plan.policy import load_policy
from financial_assets.models.external.card import find_external, read_card
from financial_assets.workflows import demonstration
from financial_assets.workflows.demonstration import PAIRS, Verdict, judge, plant, verdict_of
from tests.experiment.decision.builders import EPOCH, QUIET, evidence, plan


def decided(mean: float, count: int, traffic: TrafficEvidence = QUIET) -> Decision:
    given = evidence(mean, count, beats=0.05)
    return decide(plan(), EPOCH, given, traffic, as_of="2011-03-01", deflated_sharpe=lambda: None)


@pytest.mark.parametrize(
    ("mean", "count", "said"),
    [
        (0.05, 126, "promoted"),
        (-0.05, 126, "rolled back by evidence"),
        (-0.006, 190, "ended by futility"),
        (0.0, 20, None),
        (0.012, 300, "ended without a winner"),
    ],
)
def test_a_decision_is_called_by_what_it_ends(mean: float, count: int, said: str | None) -> None:
    assert verdict_of(decided(mean, count)) == said


def test_a_rollback_by_traffic_is_not_one_by_evidence() -> None:
    (rail,) = decided(0.0, 20).guardrails  # of missing predictions
    traffic = TrafficEvidence((replace(rail, name="errors", action="rollback", fired=True),), "errors")
    assert verdict_of(decided(-0.05, 126, traffic)) == "rolled back by a guardrail"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal")
    plant(PAIRS[1], folder)
    return folder


def test_a_pair_is_planted_once(planted: Path) -> None:
    models = find_external(planted / "models")
    assert [model.name for model in models] == ["first-draw", "second-draw"]
    assert len({read_card(model).data_cutoff for model in models}) == 1
    policy = load_policy(planted / "policy.yaml")
    assert (policy.champion.variant, policy.challengers[0].variant) == ("first-draw", "second-draw")
    assert (policy.test.metric, policy.test.plausible_effect, policy.test.looks) == ("pinball", 0.003, 6)
    before = {path: path.stat().st_mtime_ns for path in planted.rglob("*")}
    plant(PAIRS[1], planted)
    assert {path: path.stat().st_mtime_ns for path in planted.rglob("*")} == before


def test_half_a_planting_is_done_again(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "first-draw.onnx").write_bytes(b"half")
    plant(PAIRS[1], tmp_path)
    for name in ("first-draw", "second-draw"):
        again, once = (folder / "models" / f"{name}.onnx" for folder in (tmp_path, planted))
        assert again.read_bytes() == once.read_bytes(), "seeded"


def _replace_run(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    """In the module alone: other threads of this process start processes, too."""
    replaced = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(demonstration, "subprocess", replaced)


def test_the_graph_gets_these_settings_and_no_others(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def run(command: list[str], **given: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append({"command": command, **given})
        return subprocess.CompletedProcess(command, 0)

    _replace_run(monkeypatch, run)
    said: list[str] = []
    with pytest.raises(ExperimentError, match="equal: no verdict by the horizon of 252 sessions"):
        judge(PAIRS[1], planted, said.append, {"DAGSTER_HOME": "/elsewhere", "OMP_NUM_THREADS": "1"})
    assert len(said) == len(asked) == 6
    assert [call["env"]["REPLAY_SESSIONS"] for call in asked] == ["43", "85", "127", "169", "211", "253"]
    first = asked[0]
    assert first["command"] == [sys.executable, "-m", "financial_assets", "run"]
    assert first["env"]["ROLLOUT_POLICY"] == str(planted / "policy.yaml")
    assert first["env"]["FINANCIAL_ASSETS_HOME"] == str(planted / "state")
    assert first["env"]["OMP_NUM_THREADS"] == "1"
    # A .env of the folder that the command is called in, and its instance with its sensors, are not those of these.
    assert str(first["cwd"]) == first["env"]["DAGSTER_HOME"] == str(planted / "dagster")
    assert (planted / "dagster" / "dagster.yaml").is_file()


def test_a_run_that_fails_is_named_with_its_last_words(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], *, stdout: Any, **_: Any) -> subprocess.CompletedProcess[bytes]:
        stdout.write(b"one\ntwo\nthe disk is full\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, 1)

    _replace_run(monkeypatch, run)
    with pytest.raises(ExperimentError, match=r"financial-assets run failed, see .*output\.log: .*the disk is full"):
        judge(PAIRS[1], planted, lambda _: None, {})


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command with verdicts that are given instead of judged."""
    stopped: list[str] = []
    monkeypatch.setenv("PRICE_SOURCE", "yahoo")
    monkeypatch.setenv("HARMLESS", "1")
    monkeypatch.setattr(demonstration, "stop", lambda place, environment: stopped.append(place.name))

    def call(*arguments: str, said: str | None = None, fails: bool = False) -> Any:
        def verdict(pair: Any, place: Path, progress: Any, environment: dict[str, str]) -> Verdict:
            assert "PRICE_SOURCE" not in environment, "settings of the caller do not count"
            assert environment["HARMLESS"] == "1"
            if fails:
                raise ExperimentError("the graph failed")
            return Verdict(pair, said or pair.verdict, decided(0.05, 126), place / "record.json", place / "report.html")

        monkeypatch.setattr(demonstration, "judge", verdict)
        result = CliRunner().invoke(demonstrate, arguments)
        return result, stopped

    return call


def test_three_verdicts_are_printed_with_their_records(command: Callable[..., Any], tmp_path: Path) -> None:
    result, stopped = command("--folder", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert stopped == ["better", "equal", "worse"]
    for pair in PAIRS:
        (line,) = (line for line in result.output.splitlines() if line.startswith(f"{pair.name}: "))
        assert f" {pair.verdict} after 126 sessions" in line
        assert str(tmp_path / pair.name / "record.json") in result.output
        assert str(tmp_path / pair.name / "report.html") in result.output
    assert np.count_nonzero(["reason" in line for line in result.output.splitlines()]) == 3


def test_another_verdict_than_the_planted_one_is_an_error(command: Callable[..., Any], tmp_path: Path) -> None:
    result, _ = command("--folder", str(tmp_path), "--pair", "worse", said="promoted")
    assert result.exit_code == 1
    assert "worse: rolled back by evidence was planted, but it promoted" in result.output


def test_what_fails_leaves_no_plane_behind(command: Callable[..., Any], tmp_path: Path) -> None:
    result, stopped = command("--folder", str(tmp_path), "--pair", "equal", fails=True)
    assert isinstance(result.exception, ExperimentError)
    assert stopped == ["equal"]
