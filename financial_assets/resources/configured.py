"""The parts of an installation as Dagster resources: the same objects, configured, shown and recorded by Dagster."""

from __future__ import annotations

import dagster as dg

from financial_assets.installation import ABTestState, MarketState, ModelStore, ServingAccess, TradingState
from financial_assets.resources.dagster_run import run_of


class Market(MarketState, dg.ConfigurableResource):
    """Prices of one market: their source, their store, and what the clock lets be seen of them."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Learn which run this is: a run keeps its session."""
        self._run = run_of(context)

    def _warn(self, line: str) -> None:
        dg.get_dagster_logger().warning(line)


class Models(ModelStore, dg.ConfigurableResource):
    """Training, export, tracking and registry."""


class Serving(ServingAccess, dg.ConfigurableResource):
    """The serving target, the way to ask it, and where it finds artefacts."""


class ABTest(ABTestState, dg.ConfigurableResource):
    """The A/B experiment: policy, log, rollout state, replay and report settings."""


class Trading(TradingState, dg.ConfigurableResource):
    """The desk: which book the daily orders lead to, their files, the paper book and the kill switch."""
