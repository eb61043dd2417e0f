from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from financial_assets.errors import TrainingError
from financial_assets.models.scaling import CLIP, RobustScaler


def test_normal_rows_become_standard_normal() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(3.0, 0.2, (20_000, 2)).astype(np.float32))
    scaled = RobustScaler.fit(rows)(rows)
    assert scaled.mean(0).tolist() == pytest.approx([0, 0], abs=0.03)
    assert scaled.std(0).tolist() == pytest.approx([1, 1], abs=0.03)


def test_one_absurd_row_moves_nothing_and_is_clipped() -> None:
    rows = torch.linspace(-1, 1, 1001).unsqueeze(1)
    spoiled = torch.cat([rows, torch.tensor([[1e12]])])
    clean, robust = RobustScaler.fit(rows), RobustScaler.fit(spoiled)
    assert float(robust.scale) == pytest.approx(float(clean.scale), rel=0.01)
    assert float(robust(spoiled).max()) == CLIP


def test_flags_and_constants_do_not_explode() -> None:
    flag = (torch.arange(1000) % 10 == 0).float()
    rows = torch.stack([flag, torch.full((1000,), 0.37)], dim=1)
    scaler = RobustScaler.fit(rows)
    assert float(scaler.scale[0]) == pytest.approx(0.3, abs=0.01)
    assert float(scaler(rows)[:, 1].abs().max()) == 0.0


def test_rounding_noise_is_not_magnified() -> None:
    rows = 1.0 + 1e-6 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    assert float(RobustScaler.fit(rows)(rows).abs().max()) < 1e-4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(bad: float) -> None:
    rows = torch.zeros(10, 2)
    rows[4, 1] = bad
    with pytest.raises(TrainingError, match="not finite"):
        RobustScaler.fit(rows)


@given(hnp.arrays(np.float32, (30, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_scaled_fit_rows_are_always_finite_and_clipped(rows: np.ndarray) -> None:
    scaled = RobustScaler.fit(torch.from_numpy(rows))(torch.from_numpy(rows))
    assert bool(torch.isfinite(scaled).all())
    assert float(scaled.abs().max()) <= CLIP
