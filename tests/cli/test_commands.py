"""The command line: what it offers, and how it says that something is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from financial_assets.cli.main import main
from financial_assets.settings import Settings

COMMANDS = {"api", "run", "serve", "stop", "status", "replay", "exporter", "decide"}
ARGUMENTS = {
    "signal": ["AAPL"],
    "api-key": ["pm"],
    "approve": ["3f0c"],
    "passport": ["latest", "--out", "passport"],
    "signing-key": ["decisions.key"],
    "prices": ["check"],
    "search": ["--variant", "baseline"],
    "explain": ["--variant", "baseline"],
    "judge": [__file__, __file__],
}
Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command with a home of its own, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands_with_a_line_each(command: Command, option: str) -> None:
    shown = command(option)
    assert shown.exit_code == 0
    lines = shown.output.split("Commands:")[1].split("Examples:")[0].strip().splitlines()
    offered = dict(line.strip().split(maxsplit=1) for line in lines)
    assert set(offered) == set(main.commands) >= COMMANDS
    for text in offered.values():
        assert len(text) > 20
        assert text.endswith(".")
        assert not text.endswith("..."), "80 columns hold the whole sentence"


_RUN_THEN_LOAD = """
import sys
from financial_assets.cli.main import main
try:
    main()
except SystemExit as ended:
    code = ended.code
print("the definitions follow", file=sys.stderr)
from financial_assets.definitions import defs
print("jobs:", *sorted(job.name for job in defs.jobs))
sys.exit(code)
"""


def test_settings_that_cannot_be_adopted_are_refused_before_anything_runs_and_stop_no_other_job(tmp_path: Path) -> None:
    """A process of its own: the definitions keep the settings that they were first imported with."""
    (tmp_path / "dagster.yaml").touch()
    home, file = tmp_path / "home", tmp_path / "adopted.yaml"
    file.write_text("baseline: {learning_rat: 0.1}")
    given = {"FINANCIAL_ASSETS_HOME": str(home), "HYPERPARAMETERS": str(file), "DAGSTER_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", _RUN_THEN_LOAD, "run"],
        cwd=tmp_path,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    refusal = f"HYPERPARAMETERS: {file}: variant 'baseline' has no setting 'learning_rat'"
    assert f"Error: {refusal}" in ran.stderr
    before, after = ran.stderr.split("the definitions follow")
    assert "Traceback" not in ran.stderr
    assert before.count(refusal) == 1, "an error, and no warning beside it"
    assert f"{refusal}" in after, "every job loads the definitions, which warn"
    assert "until then nothing can be trained, and everything else goes on" in after
    assert "daily" in ran.stdout.split("jobs:")[1].split()
    assert not home.exists(), "a state folder would remember the file"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_explains_itself_without_doing_anything(command: Command, tmp_path: Path, name: str) -> None:
    shown = command(name, "--help")
    assert shown.exit_code == 0
    assert f"Usage: main {name}" in shown.output
    assert f"  financial-assets {name}" in shown.output.split("Examples:")[1]
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_package(command: Command) -> None:
    assert command("--version").output == f"financial-assets, version {version('financial-assets')}\n"


def test_a_home_on_the_command_line_is_the_variable(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = command("--home", "mine", "status")
    assert f"state folder: {tmp_path / 'mine'} (empty)" in shown.output
    assert os.environ["FINANCIAL_ASSETS_HOME"] == "mine", "processes that a command starts see it, too"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_ctrl_c_ends_every_command_without_a_traceback(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupted(*_: object, **__: object) -> Settings:
        raise KeyboardInterrupt

    # A module that is imported in between would keep the replacement of the last one for good.
    monkeypatch.setattr("financial_assets.workflows.demonstration.judge", interrupted)
    monkeypatch.setattr("financial_assets.doctor.examination.load_settings", interrupted)
    monkeypatch.setattr("financial_assets.experiment.judge.files.read_plan", interrupted)
    monkeypatch.setattr("financial_assets.settings.load_settings", interrupted)
    ended = command(name, *ARGUMENTS.get(name, []))
    assert (ended.exit_code, ended.output) == (130, "interrupted\n")
    assert isinstance(ended.exception, SystemExit)


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize(("variable", "value"), [("SEQUENCE_LENGTH", "ten"), ("PRICE_SOURCE", "bloomberg")])
def test_a_bad_setting_ends_every_command_by_its_name(
    command: Command, monkeypatch: pytest.MonkeyPatch, name: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    refused = command(name)
    assert refused.exit_code == 1
    assert f"{variable}: got '{value}'" in refused.output
    assert isinstance(refused.exception, SystemExit)


def test_an_error_leaves_no_traceback_on_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKERS", "AAPL,AAPL")
    refused = subprocess.run(
        [sys.executable, "-c", "from financial_assets.cli.main import main; main()", "status"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("Error: ")
    assert "TICKERS" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_error_that_nobody_expected_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Settings:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("financial_assets.settings.load_settings", broken)
    assert isinstance(command("status").exception, ZeroDivisionError)


def test_run_outside_a_dagster_home_says_where_it_looked(command: Command, tmp_path: Path) -> None:
    refused = command("run")
    assert refused.exit_code == 1
    assert f"DAGSTER_HOME: {tmp_path} has no dagster.yaml" in refused.output.replace("\n", " ")
    assert not (tmp_path / "home").exists()


def test_run_takes_dagster_home_from_the_environment(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    refused = command("run")
    assert refused.exit_code == 1
    assert f"{tmp_path / 'elsewhere'} has no dagster.yaml" in refused.output


def test_stop_with_nothing_running_says_so(command: Command) -> None:
    shown = command("stop")
    assert (shown.exit_code, shown.output) == (0, "nothing was running\n")


def test_serve_without_a_model_says_what_makes_one_and_starts_nothing(command: Command, tmp_path: Path) -> None:
    refused = command("serve")
    assert refused.exit_code == 1
    assert "holds no model; `financial-assets run` trains models and serves them" in refused.output.replace("\n", " ")
    assert not (tmp_path / "home").exists()


def test_status_with_nothing_running_fails_and_says_so(command: Command) -> None:
    shown = command("status")
    assert shown.exit_code == 1
    assert "gateway: not running" in shown.output


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--sessions", "-1"], "-1 is not in the range x>=0"),
        (["--sessions", "many"], "'many' is not a valid integer"),
        (["--workers", "0"], "0 is not in the range 1<=x<=64"),
        (["--workers", "65"], "65 is not in the range 1<=x<=64"),
        (["--speed", "9"], "No such option"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_replay_refuses_options_that_make_no_sense(command: Command, options: list[str], named: str) -> None:
    refused = command("replay", *options)
    assert refused.exit_code == 2
    assert named in refused.output


def test_replay_before_anything_was_ingested_names_the_asset_to_run(command: Command) -> None:
    refused = command("replay")
    assert refused.exit_code == 1
    assert re.search(r"Error: .*run `financial-assets run`", refused.output)


def test_replay_of_an_experiment_that_has_not_started_says_so(command: Command, tmp_path: Path) -> None:
    from financial_assets.resources import make_resources
    from financial_assets.settings import load_settings

    market = make_resources(load_settings())["market"]
    market.ingest()
    market.begin(market.whole_panel().sessions)
    refused = command("replay", "--sessions", "1")
    assert refused.exit_code == 1
    assert "run `financial-assets run`" in refused.output


def test_an_unknown_command_is_refused(command: Command) -> None:
    refused = command("deploy")
    assert refused.exit_code == 2
    assert "No such command 'deploy'" in refused.output
