from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from financial_assets.errors import SearchLeakError, TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import LABEL_HORIZON, Blocks
from financial_assets.models.fitting.network import fit_network
from financial_assets.models.search import blocks as blocks_module
from financial_assets.models.search import search as module
from financial_assets.models.search import study as study_module
from financial_assets.models.search.blocks import SearchData
from financial_assets.models.search.plots import plot_importances, plot_trials
from financial_assets.models.search.result import SearchResult, TrialRecord
from financial_assets.models.search.search import SearchBudget
from financial_assets.models.variants import Variant
from tests.models.search.conftest import FakeFit, loss_of

ROOT = Path(__file__).parents[3]
RunSearch = Callable[..., SearchResult]


def settings(result: SearchResult) -> list[tuple[str, dict[str, Any]]]:
    return [(trial.outcome, dict(trial.values)) for trial in result.trials]


def test_the_present_settings_are_tried_first_and_better_ones_are_found(
    run_search: RunSearch, fake_fit: FakeFit, searched: Variant
) -> None:
    result = run_search(30)
    assert fake_fit.asked[0] == searched
    assert result.trials[0].values == result.present
    assert result.present_loss == pytest.approx(loss_of(searched) + 0.1 / 6)
    assert len(result.trials) == len(fake_fit.asked) == 30
    best = result.best
    assert best is not None
    assert best.loss < result.present_loss - 0.1
    assert abs(float(best.values["dropout"]) - 0.3) < 0.1
    assert {trial.outcome for trial in result.trials} == {"complete", "pruned"}
    assert all(trial.epochs < 6 for trial in result.trials if trial.outcome == "pruned")
    assert max(result.importances, key=lambda name: result.importances[name]) == "dropout"
    assert "lowest of many" in result.sentence


def test_the_same_search_gives_the_same_trials_and_another_seed_does_not(
    run_search: RunSearch, fake_fit: FakeFit
) -> None:
    first = run_search(14, folder="one")
    assert settings(run_search(14, folder="two")) == settings(first)
    assert settings(run_search(14, folder="three", seed=8)) != settings(first)


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(run_search: RunSearch, fake_fit: FakeFit) -> None:
    whole = run_search(14, folder="whole")
    fake_fit.asked.clear()

    def interrupt(variant: Variant, number: int) -> None:
        if len(fake_fit.asked) == 6 and number == 3:
            raise KeyboardInterrupt

    fake_fit.before_epoch = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_search(14)
    fake_fit.before_epoch = lambda variant, number: None
    finished_before = [replace(asked) for asked in fake_fit.asked[:5]]
    fake_fit.asked.clear()
    continued = run_search(14)
    assert settings(continued) == settings(whole)
    assert continued.failed == 1
    assert len(fake_fit.asked) == 14 - 5  # the interrupted one once more, no finished one
    assert not [asked for asked in fake_fit.asked if asked in finished_before]
    assert run_search(14).trials == continued.trials
    assert len(fake_fit.asked) == 14 - 5


def test_a_trial_that_breaks_fails_the_search_and_does_not_count(run_search: RunSearch, fake_fit: FakeFit) -> None:
    def break_down(variant: Variant, number: int) -> None:
        raise RuntimeError("out of memory")

    fake_fit.before_epoch = break_down
    with pytest.raises(RuntimeError, match="out of memory"):
        run_search(3)
    fake_fit.before_epoch = lambda variant, number: None
    result = run_search(3)
    assert (len(result.trials), result.failed) == (3, 1)


def test_a_diverging_trial_counts_and_the_search_goes_on(run_search: RunSearch, fake_fit: FakeFit) -> None:
    fake_fit.diverges = lambda variant: variant.learning_rate > 1e-3
    result = run_search(12)
    diverged = [trial for trial in result.trials if trial.outcome == "diverged"]
    assert diverged
    assert all(trial.values["learning_rate"] > 1e-3 and math.isnan(trial.loss) for trial in diverged)
    assert "diverged" in result.sentence
    assert result.best is not None
    assert plot_trials(result).startswith(b"\x89PNG")


def test_a_search_in_which_everything_diverges_has_no_best(run_search: RunSearch, fake_fit: FakeFit) -> None:
    fake_fit.diverges = lambda variant: True
    result = run_search(3)
    assert result.best is None
    assert "none is complete yet" in result.sentence
    assert result.importances == {}
    assert plot_trials(result).startswith(b"\x89PNG")
    assert plot_importances(result).startswith(b"\x89PNG")


