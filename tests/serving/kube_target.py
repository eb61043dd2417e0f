"""A cluster's target against the small API server, without its patience."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from financial_assets.serving.kubernetes import api as calls_module
from financial_assets.serving.kubernetes import waiting
from financial_assets.serving.kubernetes.api import connect
from financial_assets.serving.kubernetes.target import KubernetesTarget
from tests.serving.kube_api import KubeApi, kubeconfig


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the pauses between attempts; the deadlines stay."""
    monkeypatch.setattr(calls_module, "_BACK_OFF_S", 0.02)
    monkeypatch.setattr(waiting, "_POLL_S", 0.02)


@pytest.fixture
def api() -> Iterator[KubeApi]:
    """A running API server."""
    with KubeApi() as running:
        yield running


def make_target(url: str, folder: Path, **changes: Any) -> KubernetesTarget:
    """The target of the API server at ``url``; ``folder`` is for its kubeconfig."""
    values = {"timeout_s": 3.0, "request_timeout_s": 0.4, "settle_s": 0.3, **changes}
    return KubernetesTarget(
        connect("here", kubeconfig=kubeconfig(folder, url)), http_url=url, grpc_target="mesh:80", **values
    )
