"""Risk heads of known formula: right against numpy, written as graphs that pass the examination, fitted on the past."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import Tensor, nn

from financial_assets.errors import ExportError, ExternalModelError
from financial_assets.market.panel import PricePanel
from financial_assets.models.external.card import ExternalCard, find_external, read_card
from financial_assets.models.external.examination import examine
from financial_assets.models.external.risk_heads import (
    ConstantVolatility,
    HarTerms,
    RiskHead,
    Volatility,
    WeightedVolatility,
)
from financial_assets.models.external.writing import write_external_model
from financial_assets.models.onnx.export import onnx_session, run_onnx

CARD = ExternalCard(name="planted", data_cutoff=dt.date(2003, 12, 31), licence="MIT", source="https://example.org")


@pytest.fixture(scope="module")
def panel(make_walk: Callable[..., PricePanel]) -> PricePanel:
    return make_walk(seed=3, tickers=3, count=800)


@pytest.fixture(scope="module")
def windows(panel: PricePanel) -> np.ndarray:
    return panel.windows(panel.sessions[-1], 256)[1]


VOLATILITIES: dict[str, Callable[[PricePanel], Volatility]] = {
    "constant": lambda _: ConstantVolatility(0.02),
    "twenty-days": lambda _: WeightedVolatility.rolling(20),
    "drawn": lambda _: WeightedVolatility.drawn(40, 1),
    "har": lambda panel: HarTerms.fitted(panel, panel.sessions[700]),
}


@pytest.mark.parametrize("name", VOLATILITIES)
def test_each_head_is_examined_and_answers_what_torch_does(
    name: str, panel: PricePanel, windows: np.ndarray, tmp_path: Path
) -> None:
    head = RiskHead.fitted(VOLATILITIES[name](panel), panel, panel.sessions[700])
    model = write_external_model(head, CARD, tmp_path)
    assert find_external(tmp_path) == (model,)
    assert read_card(model) == CARD
    found = examine(model.path, CARD, panel)
    assert found.passed, found.reason
    for expected, answer in zip(
        head(torch.from_numpy(windows)), run_onnx(onnx_session(model.path), windows), strict=True
    ):
        np.testing.assert_allclose(answer, expected.numpy(), rtol=1e-4, atol=1e-7)


def test_volatilities_are_their_formulas(windows: np.ndarray) -> None:
    bars = torch.from_numpy(windows)
    moves = np.diff(np.log(windows[:, :, 3].astype(np.float64)), axis=1)
    month = WeightedVolatility.rolling(20)(bars).numpy()
    np.testing.assert_allclose(month[:, 0], np.sqrt((moves[:, -20:] ** 2).mean(axis=1)), rtol=1e-3)
    np.testing.assert_array_equal(month[:, 0], month[:, 1])
    np.testing.assert_allclose(ConstantVolatility(0.02)(bars).numpy(), 0.02)
    opening, high, low, close = (np.log(windows[:, :, channel].astype(np.float64)) for channel in range(4))
    gap, span, body = opening[:, 1:] - close[:, :-1], (high - low)[:, 1:], (close - opening)[:, 1:]
    variance = gap**2 + 0.5 * span**2 - (2 * np.log(2) - 1) * body**2
    # With an intercept of 0 and one slope of 1 the forecast is the root of that mean variance.
    for term, sessions in enumerate((1, 5, 22)):
        coefficients = torch.zeros(4, 2)
        coefficients[term + 1] = 1.0
        expected = np.sqrt(variance[:, -sessions:].mean(axis=1))
        np.testing.assert_allclose(HarTerms(coefficients)(bars).numpy()[:, 0], expected, rtol=1e-3)


def test_two_draws_differ_and_one_is_repeated(windows: np.ndarray) -> None:
    bars = torch.from_numpy(windows)
    one, again, other = (WeightedVolatility.drawn(40, seed)(bars) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, rtol=1e-3)


def test_quantiles_are_those_of_the_past_and_nothing_later_is_read(panel: PricePanel) -> None:
    cutoff = panel.sessions[700]
    later = replace(panel, values=panel.values.copy())
    later.values[:, :6, 701:] *= np.float32(1.5)
    heads = [
        RiskHead.fitted(volatility, prices, cutoff)
        for prices in (panel, later)
        for volatility in (WeightedVolatility.rolling(20), HarTerms.fitted(prices, cutoff))
    ]
    assert torch.equal(heads[0].multiples, heads[2].multiples)
    assert torch.equal(heads[1].multiples, heads[3].multiples)
    # Normal moves: multiples of an estimate from 20 of them are those of Student's t, a little wider than normal.
    assert heads[0].multiples[0].numpy() == pytest.approx([-2.5, -1.7, 0, 1.7, 2.5], abs=0.35)


def test_a_narrowed_head_says_that_it_knows_more(panel: PricePanel, windows: np.ndarray) -> None:
    head = RiskHead.fitted(WeightedVolatility.rolling(20), panel, panel.sessions[700])
    (_, wide, _, score), (_, narrow, _, same) = (one(torch.from_numpy(windows)) for one in (head, head.narrowed(0.5)))
    torch.testing.assert_close(narrow, 0.5 * wide)
    assert torch.equal(score, same)


def test_too_short_a_past_is_refused(panel: PricePanel) -> None:
    with pytest.raises(ExternalModelError, match="too few to fit a risk head"):
        RiskHead.fitted(WeightedVolatility.rolling(20), panel, panel.sessions[300])


class Three(nn.Module):
    def forward(self, bars: Tensor) -> tuple[Tensor, ...]:
        return bars[:, -1, :1], bars[:, -1, :3], bars[:, -1, :5], bars[:, -1, :1]


def test_other_shapes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"planted answers .*\(2, 3\).* not .*return_quantiles"):
        write_external_model(Three(), CARD, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_covariates_widen_the_input_and_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    head = RiskHead(ConstantVolatility(0.02), torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0]] * 2))
    for count in (0, 2):
        model = write_external_model(head, CARD, tmp_path, covariates=count)
        (given,) = onnx.load(model.path).graph.input
        assert [axis.dim_value for axis in given.type.tensor_type.shape.dim] == [0, 256, 7 + count]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["planted.onnx", "planted.yaml"]
    assert yaml.safe_load(model.card_path.read_text())["data_cutoff"] == "2003-12-31"
