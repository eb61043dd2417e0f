"""A short test with a clear winner, decided session by session, and the passports of its decisions."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.market.log.history import Change
from financial_assets.models.artifacts.registration import RECORD_FILE
from financial_assets.signing import Signer, make_key
from financial_assets.workflows.passports.passport import passport_files
from financial_assets.workflows.passports.sources import StateSources, artefact_files
from tests.experiment.builders import CUTOFF
from tests.experiment.decision.builders import frames
from tests.experiment.rollout.builders import BASE, MODELS, PRICES, SECOND, THIRD, begin, predict

SKILLS = {BASE: 0.4, SECOND: 0.9, THIRD: 0.4}
TOOL = Path(__file__).parents[2] / "tools" / "verify.py"


def load_verifier() -> ModuleType:
    """The verifier as a module: no copy of it is installed."""
    spec = importlib.util.spec_from_file_location("verify_passports", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CHANGES = tuple(
    Change(
        number=number,
        known_at=pd.Timestamp(f"2010-01-{3 + number:02d}T20:00Z").to_pydatetime(),
        added=4,
        replaced=0,
        removed=0,
        rescaled=(),
        first=None,
        last=None,
        old_hash=f"{number - 1:064d}",
        new_hash=f"{number:064d}",
    )
    for number in range(1, 6)
)


def write_models(folder: Path) -> None:
    """Cards and files of all models, as the registration leaves them."""
    for model in MODELS:
        home = folder / model.variant / f"fingerprint{model.version}"
        (home / "artifact").mkdir(parents=True)
        onnx = f"the graph of {model.model}".encode()
        sha256 = hashlib.sha256(onnx).hexdigest()
        (home / "artifact" / "model.onnx").write_bytes(onnx)
        card = {"variant": model.variant, "data_cutoff": f"{CUTOFF:%Y-%m-%d}", "onnx_sha256": sha256}
        (home / "artifact" / "model-card.json").write_text(json.dumps(card))
        tags = {**card, "fingerprint": home.name}
        (home / RECORD_FILE).write_text(json.dumps({"version": model.version, "tags": tags, "description": ""}))


@dataclass
class SealedTest:
    """A log with decisions, the models that they are about, and what tells where prices came from."""

    home: Path
    log: PredictionLog
    conduct: ExperimentController

    @classmethod
    def start(cls, home: Path, *, signed: bool = True) -> SealedTest:
        signer = make_key(home / "signing.key") if signed else None
        write_models(home / "models")
        log = PredictionLog(f"sqlite:///{home / 'predictions.db'}", signer=lambda: signer)
        return cls(home, log, begin(log))

    @property
    def key(self) -> str:
        return Signer.load(self.home / "signing.key").public

    def decide(self, session: pd.Timestamp, changes: tuple[Change, ...] = CHANGES) -> tuple[Decision, ...]:
        known, baselines = KnownPrices.of(PRICES.until(session), session), frames(PRICES)[1]
        sources = StateSources(known, self.home / "models", changes)
        judgements = self.conduct.decide(known, lambda _: baselines, cost_bps=5.0, sources=sources)
        return tuple(judgement.decision for judgement in judgements)

    def play(self, sessions: int, skills: Mapping[str, float] = SKILLS) -> tuple[Decision, ...]:
        """Predict and decide so many sessions, one after the other; what is decided is done."""
        found: list[Decision] = []
        later = PRICES.sessions[PRICES.sessions > CUTOFF]
        for number in range(sessions):
            predict(self.log, skills, first=number, last=number + 1)
            found += self.decide(later[number + 1])
            apply_decisions(self.conduct.rollout, found[-2:])
            if any(decision.action != "hold" for decision in found[-2:]):
                break
        return tuple(found)

    def passport(self, decision: Decision, changes: tuple[Change, ...] = CHANGES) -> dict[str, bytes]:
        as_of = pd.Timestamp(decision.as_of)
        known, baselines = KnownPrices.of(PRICES.until(as_of), as_of), frames(PRICES)[1]
        judgement = self.conduct.judge_again(decision, known, baselines, cost_bps=5.0)
        pair = (decision.champion, decision.challenger)
        artefacts = {model: artefact_files(self.home / "models", model) for model in pair}
        return passport_files(self.log, decision, judgement, known, changes, artefacts)


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def findings(module: Any, folder: Path, key: str | None = None) -> dict[str, str]:
    """State of each link."""
    return {name: state for state, name, _ in module.verify(folder, key)[0]}
