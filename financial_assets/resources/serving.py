"""The serving target and the way to ask it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from financial_assets.errors import SettingsError
from financial_assets.serving.client import InferenceClient
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.target import ServingTarget

__all__ = ["Serving"]


class Serving(dg.ConfigurableResource):
    """The serving target and the way to ask it."""

    home: str
    target_name: str
    request_timeout: float
    ready_timeout: float
    store_uri: str | None
    gateway_url: str | None
    gateway_grpc: str
    context: str | None
    namespace: str
    repository: str | None
    branch: str
    path: str

    def target(self) -> ServingTarget:
        """The configured serving target."""
        if self.target_name != "local":
            raise SettingsError(f"SERVING_TARGET: {self.target_name!r} is not available yet; allowed: 'local'")
        return LocalTarget(Path(self.home), timeout_s=self.ready_timeout)

    def connect(self) -> InferenceClient:
        """A client of the target's gateway."""
        return InferenceClient(self.target().endpoint(), timeout_s=self.request_timeout)