def test_the_budget_in_time_begins_no_further_trial(run_search: RunSearch, fake_fit: FakeFit) -> None:
    now = [0.0]

    def work(variant: Variant, number: int) -> None:
        now[0] += 10.0

    fake_fit.before_epoch = work
    result = run_search(clock=lambda: now[0], budget=SearchBudget(minutes=2.5))
    assert len(result.trials) == 3  # of a minute each; the third one had begun in time
    assert [trial.seconds for trial in result.trials] == [60.0] * 3


@pytest.mark.parametrize("budget", [(None, None), (0.0, None), (None, 0), (-1.0, 3), (math.nan, None)])
def test_a_budget_that_never_ends_or_never_begins_names_the_settings(budget: tuple[Any, Any]) -> None:
    with pytest.raises(TrainingError, match=r"SEARCH_BUDGET.*SEARCH_TRIALS"):
        SearchBudget(*budget)


def test_every_finished_trial_reaches_the_ledger_also_after_a_death(run_search: RunSearch, fake_fit: FakeFit) -> None:
    told: list[TrialRecord] = []
    result = run_search(16, ledger=told.append)
    assert [record.fingerprint for record in told] == [trial.fingerprint for trial in result.trials]
    assert len({record.fingerprint for record in told}) == 16
    assert told[0].hyperparameters == {**fake_fit.asked[0].hyperparameters()}
    assert {"complete", "pruned"} == {record.outcome for record in told}
    again: list[TrialRecord] = []
    run_search(16, ledger=again.append)  # what died between a trial and its record is made up for
    assert again == told


def test_other_data_are_another_study(
    run_search: RunSearch, fake_fit: FakeFit, panel: PricePanel, searched: Variant
) -> None:
    first = run_search(2)
    other = run_search(2, cutoff=panel.sessions[780])
    assert other.study != first.study
    assert len(fake_fit.asked) == 4
    # The searched settings do not name the study: adopting its result goes on with it.
    adopted = run_search(3, variant=replace(searched, hidden=48))
    assert adopted.study == first.study
    assert adopted.trials[2].values == adopted.present


def test_present_settings_outside_of_the_space_are_not_tried(
    run_search: RunSearch, fake_fit: FakeFit, searched: Variant
) -> None:
    result = run_search(2, variant=replace(searched, hidden=17))
    assert all(asked.hidden != 17 for asked in fake_fit.asked)
    assert math.isnan(result.present_loss)


def test_trials_are_the_fit_of_the_production_training(
    run_search: RunSearch, searched: Variant, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    """The loss of a trial is the one that a training with its settings has."""
    result = run_search(1)
    data = blocks_module.TrainingData.until(cutoff, features, panel, sequence_length=5)
    fitted = fit_network(searched, data, seed=7, device="cpu")
    assert result.trials[0].loss == fitted.stop_loss
    assert result.trials[0].best_epoch == fitted.best_epoch


def test_trials_never_get_the_sessions_that_judge_them(
    features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    found = SearchData.until(cutoff, features, panel, sequence_length=5)
    assert found.data.sessions[-1] < found.spans["calibrate"][0]
    matrices = ("features", "outcome", "outcome_5d", "excess", "causal_volatility", "volatility", "usable")
    assert {getattr(found.data, name).shape[1] for name in matrices} == {len(found.data.sessions)}
    settled = panel.sessions.get_loc(found.spans["stop"][1]) + LABEL_HORIZON
    assert found.read_until == panel.sessions[settled], "the session that settles the last label of the stop block"
    assert len(found.data.calibrate) == 0
    assert found.spans["evaluation"] == (panel.sessions[800], panel.sessions[-1])


def test_a_search_beyond_the_cutoff_is_stopped_and_named(
    run_search: RunSearch, fake_fit: FakeFit, panel: PricePanel
) -> None:
    with pytest.raises(SearchLeakError, match=r"evaluation block, which begins after the data cut-off 2004-01-23"):
        run_search(2, cutoff=panel.sessions[-1])
    assert fake_fit.asked == []


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        (lambda blocks: blocks.calibrate, "the calibrate block"),
        (lambda blocks: range(805, 880), "the evaluation block"),
        (lambda blocks: range(blocks.stop.start, 880), "the calibrate block .* and the evaluation block"),
        (lambda blocks: blocks.fit, "the fit block"),
    ],
)
def test_a_trial_that_is_judged_on_other_sessions_is_stopped_and_named(
    monkeypatch: pytest.MonkeyPatch,
    run_search: RunSearch,
    features: FeaturePanel,
    panel: PricePanel,
    cutoff: pd.Timestamp,
    planted: Callable[[Blocks], range],
    named: str,
) -> None:
    """The fault, planted where it would really sit: the fit stops early on another block."""
    whole = blocks_module.TrainingData.until(panel.sessions[-1], features, panel, sequence_length=5)
    laid = blocks_module.TrainingData.until(cutoff, features, panel, sequence_length=5).blocks
    leaking = replace(whole, blocks=Blocks(laid.fit, planted(laid), range(880, 880)))

    def fit(variant: Variant, data: object, **arguments: Any) -> Any:
        return fit_network(variant, leaking, **arguments)

    monkeypatch.setattr(module, "fit_network", fit)
    with pytest.raises(SearchLeakError, match=rf"on {named}.*stop block alone"):
        run_search(1)
    monkeypatch.undo()
    assert len(run_search(1).trials) == 1  # what was judged there does not count


