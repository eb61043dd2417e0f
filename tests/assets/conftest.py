"""A market over a temporary folder, and runs of its assets on an instance that leaves nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from financial_assets.assets.signals import completed_session
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.resources import Market

TICKERS = ("AAA", "BBB")
SESSIONS = 400


def simulated_bars(sessions: int = SESSIONS, tickers: Sequence[str] = TICKERS, seed: int = 3) -> pd.DataFrame:
    return SimulatedPrices(SimulatedMarket(sessions=sessions, seed=seed)).fetch(tickers).prices


@dataclass(frozen=True)
class Outcome:
    """A finished run, with what a person would see of it."""

    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance

    @property
    def success(self) -> bool:
        return self.result.success

    @property
    def failure_text(self) -> str:
        """All messages of the failed steps, causes and descriptions."""
        lines: list[str] = []
        for event in self.result.all_events:
            if event.is_step_failure:
                data: Any = event.event_specific_data
                error = data.error
                while error is not None:
                    lines.append(error.message)
                    error = error.cause
                if data.user_failure_data is not None:
                    lines.append(str(data.user_failure_data.description))
        return "\n".join(lines)

    @property
    def warnings(self) -> list[str]:
        records = self.instance.all_logs(self.result.run_id)
        return [record.user_message for record in records if record.level == logging.WARNING]

    @property
    def materialized(self) -> set[str]:
        return {event.asset_key.to_user_string() for event in self.result.get_asset_materialization_events()}

    def metadata(self, asset: str) -> dict[str, Any]:
        (found,) = self.result.asset_materializations_for_node(asset)
        return {name: value.value for name, value in found.metadata.items()}

    def data_version(self, asset: str) -> str:
        (found,) = self.result.asset_materializations_for_node(asset)
        return (found.tags or {})["dagster/data_version"]

    def checks(self, asset: str) -> dict[str, dg.AssetCheckEvaluation]:
        evaluated = self.result.get_asset_check_evaluations()
        return {check.check_name: check for check in evaluated if check.asset_key == dg.AssetKey([asset])}

    def failed_rows(self, asset: str, check: str) -> str:
        return str(self.checks(asset)[check].metadata["failed rows"].value)


@dg.asset(name="drift", deps=["price_panel", "features"])
def work() -> None:
    """Stands for what comes between the panel and the end of a day."""


Run = Callable[..., Outcome]
MakeMarket = Callable[..., Market]


@pytest.fixture
def make_market(tmp_path: Path) -> MakeMarket:
    """Makes the resource: simulated prices, unless files are named."""

    def make(home: str = "home", files: Path | None = None, tickers: Sequence[str] = TICKERS, **changes: Any) -> Market:
        settings: dict[str, Any] = {
            "home": str(tmp_path / home),
            "price_source": "simulated" if files is None else "files",
            "price_files": None if files is None else str(files),
            "tickers": list(tickers),
            "evaluation_share": 0.2,
            "seed": 3,
            "simulated_sessions": SESSIONS,
            "simulated_signal": 0.2,
        }
        return Market(**{**settings, **changes})

    return make


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Run:
    """Runs assets of one market in this process; ``advance`` is the configuration of ``raw_prices``.

    With ``complete`` the session is completed too, without the work that takes a serving plane.
    """

    def run(assets: Sequence[Any], market: Market, *, advance: int | None = None, complete: bool = False) -> Outcome:
        config = None if advance is None else {"ops": {"raw_prices": {"config": {"advance_sessions": advance}}}}
        result = dg.materialize(
            [*assets, *((work, completed_session) if complete else ())],
            resources={"market": market},
            instance=instance,
            raise_on_error=False,
            run_config=config,
        )
        return Outcome(result, instance)

    return run


@pytest.fixture
def bars() -> pd.DataFrame:
    return simulated_bars()
