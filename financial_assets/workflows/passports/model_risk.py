"""The model-risk document of a champion: the headings of SR 11-7, filled from records and from nothing else.

Board of Governors of the Federal Reserve System and OCC (2011), Supervisory Guidance on Model Risk Management, SR 11-7:
development, implementation and use; validation, with outcomes analysis and ongoing monitoring; governance. Every figure
names the record that it is from, and the list of records at the end gives their digests. What no record says is said to
be unknown, never guessed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.sealed.chain import ARTEFACT, WEIGHTS
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.models.artifacts.artifact import CARD_FILE
from financial_assets.workflows.passports.sources import artefact_files

_UNKNOWN = "Unknown: "


@dataclass
class _Records:
    """The records that a document cites, numbered in the order of their first mention."""

    found: dict[tuple[str, str], int] = field(default_factory=dict)

    def cite(self, name: str, digest: str) -> str:
        """A mark behind a figure."""
        return f"[{self.found.setdefault((name, digest), len(self.found) + 1)}]"

    def lines(self) -> Iterator[str]:
        """The list of all of them."""
        for (name, digest), number in self.found.items():
            yield f"{number}. {name}: `{digest}`"


def model_risk_document(market: MarketState, models: ModelStore, ab_test: ABTestState, model: str | None = None) -> str:
    """The document as Markdown.

    Parameters
    ----------
    market, models, ab_test
        Of the state folder.
    model
        Served name; ``None``: the champion.

    Raises
    ------
    ExperimentError
        The experiment has not started, or never had such an arm.
    """
    with ab_test.log() as log:
        epoch = ab_test.current_epoch(log)
        chosen = model or epoch.champion.model
        known = {arm.model for opened in log.epochs(epoch.experiment) for arm in opened.arms}
        if chosen not in known:
            raise ExperimentError(f"the experiment never had an arm {chosen}; it had {', '.join(sorted(known))}")
        decisions = [one for one in log.decisions(epoch.experiment) if chosen in (one.champion, one.challenger)]
        plans = [plan for plan in map(log.plan_of, _latest_by_plan(decisions)) if plan is not None]
        document = _Document(chosen, log, epoch.experiment, _Records(), decisions, plans)
        card = artefact_files(models.folder, chosen).get(CARD_FILE)
        sections = (
            ("Purpose and use", document.purpose()),
            ("Data", document.data(card, market)),
            ("Methodology and assumptions", document.methodology(card)),
            ("Testing and outcomes analysis", document.testing(card)),
            ("Limitations", document.limitations(card)),
            ("Ongoing monitoring", document.monitoring(market.drift_path, ab_test.report_path.with_suffix(".json"))),
            ("Governance and owner", document.governance(ab_test.model_owner)),
        )
    lines = [f"# Model risk: {chosen}", "", "Headings of SR 11-7. Numbers in brackets are records, listed at the end."]
    for number, (title, said) in enumerate(sections, 1):
        lines += ["", f"## {number}. {title}", "", *(f"- {one}" for one in said)]
    return "\n".join([*lines, "", "## Records", "", *document.records.lines()]) + "\n"


def _latest_by_plan(decisions: Sequence[Decision]) -> list[Decision]:
    return list({decision.plan_digest: decision for decision in decisions}.values())


@dataclass(frozen=True)
class _Document:
    """Sentences of the sections, each with the records that it is from."""

    model: str
    log: PredictionLog
    experiment: str
    records: _Records
    decisions: Sequence[Decision]
    plans: Sequence[ExperimentPlan]

    def purpose(self) -> Iterator[str]:
        epoch = self.log.epochs(self.experiment)[-1]
        arm = next((one for one in epoch.arms if one.model == self.model), None)
        seal = self._seal(WEIGHTS, f"{self.experiment}:{epoch.number}")
        if arm is None:
            yield f"Not in use: it is no arm of weight epoch {epoch.number} {seal}."
        else:
            share = f"{arm.weight} of {sum(epoch.weights.values())} parts of the requests"
            since = f"{epoch.opened_at:%Y-%m-%d} (weight epoch {epoch.number})"
            yield f"In use as {arm.role}, with {share}, since {since} {seal}."
        yield f"Opened because: {epoch.reason}."
        for plan in self.plans:
            cited = self._plan(plan)
            pair = f"{plan.challenger} against {plan.champion}"
            yield f"Asked about {plan.question} by {plan.test.metric}: {pair} {cited}."
        if not self.plans:
            yield f"{_UNKNOWN}no decision about it is recorded, so that no plan says what it is used for."

    def data(self, content: bytes | None, market: MarketState) -> Iterator[str]:
        card, cited = self._card(content)
        if card is None:
            yield f"{_UNKNOWN}the model card is not on this machine."
        else:
            if "origin" in card:
                yield f"{_UNKNOWN}it was made elsewhere, and its card names no prices {cited}."
            else:
                source = card.get("price_source", "an unknown source")
                yield f"Prices from {source}, {len(card.get('tickers', ()))} tickers {cited}."
            for name, block in card.get("blocks", {}).items():
                yield f"Block {name}: {block['first']} to {block['last']}, {block['windows']} windows {cited}."
            yield f"Nothing after {card.get('data_cutoff')} was learned from {cited}."
            if "origin" not in card:
                yield f"Hash of the data: {card.get('data_hash', 'unknown')} {cited}."
        changes = market.store().history()
        if changes:
            last = changes[-1]
            restated = sum(bool(change.replaced or change.removed or change.rescaled) for change in changes)
            store = self.records.cite(f"price store after change {last.number}", last.new_hash)
            count = f"{len(changes)} {'change' if len(changes) == 1 else 'changes'}"
            yield f"The price store has {count}, of which {restated} restated earlier prices {store}."
        else:
            yield f"{_UNKNOWN}the price store has no history."

    def methodology(self, content: bytes | None) -> Iterator[str]:
        card, cited = self._card(content)
        if card is None:
            yield f"{_UNKNOWN}the model card is not on this machine."
        elif "origin" in card:
            described = card.get("description") or "its makers do not describe it"
            yield f"Made elsewhere, under the licence {card.get('licence')}: {described} {cited}."
            yield f"{_UNKNOWN}parameters, seed and settings are known to its makers only."
        else:
            size, seed = card.get("parameters", "unknown"), card.get("seed", "unknown")
            yield f"Variant {card.get('variant')}: parameters {size}, seed {seed} {cited}."
            lookback = card.get("feature_lookback", "unknown")
            yield f"Features: {len(card.get('features', ()))}; sessions that they look back: {lookback} {cited}."
            settings = card.get("hyperparameters", {})
            yield "Settings: " + (", ".join(f"{k} {v}" for k, v in sorted(settings.items())) or "none") + f" {cited}."
            for name, target in card.get("interface", {}).get("targets", {}).items():
                yield f"Answers {name}: {target} {cited}."
        for plan in self.plans:
            said = f"{plan.spread.deviation:.6g} ({plan.spread.basis})"
            yield f"The test assumes a daily deviation of {said} {self._plan(plan)}."

    def testing(self, content: bytes | None) -> Iterator[str]:
        card, cited = self._card(content)
        for name, score in ((card or {}).get("held_out", {}).get("scores", {})).items():
            yield f"Held out before any test, {name}: {_interval(score)} {cited}."
        if card is not None and "parity" in card:
            yield f"The served file was proven equal to the trained model before it was registered {cited}."
        for decision in _latest_by_plan(self.decisions):
            plan = self.log.plan_of(decision)
            mean = "no evaluated day" if decision.estimate is None else f"mean daily difference {decision.estimate:.6g}"
            always = f"always valid between {decision.always_on.low:.6g} and {decision.always_on.high:.6g}"
            yield (
                f"{decision.challenger} against {decision.champion} as of {decision.as_of}: {decision.action}; {mean} "
                f"after {decision.days} days, {always} {self._decision(decision)}."
            )
            for look in decision.looks:
                yield (
                    f"Look on day {look.day} ({look.session}): z {look.z:.3f}, needed {look.boundary:.3f}"
                    f"{', ' + look.outcome if look.outcome else ''} {self._decision(decision)}."
                )
            if plan is not None and plan.whole_rule is None:
                yield f"{_UNKNOWN}the power of the whole rule was not simulated for this plan {self._plan(plan)}."
        if not self.decisions:
            yield f"{_UNKNOWN}no decision about it is recorded."

    def limitations(self, content: bytes | None) -> Iterator[str]:
        card, cited = self._card(content)
        for limit in (card or {}).get("limits", ()):
            yield f"{limit} {cited}"
        for plan in self.plans:
            detectable = f"{plan.detectable:.6g} in {plan.looks[-1]} days with {100 * plan.test.power:.0f} % power"
            yield f"Smaller differences than {detectable} are not found {self._plan(plan)}."
            if not plan.can_promote:
                yield f"The test cannot find the largest effect that one can expect {self._plan(plan)}."
        if not (card or {}).get("limits") and not self.plans:
            yield f"{_UNKNOWN}neither a card nor a plan names any."

    def monitoring(self, drift: Path, evaluation: Path) -> Iterator[str]:
        latest = self.decisions[-1] if self.decisions else None
        for rail in latest.guardrails if latest else ():
            if rail.model in ("", self.model) and latest:
                state = "FIRED" if rail.fired else "quiet"
                seen = f"{rail.observed:.3g} of {rail.count:,}, allowed {rail.objective:.3g}"
                yield f"Guardrail {rail.name}: {state}, {seen}, as of {latest.as_of} {self._decision(latest)}."
        judged = _json_of(drift)
        if judged is None or judged[0].get("model") != self.model:
            yield f"{_UNKNOWN}drift was not judged for this model."
        else:
            alarms = [name for name, one in judged[0]["streams"].items() if one["alarmed"]]
            cited = self.records.cite(f"drift as of {judged[0]['session']}", judged[1])
            yield f"Drift: {len(judged[0]['streams'])} streams, alarms: {', '.join(alarms) or 'none'} {cited}."
        report = _json_of(evaluation)
        if report is None:
            yield f"{_UNKNOWN}there is no evaluation yet."
        else:
            cited = self.records.cite(f"evaluation as of {report[0].get('as_of')}", report[1])
            yield f"Evaluated as of {report[0].get('as_of')} with value-at-risk back-tests and coverage {cited}."

    def governance(self, owner: str | None) -> Iterator[str]:
        named = f"Owner: {owner} (setting MODEL_OWNER)."
        yield named if owner else f"{_UNKNOWN}nobody is named as owner; set MODEL_OWNER."
        seals = {seal.subject: seal for seal in self.log.seals(one.digest for one in self.decisions)}
        signed = sum(seal.signature is not None for seal in seals.values())
        yield (
            f"Decisions about it: {len(self.decisions)}, of which {len(seals)} are sealed in the chain and {signed} "
            f"signed; {len(self.decisions) - len(seals)} lie before the chain."
        )
        for decision in self.decisions:
            if decision.action == "promote" and decision.moves_traffic:
                by = self.log.approved_by(decision.digest)
                said = f"approved by {by}" if by else "no approval is recorded: none was asked for, or it is missing"
                yield f"Promotion of {decision.challenger} as of {decision.as_of}: {said} {self._decision(decision)}."
        artefact = self._seal(ARTEFACT, self.model)
        yield f"Its files: {artefact}." if artefact else f"{_UNKNOWN}its files were never sealed."

    def _seal(self, kind: str, subject: str) -> str:
        found = [record for record in self.log.sealed() if record.kind == kind and record.subject == subject]
        if not found:
            return "(before the chain)"
        return self.records.cite(f"record {found[-1].number} of the chain, {kind}", found[-1].digest)

    def _plan(self, plan: ExperimentPlan) -> str:
        return self.records.cite(f"plan of {plan.challenger} against {plan.champion}", plan.digest)

    def _decision(self, decision: Decision) -> str:
        return self.records.cite(f"decision as of {decision.as_of} about {decision.challenger}", decision.digest)

    def _card(self, content: bytes | None) -> tuple[Mapping[str, Any] | None, str]:
        if content is None:
            return None, ""
        digest = hashlib.sha256(content).hexdigest()
        return json.loads(content), self.records.cite(f"model card of {self.model}", digest)


def _interval(score: Mapping[str, Any] | Any) -> str:
    if not isinstance(score, Mapping):
        return f"{score}"
    return ", ".join(f"{name} {value:.4g}" for name, value in score.items() if isinstance(value, int | float))


def _json_of(path: Path) -> tuple[dict[str, Any], str] | None:
    """A file and its digest; ``None`` where there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return json.loads(content), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise ExperimentError(f"{path} is damaged ({error}); materialize the asset that writes it again") from error
