"""Where training runs, and under which conditions two runs are bit-identical."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from financial_assets.errors import TrainingError


def resolve_device(name: str) -> torch.device:
    """``auto`` (cuda, else mps, else cpu) or the device asked for.

    Raises
    ------
    TrainingError
        If the device is unknown or this machine does not have it: there is no silent fallback.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise TrainingError(f"no device {name!r}; there are auto, {', '.join(available)}")
    if not available[name]:
        raise TrainingError(f"device {name!r} was asked for and this machine has none: choose auto or cpu")
    return torch.device(name)


def has_room(device: torch.device, size: int) -> bool:
    """Whether ``size`` bytes may stay on ``device`` throughout a training: at most half of what is free there.

    The other half is for activations and gradients. Data without room stay in the main memory, and each batch is
    copied.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        return True
    return size <= free // 2


@contextmanager
def reproducible(seed: int, device: torch.device, threads: int) -> Generator[torch.Generator, None, None]:
    """Seeded, deterministic torch inside the block; the caller's random state, threads and flags are restored after it.

    Parameters
    ----------
    seed
        Of the global generators (initialisation, dropout) and of the one yielded.
    device
        The device that will be used.
    threads
        CPU threads of one operation. Sums split over threads depend on their number, so it is part of "the same run".

    Yields
    ------
    torch.Generator
        A CPU generator for shuffling.
    """
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    if device.type == "cuda":
        # cuBLAS is deterministic only with a fixed workspace, which it reads from here when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.set_num_threads(threads)
            # The same switch as use_deterministic_algorithms(True), which also imports torch's compiler: that takes
            # longer than training a small network.
            torch.set_deterministic_debug_mode("error")
            torch.backends.cudnn.benchmark = False
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)
        finally:
            torch.set_num_threads(before[0])
            torch.set_deterministic_debug_mode(before[1])
            torch.backends.cudnn.benchmark = before[2]
