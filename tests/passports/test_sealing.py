"""What is sealed when: rows once, late ones later, what an earlier version left; and nothing on a broken chain."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import ChainError, ExperimentError
from financial_assets.experiment.prediction_log import decisions as log_decisions
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.prediction_log.sealed.chain import SealedRecord, sealed
from financial_assets.experiment.prediction_log.sealed.rows import columns_of, id_ranges, ids_in
from tests.experiment.builders import CUTOFF, arms
from tests.experiment.rollout.builders import PRICES, predict
from tests.passports.builders import SKILLS, SealedTest, findings

LATER = PRICES.sessions[PRICES.sessions > CUTOFF]


@pytest.fixture
def test(tmp_path: Path) -> Iterator[SealedTest]:
    """A test of which three sessions are decided."""
    begun = SealedTest.start(tmp_path, signed=False)
    begun.play(3)
    yield begun
    begun.log.close()


def of_kind(log: PredictionLog, kind: str) -> list[SealedRecord]:
    return [record for record in log.sealed() if record.kind == kind]


def test_each_session_is_sealed_once_with_the_next_decision(test: SealedTest) -> None:
    records = of_kind(test.log, "direct")
    assert [record.subject for record in records] == [f"{day:%Y-%m-%d}" for day in LATER[:3]]
    ids = [one for record in records for one in ids_in(record.values["ids"])]
    assert ids == sorted({*ids})
    assert len(ids) == len(test.log.direct())
    before = test.log.sealed()
    test.decide(LATER[3])  # as before: nothing is new
    assert test.log.sealed() == before


def test_a_decision_names_what_it_was_taken_from(test: SealedTest) -> None:
    decision = test.log.decisions("ab-experiment")[-1]
    (seal,) = test.log.seals([decision.digest])
    said, by_digest = seal.values, {record.digest: record for record in test.log.sealed()}
    assert said["plan"] == decision.plan_digest
    assert by_digest[said["plan_record"]].subject == decision.plan_digest
    assert by_digest[said["rows"]["direct"]].number < seal.number
    assert by_digest[said["weights_before"]["record"]].values["epoch"] == decision.epoch
    assert {by_digest[digest].subject for digest in said["artefacts"].values()} == {
        decision.champion,
        decision.challenger,
    }
    assert said["prices"]["store"]["change"] == 5
    assert said["weights_after"] == dict(decision.weights)
    assert len(of_kind(test.log, "artefact")) == 3, "each model's files are sealed once"


def test_an_answer_that_was_open_is_sealed_when_it_has_come(test: SealedTest, verifier: ModuleType) -> None:
    predict(test.log, SKILLS, first=3, last=4)
    epoch = test.log.epochs("ab-experiment")[-1]
    (left,) = test.log.begin_direct(epoch.arms[:1], LATER[3], LATER[4], ["LATE"])
    test.decide(LATER[4])
    record = of_kind(test.log, "direct")[-1]
    assert (record.subject, record.values["open"]) == (f"{LATER[3]:%Y-%m-%d}", [left.id])
    test.log.complete_direct([Result(left.id, Forecast(0.5, (-0.03, -0.02, 0.0, 0.02, 0.03)))])
    predict(test.log, SKILLS, first=4, last=5)
    test.decide(LATER[5])
    late, latest = of_kind(test.log, "direct")[-2:]
    assert (late.subject, late.values["ids"]) == (record.subject, [[left.id, left.id]])
    assert latest.values["open"] == []
    assert latest.values["sealed"] == len(test.log.direct())
    assert "BROKEN" not in findings(verifier, test.home).values()


def test_a_decision_of_before_is_said_to_lie_before_the_chain(test: SealedTest, verifier: ModuleType) -> None:
    decision = test.log.decisions("ab-experiment")[-1]
    with test.log.engine.begin() as connection:
        sealed.drop(connection)  # as an earlier version has left the log
    assert findings(verifier, test.home) == {"records": "?"}
    with pytest.raises(ExperimentError, match=r"taken before the chain: there is no chain yet.*decide --repeat"):
        test.passport(decision)
    predict(test.log, SKILLS, first=3, last=4)
    new = test.decide(LATER[4])
    began = test.log.sealed()[0].values["before"]
    assert (began["decisions"], began["experiment_plans"], began["weight_epochs"]) == (6, 2, 1)
    assert began["direct_predictions"] == len(test.log.direct())
    with pytest.raises(ExperimentError, match="taken before the chain: the chain began on"):
        test.passport(decision)
    assert test.passport(new[0])
    states = findings(verifier, test.home)
    assert (states["chain"], states["records"]) == ("?", "ok")
    assert "BROKEN" not in states.values()


def test_nothing_is_added_to_a_broken_chain(test: SealedTest) -> None:
    before = test.log.decisions("ab-experiment")
    with closing(sqlite3.connect(test.home / "predictions.db")) as log:
        log.execute(
            "UPDATE sealed_records SET document = replace(document, 'hold', 'held') "
            "WHERE number = (SELECT max(number) FROM sealed_records)"
        )
        log.commit()
    predict(test.log, SKILLS, first=3, last=4)
    with pytest.raises(ChainError, match="was edited: nothing is added to a broken chain"):
        test.decide(LATER[4])
    assert test.log.decisions("ab-experiment") == before


def test_who_dies_half_way_has_recorded_nothing(test: SealedTest, monkeypatch: pytest.MonkeyPatch) -> None:
    before, chain = test.log.decisions("ab-experiment"), test.log.sealed()
    predict(test.log, SKILLS, first=3, last=4)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(log_decisions, "seal_decision", dies)
        with pytest.raises(KeyboardInterrupt):
            test.decide(LATER[4])
    assert (test.log.decisions("ab-experiment"), test.log.sealed()) == (before, chain)
    assert len(test.decide(LATER[4])) == 2
    assert len(test.log.decisions("ab-experiment")) == len(before) + 2


def test_writers_at_once_make_one_chain(tmp_path: Path, verifier: ModuleType) -> None:
    url, errors = f"sqlite:///{tmp_path / 'predictions.db'}", list[BaseException]()
    PredictionLog(url).close()

    def write(name: str) -> None:
        try:
            with PredictionLog(url) as log:
                for after in range(4):
                    log.open_epoch(name, arms(70 - after, 30 + after), "another", after=after)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"experiment-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with PredictionLog(url) as log:
        assert [record.number for record in log.sealed()] == [*range(1, 18)]
    assert findings(verifier, tmp_path)["chain"] == "ok"


def test_a_signature_of_each_record_that_decides(tmp_path: Path) -> None:
    begun = SealedTest.start(tmp_path)
    begun.play(1)
    kinds = {record.kind: record.signature is not None for record in begun.log.sealed()}
    assert {kind for kind, is_signed in kinds.items() if is_signed} == {"decision", "weights"}
    secret = (tmp_path / "signing.key").read_text().split()[-1]
    assert secret.encode() not in (tmp_path / "predictions.db").read_bytes()
    begun.log.close()


@given(st.sets(st.integers(1, 200), min_size=1))
def test_ranges_hold_the_same_ids(ids: set[int]) -> None:
    ranges = id_ranges([*ids])
    assert [*ids_in(ranges)] == sorted(ids)
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(ranges))


def test_later_columns_stand_behind_those_that_were_sealed() -> None:
    names = [column.name for column in schema.direct.columns]
    assert columns_of(schema.direct, []) == names
    assert columns_of(schema.direct, [*names[:3], *names[5:]]) == [*names[:3], *names[5:], *names[3:5]]
    with pytest.raises(ChainError, match="has no column gone"):
        columns_of(schema.direct, ["id", "gone"])


def test_rows_of_an_earlier_form_keep_their_digests(
    test: SealedTest, verifier: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that adds a column to the log, in the middle of its schema."""
    wider = sa.Table(
        "direct_predictions",
        sa.MetaData(),
        *(sa.Column(one.name, one.type, primary_key=one.primary_key) for one in [*schema.direct.columns][:4]),
        sa.Column("new", sa.Float(53)),
        *(sa.Column(one.name, one.type) for one in [*schema.direct.columns][4:]),
    )
    with test.log.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE direct_predictions ADD COLUMN new FLOAT"))
    from financial_assets.experiment.prediction_log.sealed import rows

    monkeypatch.setitem(rows._TABLES, "direct", (wider, "model"))
    predict(test.log, SKILLS, first=3, last=4)
    new = test.decide(LATER[4])
    assert [len(record.values["columns"]) for record in of_kind(test.log, "direct form")] == [
        len(schema.direct.columns),
        len(schema.direct.columns) + 1,
    ]
    assert "BROKEN" not in findings(verifier, test.home).values()
    widths = {len(json.loads(line)) for line in test.passport(new[0])["predictions.jsonl"].splitlines()}
    assert len(widths) == 2


def test_days_are_those_of_the_session(test: SealedTest) -> None:
    assert [pd.Timestamp(record.subject) for record in of_kind(test.log, "routed")] == [*LATER[:3]]
