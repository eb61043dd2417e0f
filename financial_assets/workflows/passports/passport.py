"""All records that one decision depends on, in one folder: ``tools/verify.py`` walks it from prices to weights.

The files are made of what is recorded and of nothing else, neither of the time nor of the machine of the export: two
exports of a decision are equal byte for byte.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_write_bytes
from financial_assets.chain import canonical
from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.evidence import Evidence, Judgement
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.sealed.chain import APPROVAL, DECISION, WEIGHTS, SealedRecord
from financial_assets.experiment.prediction_log.sealed.records import weights_subject
from financial_assets.experiment.prediction_log.sealed.rows import DIRECT, ROUTED, sealed_rows
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.market.log.history import Change
from financial_assets.market.panels.closes import Closes, history_lines
from financial_assets.workflows.decisions import judge_again
from financial_assets.workflows.passports.sources import artefact_files

SUMS = "SHA256SUMS"
"""Names every other file with its digest, as ``sha256sum -c`` reads it."""


def export_passport(
    decision: Decision, market: MarketState, models: ModelStore, ab_test: ABTestState, folder: Path
) -> int:
    """Write the passport of a recorded decision to a new folder; returns how many files it has.

    Raises
    ------
    ExperimentError
        The decision was taken before the chain began, log or prices give other evidence now, or the folder is there and
        not an earlier passport.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / SUMS).is_file():
        raise ExperimentError(f"{folder} is not empty and not a passport: name another folder as --out")
    with ab_test.log() as log:
        _, seal = sealed_until(log, decision)
        changes = _changes_of(seal, market)
        panel = market.whole_panel(changes[-1].known_at if changes else None)
        known = KnownPrices.of(panel.until(pd.Timestamp(decision.as_of)), pd.Timestamp(decision.as_of))
        judgement = judge_again(decision, known, models, ab_test)
        pair = (decision.champion, decision.challenger)
        files = passport_files(
            log, decision, judgement, known, changes, {model: artefact_files(models.folder, model) for model in pair}
        )
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        atomic_write_bytes(folder / name, content)
    return len(files)


def sealed_until(log: PredictionLog, decision: Decision) -> tuple[tuple[SealedRecord, ...], SealedRecord]:
    """The chain up to a decision's seal, or to the weights that follow from it where they were opened; and the seal.

    Raises
    ------
    ExperimentError
        It was taken before the chain began.
    """
    seal = next(iter(log.seals([decision.digest])), None)
    if seal is None:
        began = next(iter(log.sealed(until=1)), None)
        since = "there is no chain yet" if began is None else f"the chain began on {began.values['at']}"
        raise ExperimentError(
            f"the decision {decision.digest[:12]} of {decision.as_of} was taken before the chain: {since}, and what it "
            f"was taken from was not sealed. `financial-assets decide --repeat {decision.digest[:12]}` computes it anew"
        )
    chain = log.sealed()
    next_weights = weights_subject(decision.experiment, decision.epoch + 1)
    ends = [
        record.number
        for record in chain
        if (record.kind == WEIGHTS and record.subject == next_weights and decision.digest in record.values["decisions"])
        or (record.kind == APPROVAL and record.subject == decision.digest)
    ]
    return tuple(record for record in chain if record.number <= max([seal.number, *ends])), seal


def passport_files(
    log: PredictionLog,
    decision: Decision,
    judgement: Judgement,
    known: KnownPrices,
    changes: Sequence[Change],
    artefacts: Mapping[str, Mapping[str, bytes]],
) -> dict[str, bytes]:
    """Name -> content of the files of a passport.

    Parameters
    ----------
    log, decision
        Where it is recorded, and which one.
    judgement
        The decision computed anew.
    known
        Prices as they were known then.
    changes
        History of the price store up to that state; empty: unknown.
    artefacts
        Model -> name -> content of its files.

    Raises
    ------
    ExperimentError
        It was taken before the chain began, or log or prices give other evidence than they did.
    """
    chain, seal = sealed_until(log, decision)
    plan, evidence = judgement.plan, judgement.evidence
    if evidence.digest != decision.evidence_digest:
        raise ExperimentError(
            f"log and prices give other evidence than when {decision.digest[:12]} was taken: "
            f"{evidence.digest[:12]} instead of {decision.evidence_digest[:12]}. `financial-assets decide --repeat "
            f"{decision.digest[:12]}` names what differs; restore the log or the prices from a copy"
        )
    before, pair = chain[: seal.number - 1], (plan.champion, plan.challenger)
    with transaction(log.engine) as connection:
        direct = [*sealed_rows(connection, before, DIRECT, pair, (plan.starts_after, decision.as_of))]
        routed = [*sealed_rows(connection, before, ROUTED, (plan.experiment,), ("", decision.as_of))]
    closes = Closes.after(known.panel, pd.Timestamp(plan.starts_after))
    files = {
        "chain.jsonl": _lines(record.document for record in chain),
        "plan.json": _lines([plan.to_json()]),
        "decision.json": _lines([decision.to_json()]),
        "evidence.json": _lines([canonical({"series": _series(evidence)})]),
        "predictions.jsonl": _lines(direct),
        "requests.jsonl": _lines(routed),
        "prices.json": _lines([canonical(closes.document())]),
        "price-history.jsonl": _lines(history_lines(changes)),
    }
    for record in chain:
        if record.number >= seal.number and record.kind in (DECISION, APPROVAL, WEIGHTS) and record.signature:
            files[f"signed/{record.number:06d}.json"] = record.document.encode()
            files[f"signed/{record.number:06d}.json.minisig"] = record.signature.encode()
    files |= {f"models/{model}/{name}": content for model, own in artefacts.items() for name, content in own.items()}
    return files | {SUMS: checksums(files)}


def checksums(files: Mapping[str, bytes]) -> bytes:
    """The lines of :data:`SUMS`, by name."""
    sums = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files))
    return _lines(sums)


def _changes_of(seal: SealedRecord, market: MarketState) -> tuple[Change, ...]:
    prices = seal.values["prices"]
    if prices is None or prices["store"] is None:
        return ()
    return market.store().history()[: prices["store"]["change"]]


def _series(evidence: Evidence) -> list[dict[str, Any]]:
    """The daily series in the order that the evidence's digest is of."""
    guards = [days for name, days in evidence.guards.items() if name != "accuracy"]  # the second series is that guard's
    return [
        {
            "sessions": np.datetime_as_string(days.sessions.to_numpy().astype("datetime64[D]")).tolist(),
            "differences": days.differences.tolist(),
        }
        for days in (evidence.main, evidence.accuracy, *evidence.against.values(), *guards)
    ]


def _lines(lines: Any) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
