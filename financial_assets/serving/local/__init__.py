"""The local data plane: the real Envoy in front of the real MLServer, kept alive by one supervisor per home."""

from financial_assets.serving.local.control import start, stop
from financial_assets.serving.local.target import LocalTarget, status

__all__ = ["LocalTarget", "start", "status", "stop"]
