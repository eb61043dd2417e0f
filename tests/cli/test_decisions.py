"""Commands about decisions, their passports and their models, over real prices, baselines, log and tracker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from financial_assets.assets.evaluation import ab_evaluation
from financial_assets.assets.rollout import rollout
from financial_assets.cli.main import main
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.words import amount, signed_amount
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.installation import ModelStore, ServingAccess
from financial_assets.market.store import PriceStore
from financial_assets.models.baselines.fitted import fit_baselines
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from tests.assets.alone import execute_checks, verdicts
from tests.experiment.rollout.builders import measured, predict
from tests.passports.builders import TOOL, load_verifier

EXPERIMENT, CHAMPION, CHALLENGER = "test-experiment", "baseline-predictor-v1", "enhanced-predictor-v2"
EARLY, LATE = 5, 25  # sessions after the cut-off
POLICY = {
    "experiment": EXPERIMENT,
    "champion": {"variant": "baseline", "weight": 50},
    "challengers": [{"variant": "enhanced", "weight": 50}],
    "test": {"metric": "accuracy", "plausible_effect": 0.3, "horizon_sessions": 20, "looks": 2, "deflated_sharpe": 0.0},
    "traffic": {"approval": "manual"},
}
SETTINGS = {"PRICE_SOURCE": "simulated", "SIMULATED_SESSIONS": "450", "TICKERS": "AAA,BBB,CCC,DDD", "COLUMNS": "160"}
Command = Callable[..., Result]


def use(home: Path, patch: pytest.MonkeyPatch) -> None:
    for name, value in {**SETTINGS, "FINANCIAL_ASSETS_HOME": home, "ROLLOUT_POLICY": home / "policy.yaml"}.items():
        patch.setenv(name, str(value))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an experiment and its predictions, without a plan."""
    home = tmp_path_factory.mktemp("begun")
    (home / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    with pytest.MonkeyPatch.context() as patch:
        use(home, patch)
        resources = make_resources(load_settings())
        market, models, ab_test = (resources[name] for name in ("market", "models", "ab_test"))
        market.ingest()
        panel = market.whole_panel()
        market.begin(panel.sessions)
        cutoff = market.first_cutoff().get()
        known = panel.until(cutoff)
        models.keep_baselines(
            fit_baselines(compute_panel(known, FeatureGraph()), known, cutoff=cutoff, sequence_length=10)
        )
        variants = enumerate(("baseline", "enhanced"), 1)
        with ab_test.log() as log:
            Rollout(log, ab_test.policy()).reconcile(
                [AvailableModel(f"{name}-predictor-v{number}", name, number, cutoff) for number, name in variants]
            )
            # The champion is right half the time, the challenger nearly always.
            predict(log, {CHAMPION: 0.5, CHALLENGER: 0.98}, panel, experiment=EXPERIMENT, last=LATE)
        models.tracker().find("makes", "the store")
    return home


@pytest.fixture
def home(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with a plan."""
    shutil.copytree(begun, tmp_path / "home")
    use(tmp_path / "home", monkeypatch)
    ab_test = make_resources(load_settings())["ab_test"]
    with ab_test.log() as log:
        conduct = ExperimentController(Rollout(log, ab_test.policy()))
        conduct.register(measured, conduct.rollout.started().data_cutoff)
    return tmp_path / "home"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def advance(sessions: int) -> None:
    """Move the clock to that many sessions after the cut-off."""
    market = make_resources(load_settings())["market"]
    later = market.whole_panel().sessions
    market.clock().advance_to(later[later > market.first_cutoff().get()][sessions - 1])


def decisions() -> tuple[Decision, ...]:
    with make_resources(load_settings())["ab_test"].log() as log:
        return log.decisions(EXPERIMENT)


def words(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.mark.usefixtures("home")
def test_a_decision_is_printed_with_its_reasons_and_its_record() -> None:
    advance(EARLY)
    shown = command("decide")
    assert shown.exit_code == 0, shown.output
    (decision,) = decisions()
    assert f"HOLD as of {decision.as_of} record {decision.digest[:12]}" in words(shown)
    assert "Too early to decide: the first planned look is on day 10; 4 sessions have been seen." in words(shown)
    assert "planned looks" not in shown.output
    assert command("decide").output == shown.output
    assert decisions() == (decision,), "the same decision is one record"


@pytest.mark.usefixtures("home")
def test_explain_prints_plan_looks_intervals_and_guardrails() -> None:
    advance(LATE)
    shown = command("decide", "--explain")
    assert shown.exit_code == 0, shown.output
    (decision,) = decisions()
    look = decision.looks[-1]
    assert decision.action == "promote"
    for said in (
        "PROMOTE",
        decision.plan_digest[:12],
        "30 points: the test",
        f"{amount(decision.detectable, METRICS['accuracy'])} in 20 days with 80 % power",
        "24 days seen; the planned test ended",
        f"{look.boundary:.2f}",
        f"{look.z:.2f}",
        amount(look.deviation or 0.0, METRICS["accuracy"]),
        f"majority {look.against['majority']:.2f}",
        f"between {signed_amount(decision.always_on.low, METRICS['accuracy'])} and "
        f"{signed_amount(decision.always_on.high, METRICS['accuracy'])}",
        "sample ratio",
        CHALLENGER,
    ):
        assert said in words(shown), said


def test_json_is_the_record(home: Path) -> None:
    advance(LATE)
    shown = command("decide", "--json")
    assert shown.exit_code == 0, shown.output
    (decision,) = decisions()
    assert json.loads(shown.output) == json.loads(decision.to_json())
    file = home / "reports" / "decisions" / f"{decision.as_of}-{decision.digest[:12]}.json"
    assert json.loads(file.read_text()) == json.loads(decision.to_json())
    assert make_resources(load_settings())["models"].tracker().find("decision", decision.digest) is not None


@pytest.mark.usefixtures("home")
def test_records_are_repeated_bit_for_bit_whatever_came_later() -> None:
    for sessions in (EARLY, LATE):
        advance(sessions)
        assert command("decide").exit_code == 0
    early, late = decisions()
    assert (early.action, late.action) == ("hold", "promote")
    for decision in (early, late):
        shown = command("decide", "--repeat", decision.digest[:10].upper())
        assert shown.exit_code == 0, shown.output
        assert f"{decision.digest[:12]} of {decision.as_of}: recomputed, identical bit for bit" in shown.output
    assert decisions() == (early, late), "repeating records nothing"


def test_prices_that_were_altered_are_noticed(home: Path) -> None:
    advance(LATE)
    assert command("decide").exit_code == 0
    (decision,) = decisions()
    prices = PriceStore(home / "prices").read()
    later = pd.DatetimeIndex(prices["date"].unique()).sort_values()
    later = later[later > pd.Timestamp(decision.as_of)]
    assert _repeated_after(home, prices, later).exit_code == 0, "what came later is no part of it"
    seen = pd.DatetimeIndex([look.session for look in decision.looks])
    shown = _repeated_after(home, prices, seen)
    assert shown.exit_code == 1
    assert "differs from what log and prices give now" in shown.output
    assert "evidence_digest" in shown.output
    assert "plan_digest" not in shown.output


def _repeated_after(home: Path, prices: pd.DataFrame, days: pd.DatetimeIndex) -> Result:
    """Prices of these days are tripled: another direction before or after each."""
    altered, touched = prices.copy(), prices["date"].isin(days)
    for column in ("open", "high", "low", "close", "adj_close"):
        altered.loc[touched, column] *= 3.0
    PriceStore(home / "prices").upsert(altered)
    (decision,) = decisions()
    return command("decide", "--repeat", decision.digest)


@pytest.mark.usefixtures("home")
def test_an_unknown_record_is_told_with_the_known_ones() -> None:
    empty = command("decide", "--repeat", "abc")
    assert empty.exit_code == 1
    assert "no recorded decision begins with 'abc'; the latest: none" in words(empty)
    advance(EARLY)
    command("decide")
    (decision,) = decisions()
    for arguments in (("decide", "--repeat", "zzz"), ("approve", "zzz")):
        refused = command(*arguments)
        assert refused.exit_code == 1
        assert f"{decision.digest[:12]} ({decision.as_of}, hold)" in words(refused)


@pytest.mark.usefixtures("home")
def test_a_promotion_waits_until_it_is_approved_and_nothing_else_can_be() -> None:
    advance(EARLY)
    command("decide")
    refused = command("approve", decisions()[0].digest)
    assert refused.exit_code == 1
    assert "says hold: there is nothing to approve" in refused.output
    advance(LATE)
    command("decide")
    promotion = decisions()[-1]
    ab_test = make_resources(load_settings())["ab_test"]
    with ab_test.log() as log:
        assert apply_decisions(Rollout(log, ab_test.policy()), [promotion]).number == 1
    approved = command("approve", promotion.digest[:12], "--by", "risk manager")
    assert approved.exit_code == 0, approved.output
    assert f"{CHALLENGER} may replace {CHAMPION}" in approved.output
    with ab_test.log() as log:
        assert log.approved_by(promotion.digest) == "risk manager"
        assert apply_decisions(Rollout(log, ab_test.policy()), [promotion]).champion.model == CHALLENGER
    shown = command("decide")
    assert shown.exit_code == 0
    assert "There is no challenger: nothing to decide." in shown.output


class Plane:
    """Target and registry that remember what they were told last."""

    def __init__(self) -> None:
        self.weights: dict[str, int] = {}
        self.aliases: dict[str, int] = {}

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        self.weights = {one["name"]: one["weight"] for one in manifests[0]["spec"]["candidates"]}

    def wait_ready(self, names: list[str], timeout_s: float) -> None:
        assert names == [EXPERIMENT]

    def versions(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=number, tags={}) for number in (1, 2, 3)]

    def set_alias(self, alias: str, version: int) -> None:
        self.aliases[alias] = version

    def remove_alias(self, alias: str) -> None:
        self.aliases.pop(alias, None)


@pytest.mark.usefixtures("home")
def test_dagster_shows_what_waits_and_approves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane()
    monkeypatch.setattr(ServingAccess, "target", lambda _: plane)
    monkeypatch.setattr(ModelStore, "registry", lambda _: plane)

    def run(**config: str) -> dg.ExecuteInProcessResult:
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(
                [rollout],
                resources=make_resources(load_settings()),
                run_config={"ops": {"rollout": {"config": config}}},
                instance=instance,
                raise_on_error=False,
            )

    def approval(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
        (found,) = (one for one in result.get_asset_check_evaluations() if one.check_name == "approval")
        return found

    advance(LATE)
    command("decide")
    record = decisions()[-1].digest
    waits = approval(run())
    assert not waits.passed
    assert f"approve: {record[:12]}" in str(waits.description)
    assert plane.weights == {CHAMPION: 50, CHALLENGER: 50}
    for wrong in ("zzz", "f" * 64):
        assert not run(approve=wrong).success
    assert plane.weights == {CHAMPION: 50, CHALLENGER: 50}
    approved = run(approve=record[:12], by="risk manager")
    assert approved.success
    assert approval(approved).passed
    assert (plane.weights, plane.aliases) == ({CHALLENGER: 100}, {"champion": 2})
    with make_resources(load_settings())["ab_test"].log() as log:
        assert str(log.approved_by(record)).startswith("risk manager, by Dagster run ")


def squeeze(home: Path) -> str:
    """Every price opens at six times the day before's while the champion's book is short; the day it did."""
    with make_resources(load_settings())["ab_test"].log() as log:
        direct = log.direct([CHAMPION])
    sides = np.sign(direct["probability_up"] - 0.5).groupby(direct["session"]).mean()
    decided = sides.index[sides <= -0.5][0]
    prices = PriceStore(home / "prices").read()
    sessions = pd.DatetimeIndex(prices["date"].unique()).sort_values()
    day = sessions[sessions.get_loc(decided) + 2]
    for column in ("open", "high", "low", "close", "adj_close"):
        prices.loc[prices["date"] >= day, column] *= 6.0
    PriceStore(home / "prices").upsert(prices)
    return f"{day:%Y-%m-%d}"


def test_a_squeeze_ends_neither_the_evaluation_nor_the_rollout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane()
    monkeypatch.setattr(ServingAccess, "target", lambda _: plane)
    monkeypatch.setattr(ModelStore, "registry", lambda _: plane)
    advance(LATE)
    day = squeeze(home)
    with dg.DagsterInstance.ephemeral() as instance:
        found = dg.materialize(
            [ab_evaluation, rollout], resources=make_resources(load_settings()), instance=instance, raise_on_error=False
        )
    assert found.success
    (shown,) = found.asset_materializations_for_node("ab_evaluation")
    assert day in str(shown.metadata["arms"].value)
    (backtest,) = (one for one in found.get_asset_check_evaluations() if one.check_name == "var_backtest")
    assert (backtest.passed, backtest.blocking) == (True, False)
    assert "Too few sessions for a back-test: 24 have a known outcome" in str(backtest.description)
    page = (home / "reports" / "ab-evaluation.html").read_text()
    assert f"The book of {CHAMPION} was wiped out on {day}" in page
    assert plane.weights
    report = json.loads((home / "reports" / "ab-evaluation.json").read_text())
    (book,) = (skill["pnl"] for skill in report["skills"] if skill["name"] == CHAMPION)
    assert (book["wiped_out"], book["max_drawdown"], book["total_return"]) == (day, -1.0, -1.0)


def test_the_checks_of_evaluation_and_rollout_alone_judge_the_log_and_decide_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, assets = Plane(), [ab_evaluation, rollout]
    monkeypatch.setattr(ServingAccess, "target", lambda _: plane)
    monkeypatch.setattr(ModelStore, "registry", lambda _: plane)
    advance(LATE)
    resources = make_resources(load_settings())
    with dg.DagsterInstance.ephemeral() as instance:
        made = dg.materialize(assets, resources=resources, instance=instance)
        page, decided = (home / "reports" / "ab-evaluation.html").read_bytes(), decisions()
        for asset in assets:
            alone = execute_checks(asset, resources, instance)
            assert alone.success, alone.failure_text
            assert verdicts(alone, asset) == verdicts(made, asset) != {}
        assert not verdicts(made, rollout)["approval"][0], "a promotion waits"
        assert ((home / "reports" / "ab-evaluation.html").read_bytes(), decisions()) == (page, decided)
        # Without its route an answer belongs to no arm.
        with resources["ab_test"].log() as log:
            routed = log.routed(EXPERIMENT)
        monkeypatch.setattr(type(log), "routed", lambda *_, **__: routed.assign(status="unattributed"))
        broken = execute_checks(ab_evaluation, resources, instance, "attribution")
        assert not broken.checks("ab_evaluation")["attribution"].passed


def test_before_the_experiment_the_checks_of_evaluation_and_rollout_name_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    use(tmp_path, monkeypatch)
    with dg.DagsterInstance.ephemeral() as instance:
        for asset in (ab_evaluation, rollout):
            found = execute_checks(asset, make_resources(load_settings()), instance)
            assert not found.success
            assert "run `financial-assets run`" in found.failure_text


def test_without_a_plan_nothing_is_decided(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(begun, tmp_path / "home")
    use(tmp_path / "home", monkeypatch)
    refused = command("decide")
    assert refused.exit_code == 1
    assert "no plan was registered" in words(refused)
    assert "materialize the asset `experiment`" in words(refused)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_from_key_to_verified_passport(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "keys" / "decisions.key"
    made = command("signing-key", str(key))
    assert made.exit_code == 0, made.output
    public = made.output.split()[-1]
    assert key.read_text().split()[-1] not in made.output
    monkeypatch.setenv("SIGNING_KEY", str(key))
    advance(EARLY)
    assert command("decide").exit_code == 0
    advance(LATE)
    assert command("decide").exit_code == 0
    _, promotion = decisions()
    record = home / "reports" / "decisions" / f"{promotion.as_of}-{promotion.digest[:12]}.seal"
    assert json.loads(record.read_text())["subject"] == promotion.digest
    assert record.with_suffix(".seal.minisig").is_file()
    approved = command("approve", promotion.digest[:12], "--by", "Jane Doe")
    assert approved.exit_code == 0, approved.output
    out = tmp_path / "passport"
    shown = command("passport", "latest", "--out", str(out))
    assert shown.exit_code == 0, shown.output
    assert f"{promotion.digest[:12]} of {promotion.as_of} (promote)" in shown.output
    first = files_in(out)
    assert command("passport", promotion.digest[:12], "--out", str(out)).exit_code == 0
    assert files_in(out) == first, "two exports are equal byte for byte"
    found, status = load_verifier().verify(out, public)
    # Nothing was trained here, and the log is older than its plan: these are unknown, and said to be.
    assert [name for state, name, _ in found if state == "BROKEN"] == []
    assert {name for state, name, _ in found if state == "?"} == {f"model {CHAMPION}", f"model {CHALLENGER}"}
    assert status == 2
    assert "signature of approval" in {name for _, name, _ in found}
    run = subprocess.run([sys.executable, TOOL, home, public], capture_output=True, text=True, check=False)
    # The experiment began before there was a key; what was signed later names that record, too.
    assert (run.returncode, run.stderr) == (2, ""), run.stdout
    assert [line for line in run.stdout.splitlines() if not line.startswith("ok")] == [
        "?      record 2: it is not signed: SIGNING_KEY was not set"
    ]
    assert command("passport", "latest", "--out", str(home)).exit_code == 1, (
        "a folder of something else is not replaced"
    )
    risk = command("model-risk", "--out", str(tmp_path / "risk.md"))
    assert risk.exit_code == 0, risk.output
    document = (tmp_path / "risk.md").read_text()
    for title in (
        "Purpose and use",
        "Data",
        "Methodology and assumptions",
        "Testing",
        "Limitations",
        "Ongoing",
        "Owner",
    ):
        assert title.lower() in document.lower()
    assert "Unknown: nobody is named as owner; set MODEL_OWNER." in document
    assert "Unknown: the model card is not on this machine." in document
    assert "approved by Jane Doe" in document
    assert promotion.digest in document
    assert promotion.plan_digest in document
    monkeypatch.setenv("MODEL_OWNER", "John Doe, head of research")
    assert "Owner: John Doe, head of research" in command("model-risk").output
    assert command("model-risk").output == command("model-risk").output


@pytest.mark.usefixtures("home")
def test_a_key_that_others_may_read_stops_the_decision_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "decisions.key"
    assert command("signing-key", str(key)).exit_code == 0
    key.chmod(0o644)
    monkeypatch.setenv("SIGNING_KEY", str(key))
    advance(EARLY)
    refused = command("decide")
    assert refused.exit_code == 1
    assert "SIGNING_KEY" in refused.output
    assert "chmod 600" in refused.output
    assert decisions() == ()
    key.chmod(0o600)
    assert command("decide").exit_code == 0
    assert len(decisions()) == 1


@pytest.mark.usefixtures("home")
def test_who_asks_for_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert "the latest: none" in command("passport", "latest", "--out", str(tmp_path / "out")).output
    assert "never had an arm another" in command("model-risk", "--model", "another").output
    assert not (tmp_path / "out").exists()
