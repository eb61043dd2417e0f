"""The weights of an ensemble: convex, continuous in the volatility, and given to who is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.fitting.ensemble import fit_ensemble
from financial_assets.models.heads import HeadOutputs
from financial_assets.models.networks.ensemble import TERCILES, EnsembleNetwork
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import train
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import VARIANTS
from tests.models.small_variants import SMALL


class Constant(nn.Module):
    """Says the same of every window."""

    def __init__(self, logit: float, width: float = 1.0) -> None:
        super().__init__()
        self.logit, self.width = logit, width

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        one = torch.ones(len(inputs), 1)
        quantiles = one * torch.tensor([-2.33, -1.64, 0.0, 1.64, 2.33]) * self.width
        return HeadOutputs(one * self.logit, quantiles, quantiles, one * 0.0)


@pytest.fixture(scope="module")
def data(make_persistent: Callable[..., PricePanel], graph: FeatureGraph) -> TrainingData:
    panel = make_persistent(count=900)
    data = TrainingData.until(panel.sessions[799], compute_panel(panel, graph), panel, sequence_length=5)
    return data.scaled(RobustScaler.fit(data.fit.last_step))


def test_weights_are_convex_and_continuous_in_the_volatility() -> None:
    network = EnsembleNetwork({"one": Constant(-1.0), "other": Constant(2.0)})
    network.centres.copy_(torch.log(torch.tensor([0.01, 0.02, 0.04])))
    network.weights.copy_(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).expand(4, TERCILES, 2))
    volatility = torch.exp(torch.linspace(np.log(0.005), np.log(0.08), 2001)).unsqueeze(1).repeat(1, 2)
    logit = network(torch.zeros(2001, 1, 1), volatility).logit[:, 0]
    assert float(logit[0]) == pytest.approx(-1.0)
    assert float(logit[-1]) == pytest.approx(2.0)
    assert float(logit[1000]) == pytest.approx(0.5, abs=1e-3)
    assert bool((logit.diff() >= -1e-6).all())
    assert float(logit.diff().abs().max()) < 0.01
    assert bool(torch.allclose(network.levels(volatility).sum(dim=1), torch.ones(2001)))


def test_a_new_ensemble_weighs_all_alike() -> None:
    network = EnsembleNetwork({"one": Constant(-1.0), "other": Constant(2.0)})
    answer = network(torch.zeros(3, 1, 1), torch.full((3, 2), 0.01))
    assert torch.allclose(answer.logit, torch.full((3, 1), 0.5))


def test_who_is_right_gets_the_weight(data: TrainingData) -> None:
    """One member knows how wide outcomes are, the other takes them for ten times as wide, on calm and on wild days."""
    network = EnsembleNetwork({"right": Constant(0.0), "wrong": Constant(0.0, width=10.0)})
    calm_or_wild = torch.exp(0.5 * torch.randn(data.volatility.shape[:2], generator=torch.Generator().manual_seed(0)))
    varied = replace(data, volatility=data.volatility * calm_or_wild[..., None])
    details = fit_ensemble(network, VARIANTS["ensemble"], varied, seed=1)
    weights = network.weights
    assert bool((weights >= 0).all())
    assert bool(torch.allclose(weights.sum(dim=-1), torch.ones(4, TERCILES)))
    multiples = HeadOutputs._fields.index("multiples")
    assert bool((weights[multiples, :, 0] > 0.8).all())
    # Where both say the same, equal weights stay.
    assert bool(torch.allclose(weights[0], torch.full((TERCILES, 2), 0.5), atol=1e-3))
    assert details["weight of right in multiples"] == pytest.approx(float(weights[multiples, 1, 0]))
    assert details["spread of the members' probabilities"] == 0.0
    assert bool((network.centres.diff() > 0).all())


def test_forecasts_that_never_vary_have_weights_of_one_tercile(data: TrainingData) -> None:
    """A market whose days are all alike has no terciles; whatever comes later is still answered."""
    network = EnsembleNetwork({"right": Constant(0.0), "wrong": Constant(0.0, width=10.0)})
    fit_ensemble(
        network, VARIANTS["ensemble"], replace(data, volatility=torch.full_like(data.volatility, 0.01)), seed=1
    )
    assert bool(torch.allclose(network.weights.sum(dim=-1), torch.ones(4, TERCILES)))
    assert bool((network.centres.diff() > 0).all())
    for volatility in (0.001, 0.01, 0.1):
        answer = network(torch.zeros(3, 1, 1), torch.full((3, 2), volatility))
        assert all(bool(torch.isfinite(each).all()) for each in answer if each is not None)


def test_members_that_answer_nan_are_refused(data: TrainingData) -> None:
    network = EnsembleNetwork({"right": Constant(0.0), "sick": Constant(float("nan"))})
    with pytest.raises(TrainingError, match="no finite loss"):
        fit_ensemble(network, VARIANTS["ensemble"], data, seed=1)


def test_an_ensemble_needs_its_members_and_those_of_the_same_blocks(
    features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp
) -> None:
    variant = SMALL["ensemble"]

    def trained(name: str, until: pd.Timestamp, members: tuple[str, ...] = ()) -> object:
        return train(SMALL[name], features, panel, cutoff=until, sequence_length=5, seed=1, device="cpu")

    linear = trained("linear", cutoff)
    arguments = {"cutoff": cutoff, "sequence_length": 5, "seed": 1, "device": "cpu"}
    with pytest.raises(TrainingError, match="combines 'baseline', which was not trained"):
        train(variant, features, panel, members=[linear], **arguments)  # type: ignore[arg-type, list-item]
    only_linear = replace(variant, members=(SMALL["linear"],))
    earlier = trained("linear", panel.sessions[700])
    with pytest.raises(TrainingError, match="'linear' was trained on other data"):
        train(only_linear, features, panel, members=[earlier], **arguments)  # type: ignore[arg-type, list-item]
