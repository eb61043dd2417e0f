"""Tiny models and one running plane for many tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.gitops import probes
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest
from financial_assets.serving.target import Endpoint, ServingTarget
from tests.serving.git_remote import GitRemote
from tests.serving.git_syncer import Syncer
from tests.serving.tiny_models import expected_answer, make_bars, write_model

MakeModel = Callable[[Path, float], Path]


@dataclass(frozen=True)
class Plane:
    """A running plane: baseline (logit -1) and enhanced (1) split 70/30; lightweight (2) mirrors every request."""

    home: Path
    target: LocalTarget
    logits: dict[str, float]

    @property
    def endpoint(self) -> Endpoint:
        return self.target.endpoint()


BASELINE, ENHANCED, SHADOW = "baseline-predictor-v1", "enhanced-predictor-v1", "lightweight-predictor-v1"


def start_plane(root: Path, *, mirror: tuple[str, int] | None = (SHADOW, 100), earlier: Sequence[str] = ()) -> Plane:
    """A plane whose models named in ``earlier`` answer as those of an earlier version."""
    logits = {BASELINE: -1.0, ENHANCED: 1.0, SHADOW: 2.0}
    target = LocalTarget(root / "home")
    models = [
        model_manifest(name, str(write_model(root / name, logit, earlier=name in earlier)))
        for name, logit in logits.items()
    ]
    weights = {BASELINE: 70, ENHANCED: 30}
    target.apply([*models, experiment_manifest(EXPERIMENT_NAME, default=BASELINE, weights=weights, mirror=mirror)])
    return Plane(root / "home", target, logits)


@pytest.fixture(scope="session")
def write_tiny() -> MakeModel:
    return write_model


@pytest.fixture(scope="session")
def bars_of() -> Callable[[int], np.ndarray]:
    return make_bars


@pytest.fixture(scope="session")
def answer_of() -> Callable[[np.ndarray, float], dict[str, np.ndarray]]:
    return expected_answer


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """A bare client; loading TLS certificates for each request would take most of the time."""
    with httpx.Client(trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One plane for every test that leaves it as it was."""
    running = start_plane(tmp_path_factory.mktemp("plane"))
    yield running
    control.stop(running.home)


@pytest.fixture
def client(plane: Plane) -> Iterator[InferenceClient]:
    with InferenceClient(plane.endpoint) as connected:
        yield connected


@dataclass(frozen=True)
class Synced:
    """A GitOps target whose branch a syncer brings to a running plane.

    ``pause`` and ``resume`` stop and start the syncer, ``settle`` waits until the plane is what the branch says.
    """

    target: ServingTarget
    volume: Path
    pause: Callable[[], None]
    resume: Callable[[], None]
    settle: Callable[[], None]


@pytest.fixture(scope="session")
def branch_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GitRemote, LocalTarget, Path]]:
    """A Git repository, a running plane that may follow it, and a folder for models."""
    root = tmp_path_factory.mktemp("gitops")
    home = root / "home"
    control.start(home, timeout_s=90)
    yield GitRemote(root / "git"), LocalTarget(home), root / "volume"
    control.stop(home)


@pytest.fixture(scope="module")
def synced(branch_plane: tuple[GitRemote, LocalTarget, Path]) -> Iterator[Synced]:
    """One plane behind a Git repository; each test uses names of its own.

    The syncer asks Git many times per second: it ends with the file that needs it.
    """
    remote, plane, volume = branch_plane
    gateway = f"127.0.0.1:{control.start(plane.home, timeout_s=90).gateway}"
    target = remote.target(http_url=f"http://{gateway}", grpc_target=gateway, volume=volume)
    with pytest.MonkeyPatch.context() as patch, Syncer(remote, plane) as syncer:
        patch.setattr(probes, "_DRAWS", 200)  # tells 3:1 from 1:1, and takes less than a second
        yield Synced(target, volume, syncer.running.clear, syncer.running.set, syncer.settle)
