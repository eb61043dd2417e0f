"""Each question catches the graph that it is asked for, by name; an honest graph passes all."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from torch import Tensor

from financial_assets.errors import ExternalModelError
from financial_assets.market.panel import PricePanel
from financial_assets.models.external.card import ExternalCard
from financial_assets.models.external.examination import CALENDAR_CYCLE, Examination, examine
from tests.models.external.graphs import LEVELS, External, Heads, momentum, write_graph

CARD = ExternalCard(name="house", data_cutoff=dt.date(2002, 12, 31), licence="MIT")


@pytest.fixture(scope="module")
def bars(make_walk: Callable[..., PricePanel]) -> PricePanel:
    return make_walk(seed=5, tickers=3)


def failed(examination: Examination) -> list[str]:
    return [finding.question for finding in examination.findings if not finding.passed]


def asked(folder: Path, bars: PricePanel, module: torch.nn.Module, card: ExternalCard = CARD) -> Examination:
    return examine(write_graph(folder, module=module), card, bars)


def test_an_honest_graph_passes_every_question(tmp_path: Path, bars: PricePanel) -> None:
    found = asked(tmp_path, bars, External())
    assert found.passed, found.reason
    assert found.reason == ""
    assert list(found.frame()["question"]) == [
        "data cut-off",
        "signature",
        "answers",
        "alone as in a batch",
        "any unit of prices and volume",
        "knows no dates by heart",
        "answers depend on the bars",
        "not too good after its cut-off",
    ]


def test_a_cut_off_later_than_the_clock(tmp_path: Path, bars: PricePanel) -> None:
    late = CARD.model_copy(update={"data_cutoff": (bars.sessions[-1] + pd.Timedelta(days=1)).date()})
    assert failed(asked(tmp_path, bars, External(), late)) == ["data cut-off"]


@pytest.mark.parametrize(
    ("logit", "question"),
    [
        (lambda bars: momentum(bars) * 0.0 + 0.3, "answers depend on the bars"),
        (lambda bars: bars[:, -1, 3:4] * 0.01, "any unit of prices and volume"),
        (lambda bars: torch.log(bars[:, -1, 4:5] + 1.0) * 0.1 + momentum(bars), "any unit of prices and volume"),
        (lambda bars: torch.log(bars[:, -1, 5:6]) * 0.1 + momentum(bars), "any unit of prices and volume"),
        (lambda bars: bars[:, -1, 6:7] * 1e-3 - 11.0 + momentum(bars), "knows no dates by heart"),
        (lambda bars: momentum(bars) - momentum(bars).mean(dim=0, keepdim=True), "alone as in a batch"),
        (lambda bars: momentum(bars) + momentum(bars - bars) * 0.0, "answers"),
    ],
)
def test_planted_faults_are_named(
    tmp_path: Path, bars: PricePanel, logit: Callable[[Tensor], Tensor], question: str
) -> None:
    assert question in failed(asked(tmp_path, bars, External(logit)))


def test_weekdays_may_be_known(tmp_path: Path, bars: PricePanel) -> None:
    def weekday(day: Tensor) -> Tensor:
        return day - torch.floor(day / 7.0) * 7.0

    assert CALENDAR_CYCLE % 7 == 0
    start = pd.Timestamp("2004-02-29")
    assert start + pd.Timedelta(days=CALENDAR_CYCLE) == pd.Timestamp("2032-02-29")
    found = asked(tmp_path, bars, External(lambda bars: momentum(bars) + 0.1 * weekday(bars[:, -1, 6:7])))
    assert found.passed, found.reason


class Disordered(External):
    def forward(self, bars: Tensor) -> Heads:
        probability, quantiles, week, score = super().forward(bars)
        return probability, quantiles * torch.tensor([[1.0, 1.0, 1.0, 2.0, 1.0]]), week, score


class OutOfBounds(External):
    def forward(self, bars: Tensor) -> Heads:
        probability, *rest = super().forward(bars)
        return (probability * 3.0, *rest)  # type: ignore[return-value]


@pytest.mark.parametrize(("module", "said"), [(Disordered(), "falls"), (OutOfBounds(), "leaves")])
def test_answers_that_cannot_be(tmp_path: Path, bars: PricePanel, module: torch.nn.Module, said: str) -> None:
    found = asked(tmp_path, bars, module)
    assert failed(found) == ["answers"]
    assert said in found.reason


def test_it_has_learned_what_its_card_denies(tmp_path: Path, bars: PricePanel) -> None:
    """Prices whose volume tells tomorrow stand for a graph that saw the days after its cut-off."""
    values = bars.values.copy()
    up = np.diff(np.log(values[:, 3]), axis=1) > 0
    values[:, 4, :-1] = np.where(up, 2e6, 1e6)
    told = dataclasses.replace(bars, values=np.ascontiguousarray(values))

    def cheat(window: Tensor) -> Tensor:
        volume = window[:, -20:, 4]
        usual = volume.mean(dim=1, keepdim=True)
        return torch.tanh((volume[:, -1:] - usual) / (usual + 1e-9)) + 0.01 * momentum(window)

    found = asked(tmp_path, told, External(cheat))
    assert failed(found) == ["not too good after its cut-off"]
    honest = CARD.model_copy(update={"data_cutoff": told.sessions[-1].date()})
    later = asked(tmp_path, told, External(cheat), honest)
    assert later.passed
    assert "too few" in later.findings[-1].said


def broken(kind: str, path: Path) -> None:
    model = onnx.load(str(path))
    if kind == "bytes":
        path.write_bytes(b"not a graph")
        return
    if kind == "input":
        model.graph.input[0].name = "prices"
        for node in model.graph.node:
            node.input[:] = ["prices" if name == "bars" else name for name in node.input]
    if kind == "output":
        del model.graph.output[1]
    if kind == "fixed":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    if kind == "short":
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128
    if kind == "operator":
        model.graph.node[0].op_type = "NoSuchThing"
    if kind == "external":
        for tensor in model.graph.initializer:
            tensor.data_location = onnx.TensorProto.EXTERNAL
    onnx.save(model, str(path)) if kind != "external" else path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("bytes", "not an ONNX file"),
        ("input", "prices"),
        ("output", "return_quantiles"),
        ("fixed", "1 rows only"),
        ("short", "128"),
        ("operator", "cannot open"),
        ("external", "outside its file"),
    ],
)
def test_graphs_that_cannot_be_asked(tmp_path: Path, bars: PricePanel, kind: str, said: str) -> None:
    path = write_graph(tmp_path)
    broken(kind, path)
    found = examine(path, CARD, bars)
    assert failed(found) == ["signature"]
    assert said in found.reason


def test_without_a_window_nothing_can_be_asked(tmp_path: Path, bars: PricePanel) -> None:
    short = bars.until(bars.sessions[100])
    with pytest.raises(ExternalModelError, match="INGESTION_START_DATE"):
        examine(write_graph(tmp_path), CARD, short)


def test_levels_are_in_order() -> None:
    assert (LEVELS.diff() > 0).all()
