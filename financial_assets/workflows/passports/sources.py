"""What the seal of a decision names beside the log: prices and artefacts, by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market.log.history import Change
from financial_assets.market.panels.closes import Closes, history_digest
from financial_assets.models.artifacts.artifact import ARTIFACT_FOLDER, CARD_FILE, ONNX_FILE
from financial_assets.models.artifacts.registration import KeptVersion, kept_versions
from financial_assets.serving.manifests import model_name


@dataclass(frozen=True)
class StateSources:
    """Prices and artefacts of a state folder, as of a decision.

    Parameters
    ----------
    known
        Prices that the decision is taken on.
    models
        Folder of all models.
    changes
        History of the price store up to the state that these prices are of; ``None``: unknown.
    """

    known: KnownPrices
    models: Path
    changes: Sequence[Change] | None = None
    _digests: dict[str, str] = field(default_factory=dict, repr=False)

    def prices(self, plan: ExperimentPlan) -> Mapping[str, Any]:
        """See :class:`.DecisionSources`."""
        closes = Closes.after(self.known.panel, pd.Timestamp(plan.starts_after))
        store = None
        if self.changes:
            self._digests.setdefault("history", history_digest(self.changes))
            last = self.changes[-1]
            store = {"change": last.number, "content": last.new_hash, "history": self._digests["history"]}
        return {
            "as_of": f"{self.known.as_of:%Y-%m-%d}",
            "closes": closes.digest,
            "tickers": len(closes.tickers),
            "sessions": len(closes.sessions),
            "store": store,
        }

    def artefact(self, model: str) -> Mapping[str, Any] | None:
        """See :class:`.DecisionSources`."""
        version = find_version(self.models, model)
        if version is None:
            return None
        card = version.folder / ARTIFACT_FOLDER / CARD_FILE
        names = ("variant", "fingerprint", "data_cutoff", "onnx_sha256")
        return {
            **{name: version.tags.get(name) for name in names},
            "version": version.number,
            "card_sha256": hashlib.sha256(card.read_bytes()).hexdigest() if card.is_file() else None,
        }


def find_version(models: Path, model: str) -> KeptVersion | None:
    """The version that is served under a name, as this machine remembers it."""
    named = (kept for kept in kept_versions(models) if model_name(kept.tags.get("variant", ""), kept.number) == model)
    return next(named, None)


def artefact_files(models: Path, model: str) -> dict[str, bytes]:
    """Name -> content of the model's card and ONNX file, of those that are on this machine."""
    version = find_version(models, model)
    folder = None if version is None else version.folder / ARTIFACT_FOLDER
    paths = [] if folder is None else [folder / CARD_FILE, folder / ONNX_FILE]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}