@pytest.mark.parametrize(
    "content", [b"not a journal", b"not a journal\n" * 3, b"{}\n" * 3, b'{"op_code": 0}\n', b"\xff\x00\n\n"]
)
def test_a_damaged_journal_is_named(tmp_path: Path, run_search: RunSearch, fake_fit: FakeFit, content: bytes) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "tiny.journal").write_bytes(content)
    with pytest.raises(TrainingError, match=r"(?s)tiny\.journal cannot be used.*remove it to search anew"):
        run_search(1)


def test_a_line_that_was_not_written_to_its_end_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_search: RunSearch, fake_fit: FakeFit
) -> None:
    """As a full disk leaves it: the trial whose end was lost is failed and tried again."""
    first = run_search(3)
    journal = tmp_path / "search" / "tiny.journal"
    content = journal.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    journal.write_bytes(content[: (last + len(content)) // 2])
    monkeypatch.setattr(study_module, "owner_is_alive", lambda tags: False)  # who wrote it is gone, too
    again = run_search(3)
    assert settings(again) == settings(first)
    assert (again.failed, len(fake_fit.asked)) == (1, 4)


def test_two_searches_share_a_study_without_repeating_a_trial(run_search: RunSearch, fake_fit: FakeFit) -> None:
    both_run = threading.Barrier(2, timeout=60)

    def wait_for_the_other(variant: Variant, number: int) -> None:
        if number == 1 and not both_run.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                both_run.wait()

    fake_fit.before_epoch = wait_for_the_other
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run_search(10)
        except BaseException as error:
            errors.append(error)
        finally:
            both_run.abort()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    result = run_search(10)
    assert len(result.trials) == len(fake_fit.asked) == 10
    assert len({repr(sorted(trial.values.items())) for trial in result.trials}) == 10


CHILD = """
import sys, time
from pathlib import Path
import pandas as pd
from tests.models.conftest import SEQUENCE_LENGTH, TINY, walk
from tests.models.search.conftest import FakeFit
from dataclasses import replace
from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.models.search import search as module
from financial_assets.models.search import study as study_module

folder, trials, hang = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
fit = FakeFit()
def before(variant, number):
    if number == 4 and len(fit.asked) == hang:
        print("hanging", flush=True)
        time.sleep(600)
fit.before_epoch = before
module.fit_network = fit
panel = walk()
quick = [feature for feature in CATALOGUE if feature.lookback <= 25][:15]
graph = FeatureGraph([*quick, next(feature for feature in CATALOGUE if feature.name == "ewma_volatility")])
search = module.HyperparameterSearch(folder, SEQUENCE_LENGTH, 7, "cpu")
cutoff = panel.sessions[799]
search.run(replace(TINY, hidden=16), compute_panel(panel, graph), panel, cutoff=cutoff, evaluation_after=cutoff,
           budget=module.SearchBudget(trials=trials))
print("done", len(fit.asked), flush=True)
"""


def child(folder: Path, trials: int, hang: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(trials), str(hang)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_killed_search_resumes(tmp_path: Path, run_search: RunSearch, fake_fit: FakeFit) -> None:
    """SIGKILL in the middle of a trial: it is marked failed, and the study becomes what it would have been."""
    whole = run_search(9, folder="whole")
    with child(tmp_path / "search", 9, hang=5) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "hanging\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    fake_fit.asked.clear()
    continued = run_search(9)
    assert continued.failed == 1
    assert len(fake_fit.asked) == 9 - 4
    assert settings(continued) == settings(whole)


def test_two_processes_work_on_one_study(tmp_path: Path, run_search: RunSearch, fake_fit: FakeFit) -> None:
    folder = tmp_path / "search"
    processes = [child(folder, 12) for _ in range(2)]
    done = [int(process.communicate(timeout=120)[0].split()[1]) for process in processes]
    assert sum(done) == 12
    result = run_search(12)
    assert fake_fit.asked == []
    assert (len(result.trials), result.failed) == (12, 0)
    assert len({repr(sorted(trial.values.items())) for trial in result.trials}) == 12
