from __future__ import annotations

import pytest
import torch

from financial_assets.errors import TrainingError
from financial_assets.models.devices import reproducible, resolve_device


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_prefers_cuda_then_mps_then_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device("auto").type == chosen


def test_a_device_that_is_not_there_is_an_error_not_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=False, mps=False)
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match="cuda"):
        resolve_device("cuda")
    with pytest.raises(TrainingError, match="no device 'tpu'"):
        resolve_device("tpu")


def test_callers_torch_is_left_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    def interrupted() -> None:
        with reproducible(3, torch.device("cpu"), threads + 1):
            torch.rand(5)
            assert torch.get_num_threads() == threads + 1
            assert torch.are_deterministic_algorithms_enabled()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
