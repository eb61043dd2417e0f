from __future__ import annotations

import pytest
import torch

from financial_assets.errors import TrainingError
from financial_assets.models.devices import has_room, reproducible, resolve_device


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


def test_data_stay_on_an_accelerator_when_they_take_at_most_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 4000))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1500)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 500)
    for kind in ("cuda", "mps"):
        assert has_room(torch.device(kind), 500)
        assert not has_room(torch.device(kind), 501)
    assert has_room(torch.device("cpu"), 2**62)
