"""A home as training and export leave it: a simulated market and one tiny registered version a variant."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from click.testing import CliRunner, Result

from financial_assets.cli.main import main
from financial_assets.models.onnx.export import file_sha256
from financial_assets.resources import make_resources
from financial_assets.serving.manifests import model_name
from financial_assets.settings import load_settings

VARIANTS = ("baseline", "enhanced", "lightweight")
"""Those that are made without a setting."""
MARKET = {"PRICE_SOURCE": "simulated", "TICKERS": "AAA,BBB", "SIMULATED_SESSIONS": "400", "READY_TIMEOUT": "60"}
MODELS = [model_name(variant, number) for number, variant in enumerate(VARIANTS, 1)]
BASELINE, ENHANCED = MODELS[:2]
"""Champion with 70 and challenger with 30, by the packaged policy."""
_WARNING = 30


@dataclass(frozen=True)
class RegisteredHome:
    """Where it is, and the settings that say where to serve it."""

    home: Path
    serving: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**MARKET, "FINANCIAL_ASSETS_HOME": str(self.home), **self.serving}

    @property
    def resources(self) -> dict[str, Any]:
        """From the environment of this moment."""
        return make_resources(load_settings())

    def fill(self, write_tiny: Callable[[Path, float], Path]) -> None:
        """Ingest and register; the settings must be in the environment."""
        resources = self.resources
        market = resources["market"]
        market.ingest()
        market.begin(market.whole_panel().sessions)
        market.panel().save(market.panel_path)
        for number, variant in enumerate(VARIANTS, 1):
            folder = write_tiny(self.home / "models" / variant / f"print{number}" / "artifact", float(number))
            _register(resources, folder, variant, number)

    def materialize(self, *assets: Any) -> tuple[bool, str]:
        """Whether a run of these assets succeeded, and its errors and warnings."""
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(list(assets), resources=self.resources, instance=instance, raise_on_error=False)
            said = [log.user_message for log in instance.all_logs(result.run_id) if log.level >= _WARNING]
        for event in result.all_events:
            error = getattr(event.event_specific_data, "error", None)
            while error is not None:
                said.append(error.message)
                error = error.cause
        return result.success, "\n".join(said)


def command(*arguments: str) -> Result:
    """The command line, on a wide terminal."""
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "200"})


def _register(resources: dict[str, Any], folder: Path, variant: str, version: int) -> None:
    digest, identity = file_sha256(folder / "model.onnx"), folder.parent.name
    (folder / "model-card.json").write_text(json.dumps({"onnx_sha256": digest, "data_cutoff": "2020-01-02"}))
    with resources["models"].tracker().run(variant, tags={}, params={}) as run:
        run.log_artifacts(folder, "model")
    tags = {"variant": variant, "fingerprint": identity, "onnx_sha256": digest, "data_cutoff": "2020-01-02"}
    assert resources["models"].registry().register(run.id, "model", tags).version == version
    pointer = {"fingerprint": identity, "run_id": run.id}
    (folder.parents[1] / "current.json").write_text(json.dumps(pointer))
