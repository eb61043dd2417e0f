"""Plans never change, verdicts are kept, and a series that rewrites its past is found out; whoever asks at once, and
whoever dies in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from financial_assets import chain
from financial_assets.errors import ChainError, JudgeError, StorageError
from financial_assets.experiment.judge import store as store_module
from financial_assets.experiment.judge.judging import bound_to, judge_series
from financial_assets.experiment.judge.series import Outcome
from financial_assets.experiment.judge.store import JudgeStore, RegisteredPlan
from financial_assets.locking import is_held
from tests.experiment.judge.builders import (
    LATER,
    START,
    at,
    both,
    days_of_two,
    first_of,
    incident_plan,
    plan,
    requests_plan,
)


@pytest.fixture
def store(tmp_path: Path) -> JudgeStore:
    return JudgeStore(tmp_path / "judge")


@pytest.fixture
def registered(store: JudgeStore) -> RegisteredPlan:
    return store.register("checkout", plan(), START)[0]


def verdicts_of(store: JudgeStore) -> Path:
    return store.folder / "verdicts.jsonl"


def code(work: Callable[[], Any]) -> str:
    with pytest.raises(JudgeError) as caught:
        work()
    return caught.value.code


def test_the_same_plan_again_is_the_one_that_is_there(store: JudgeStore) -> None:
    first, is_new = store.register("a", plan(), START)
    again, is_new_again = store.register("a", plan(), LATER)
    assert (is_new, is_new_again) == (True, False)
    assert again == first
    assert store.find("a") == store.find(first.digest) == first
    with pytest.raises(JudgeError) as caught:
        store.register("a", plan(alpha=0.01, tolerated_loss=0.02), LATER)
    assert (caught.value.code, caught.value.kind) == ("plan_differs", "conflict")
    assert [field for field, _ in caught.value.problems] == ["alpha", "tolerated_loss"]
    assert store.find("a") == first


def test_a_plan_comes_before_its_data(store: JudgeStore) -> None:
    early = (START - timedelta(seconds=1)).isoformat()
    assert code(lambda: store.register("a", plan(starts=early), START)) == "invalid_plan"
    assert store.plans() == {}
    assert store.register("a", plan(starts=early, retrospective=True), START)[0].start < START
    assert store.register("b", plan(), START)[0].start == START
    assert store.register("c", plan(starts=LATER.isoformat()), START)[0].start == LATER
    ahead = store.find("c")
    assert code(lambda: judge_series(store, ahead, days_of_two(3, 0), now=LATER)) == "invalid_series"


@pytest.mark.parametrize("name", ["", "Upper", "../a", "a/b", "a b", ".a"])
def test_a_name_that_is_none_is_refused(store: JudgeStore, name: str) -> None:
    assert code(lambda: store.register(name, plan(), START)) == "invalid_plan"


def test_an_unknown_plan_is_said_to_be_one(store: JudgeStore) -> None:
    with pytest.raises(JudgeError) as caught:
        store.find("nobody")
    assert (caught.value.code, caught.value.kind) == ("unknown_plan", "unknown")


def test_the_store_has_an_end(store: JudgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_PLANS", 2)
    for name in ("a", "b"):
        store.register(name, plan(), START)
    assert code(lambda: store.register("c", plan(), START)) == "too_many_plans"
    assert store.register("a", plan(), START)[1] is False


def test_of_many_who_register_at_once_one_is_first(tmp_path: Path) -> None:
    plans = [plan(alpha=0.001 * (1 + number % 4)) for number in range(16)]

    def register(number: int) -> str:
        try:
            found, is_new = JudgeStore(tmp_path).register("a", plans[number], START)
        except JudgeError as error:
            return error.code
        assert found.digest == plans[number].digest
        return "new" if is_new else "same"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(register, range(16)))
    assert answers.count("new") == 1
    assert answers.count("same") == 3  # four had this plan
    assert answers.count("plan_differs") == 12
    assert len((tmp_path / "plans.jsonl").read_text().splitlines()) == 1


def test_many_names_at_once_are_all_kept(tmp_path: Path) -> None:
    def register(number: int) -> None:
        JudgeStore(tmp_path).register(f"plan-{number}", plan(), START)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(register, range(24)))
    assert set(JudgeStore(tmp_path).plans()) == {f"plan-{number}" for number in range(24)}


def test_a_series_grows_and_the_verdict_is_kept(store: JudgeStore, registered: RegisteredPlan) -> None:
    outcomes = days_of_two(300, 0.04)
    seen = []
    for count in (0, 20, 20, 200, 201, 300):
        kept = judge_series(store, registered, first_of(outcomes, count), now=LATER)
        assert store.kept(registered) == kept
        seen.append(kept.judgement)
    assert [one is not None and one.verdict for one in seen] == ["hold", "hold", "hold", *["promote"] * 3]
    assert seen[3] == seen[4] == seen[5]
    verdicts = [json.loads(line) for line in verdicts_of(store).read_text().splitlines()]
    assert [(one["plan"], one["verdict"]) for one in verdicts] == [("checkout", "promote")]


@pytest.mark.parametrize("arm", ["control", "candidate"])
def test_a_rewritten_past_is_refused_and_loses_nothing(store: JudgeStore, registered: RegisteredPlan, arm: str) -> None:
    outcomes = days_of_two(40, 0.0)
    kept = judge_series(store, registered, first_of(outcomes, 30), now=LATER)
    rewritten: Any = dict(outcomes)
    rewritten[arm] = [*outcomes[arm][:7], replace(outcomes[arm][7], value=0.123), *outcomes[arm][8:]]  # type: ignore[index]
    assert code(lambda: judge_series(store, registered, rewritten, now=LATER)) == "past_rewritten"
    assert code(lambda: judge_series(store, registered, first_of(outcomes, 29), now=LATER)) == "series_is_behind"
    without = both(outcomes["control"][1:], outcomes["candidate"][1:])
    assert code(lambda: judge_series(store, registered, without, now=LATER)) == "past_rewritten"
    assert store.kept(registered) == kept
    assert judge_series(store, registered, outcomes, now=LATER).judgement is not None


def test_an_outcome_that_comes_late_is_a_rewritten_past(store: JudgeStore) -> None:
    made = store.register("late", requests_plan(), START)[0]
    requests = [Outcome(at(60 * number), 0.5) for number in range(100)]
    judge_series(store, made, both(requests, requests), now=LATER)
    late = sorted([*requests, Outcome(at(61), 0.9)], key=lambda one: one.at)
    assert code(lambda: judge_series(store, made, both(late, requests), now=LATER)) == "past_rewritten"
    # What lies behind the instant up to which both were complete may still come.
    open_end = [*requests, Outcome(at(60 * 99), 0.9)]
    assert judge_series(store, made, both(open_end, requests), now=LATER).judgement is not None
    through = START + timedelta(hours=3)
    judge_series(store, made, both(open_end, requests), complete_through=through, now=LATER)
    more = [*open_end, Outcome(at(60 * 100), 0.9)]
    assert code(lambda: judge_series(store, made, both(more, requests), now=LATER)) == "series_is_behind"


def test_a_plan_is_bound_to_the_first_revision_that_is_named(store: JudgeStore, registered: RegisteredPlan) -> None:
    outcomes = days_of_two(30, 0.0)
    judge_series(store, registered, outcomes, now=LATER)
    assert bound_to(store, registered, None).revision is None
    assert bound_to(store, registered, "v1").revision == "v1"
    for work in (
        lambda: bound_to(store, registered, "v2"),
        lambda: judge_series(store, registered, outcomes, revision="v2", now=LATER),
    ):
        assert code(work) == "other_revision"
    assert judge_series(store, registered, outcomes, revision="v1", now=LATER).revision == "v1"
    named = store.register("named", plan(revision="v7"), START)[0]
    assert code(lambda: bound_to(store, named, "v8")) == "other_revision"
    assert bound_to(store, named, "v7").judgement is None


def test_many_who_judge_at_once_leave_the_longest_series(tmp_path: Path) -> None:
    outcomes = days_of_two(200, 0.05)
    made = JudgeStore(tmp_path).register("a", plan(), START)[0]

    def judge(count: int) -> str:
        try:
            kept = judge_series(JudgeStore(tmp_path), made, first_of(outcomes, count), now=LATER)
        except JudgeError as error:
            return error.code
        assert kept.judgement is not None
        return kept.judgement.verdict

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(judge, [10, 200, 60, 120, 199, 200, 3, 180] * 3))
    assert set(answers) <= {"hold", "promote", "series_is_behind"}
    kept = JudgeStore(tmp_path).kept(made)
    assert kept.judgement is not None
    assert kept.judgement.verdict == "promote"
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 1


def test_nobody_else_judges_by_a_plan_meanwhile(store: JudgeStore, registered: RegisteredPlan) -> None:
    other = store.register("other", plan(), START)[0]
    lock = store.folder / "kept" / "checkout.lock"
    assert not is_held(lock)
    with store.updating(registered) as update:
        assert is_held(lock)
        judge_series(store, other, days_of_two(5, 0.0), now=LATER)  # by another plan, at the same time
        update.change(revision="v1")
    assert not is_held(lock)
    assert store.kept(registered).revision == "v1"


def test_who_dies_between_verdict_and_file_leaves_one_verdict(
    store: JudgeStore, registered: RegisteredPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = days_of_two(200, 0.05)
    before = judge_series(store, registered, first_of(outcomes, 5), now=LATER)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "atomic_write_text", dies)
        with pytest.raises(KeyboardInterrupt):
            judge_series(store, registered, outcomes, now=LATER)
    assert store.kept(registered) == before
    assert judge_series(store, registered, outcomes, now=LATER).judgement is not None
    assert len(verdicts_of(store).read_text().splitlines()) == 1


def test_who_dies_while_registering_leaves_no_half_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JudgeStore(tmp_path)
    store.register("whole", plan(), START)

    def torn(path: Path, end: int, data: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chain, "append_bytes", torn)
        with pytest.raises(KeyboardInterrupt):
            store.register("torn", plan(), START)
    assert set(JudgeStore(tmp_path).plans()) == {"whole"}
    assert store.register("torn", plan(), START)[1]
    assert set(JudgeStore(tmp_path).plans()) == {"whole", "torn"}


def test_damage_is_an_error_that_names_the_file(store: JudgeStore, registered: RegisteredPlan) -> None:
    judge_series(store, registered, days_of_two(5, 0.0), now=LATER)
    path = store.folder / "kept" / "checkout.json"
    whole = path.read_text()
    for broken in ("", "{}", whole[:-20], whole.replace(registered.digest, "0" * 64), "[]", "null"):
        path.write_text(broken)
        with pytest.raises(ChainError, match=r"checkout\.json"):
            store.kept(registered)
    path.write_text(whole)
    assert store.kept(registered).judgement is not None
    plans = store.folder / "plans.jsonl"
    line = plans.read_text()
    for broken in (line.replace('"alpha":0.02', '"alpha":0.2'), line.replace('"plan"', '"plain"'), "{}\n"):
        plans.write_text(broken)
        with pytest.raises(ChainError, match=r"plans\.jsonl"):
            JudgeStore(plans.parent).plans()


def test_a_folder_that_cannot_be_made_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "judge").write_text("somebody's file")
    with pytest.raises(StorageError, match="judge"):
        JudgeStore(tmp_path / "judge").register("a", plan(), START)


def test_incidents_are_judged_while_the_day_goes_on(store: JudgeStore) -> None:
    made = store.register("incidents", incident_plan(), START)[0]
    control = [Outcome(at(100 * number), 0.0) for number in range(400)]
    candidate = [Outcome(at(100 * number + 50), float(number % 4 == 0)) for number in range(400)]
    verdicts = []
    for count in range(40, 401, 40):
        kept = judge_series(store, made, first_of(both(control, candidate), count), now=LATER)
        assert kept.judgement is not None
        verdicts.append(kept.judgement.verdict)
    assert verdicts[0] == "hold"
    assert verdicts[-1] == "rollback"
    assert "hold" not in verdicts[verdicts.index("rollback") :]
