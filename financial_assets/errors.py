"""The exception tree: every error this package raises on purpose derives from ``FinancialAssetsError``.

    FinancialAssetsError
    ├── SettingsError            a setting is missing, malformed or contradicts another
    ├── StorageError             the disk refuses: full, read-only, not permitted, something in the way
    ├── ChainError               a record that only grows was edited, cut or mixed up
    ├── HaltedError              the kill switch is on: no orders, nothing moves
    ├── MarketDataError
    │   ├── SignalsError         a session has no signals, or they are not those of the current session
    │   ├── SourceError          a price source could not deliver (network, file, format)
    │   └── PriceDataError       delivered prices are impossible; ``failures`` holds the offending rows
    ├── FeatureError             a feature breaks its contract or a frame its schema
    ├── PortfolioError           forecasts that cannot be traded, or assumptions that contradict each other
    │   ├── HoldingsError        the file of holdings cannot be read, or names what cannot be held
    │   ├── OrderError           an order is refused, or the paper book cannot go on
    │   ├── InfeasibleError      no weights fulfil all constraints; ``conflicts`` names those that contradict each other
    │   └── TrialsError          the record of trials is damaged, or a trial is not one
    ├── TrainingError
    │   ├── DivergenceError      the loss of a training is no longer finite
    │   ├── SearchLeakError      a search was about to choose hyper-parameters on sessions that must judge them
    │   ├── LeakAlarmError       out-of-sample accuracy too good to be true
    │   └── ForecastError        a forecast table breaks its schema, or no forecast can be made
    ├── ExportError
    │   └── ParityError          an ONNX file returns different predictions from its model
    ├── TrackingError            the experiment tracker or model registry refused or is unreachable
    ├── ServingError
    │   ├── ArtifactStoreError       an artefact cannot be put where a cluster reads it
    │   ├── ManifestError        a manifest breaks a rule of the serving plane
    │   ├── TargetError          the serving target failed to reach the wanted state
    │   │   └── NotReadyError    ... in the time allowed
    │   └── InferenceError       a request got no answer; ``status`` and ``route`` hold what is known
    │       ├── RequestRejectedError     the server says the request is wrong (4xx)
    │       ├── GatewayUnavailableError  no connection, or 5xx
    │       └── InferenceTimeoutError    no answer within the deadline
    ├── ExperimentError
    │   ├── LogError             the prediction log refused a row or is inconsistent
    │   │   ├── LogNotFoundError     ... or was not made yet
    │   │   └── LockLostError        another replay took over, or the log does not confirm that none did
    │   ├── ReplayError          a replay cannot continue
    │   └── JudgeError           a plan or a series cannot be judged; ``problems`` name the fields
    ├── OrchestrationError       a run of Dagster cannot be judged or must not continue
    └── MonitoringError          what is watched cannot be judged: too short, not finite, contradictory
        ├── NotificationError    a notification was not delivered, or may not have been
        ├── AlertsError          Alertmanager cannot be reached, or its answer is not a list of alerts
        ├── PrometheusError      Prometheus cannot be reached, or refuses a query
        └── NotMadeYetError      a part of the state that is exported does not exist yet

Messages name the cause, the place, and the setting or command that fixes it. They never hold a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    import pandas as pd


class FinancialAssetsError(Exception):
    """Root of all errors raised on purpose by this package.

    Messages end up on terminals, in logs and in Dagster's storage, so passwords of addresses are taken out of all of
    them here, whoever writes the message.
    """

    def __init__(self, *args: object) -> None:
        # Errors are rare; whoever only has to name the classes need not wait for the imports of redaction.
        from financial_assets.redaction import redact

        super().__init__(*(redact(value) if isinstance(value, str) else value for value in args))


class SettingsError(FinancialAssetsError):
    """A setting is missing, malformed or contradicts another."""


class StorageError(FinancialAssetsError, OSError):
    """The disk refuses: full, read-only, not permitted, or something in the way; ``errno`` is the system's."""


class ChainError(FinancialAssetsError):
    """A record that only grows was edited, cut or mixed up: its hash chain is broken."""


class HaltedError(FinancialAssetsError):
    """The kill switch is on: no orders are sent, and the experiment does not move."""


class MarketDataError(FinancialAssetsError):
    """Something is wrong with prices, sessions or the market clock."""


class SignalsError(MarketDataError):
    """A session has no stored signals, or the newest stored ones are of an earlier session than the current one.

    Attributes
    ----------
    stale
        Whether there are older signals.
    fix
        What makes the missing ones.
    """

    def __init__(self, message: str, *, stale: bool, fix: str) -> None:
        super().__init__(f"{message}; {fix}")
        self.stale = stale
        self.fix = fix


class SourceError(MarketDataError):
    """A price source could not deliver."""


class PriceDataError(MarketDataError):
    """Impossible prices.

    Attributes
    ----------
    failures
        The offending rows, with a column ``problem``.
    """

    def __init__(self, message: str, failures: pd.DataFrame) -> None:
        super().__init__(message)
        self.failures = failures


class FeatureError(FinancialAssetsError):
    """A feature breaks its contract, or a feature frame its schema."""


class PortfolioError(FinancialAssetsError):
    """Forecasts cannot be traded, or assumptions of a portfolio contradict each other."""


class HoldingsError(PortfolioError):
    """The file of holdings cannot be read, or names what cannot be held."""


class OrderError(PortfolioError):
    """An order is refused, or the paper book cannot go on."""


class InfeasibleError(PortfolioError):
    """No weights fulfil all constraints at once.

    Attributes
    ----------
    conflicts
        Name of a constraint -> what would make it, together with the others, possible; one sentence each.
    """

    def __init__(self, conflicts: Mapping[str, str]) -> None:
        names = " and ".join(conflicts)
        super().__init__(f"no weights fulfil all constraints; in conflict: {names}: {' '.join(conflicts.values())}")
        self.conflicts = dict(conflicts)


class TrialsError(PortfolioError):
    """The record of trials is damaged, or what shall be recorded is not a trial."""


class TrainingError(FinancialAssetsError):
    """A model cannot be trained on what was given."""


class DivergenceError(TrainingError):
    """The loss of a training is no longer finite: its learning rate is too high, or prices are absurd."""


class SearchLeakError(TrainingError):
    """A search was about to choose hyper-parameters on sessions that must judge them."""


class LeakAlarmError(TrainingError):
    """Out-of-sample accuracy is too good to be true: look for the label among the inputs."""


class ForecastError(TrainingError):
    """A forecast table breaks its schema, or no forecast can be made."""


class ExportError(FinancialAssetsError):
    """A model could not be exported."""


class ParityError(ExportError):
    """An ONNX file returns different predictions from its model."""


class ExternalModelError(FinancialAssetsError):
    """A model of ``EXTERNAL_MODELS`` cannot be an arm."""


class TrackingError(FinancialAssetsError):
    """The experiment tracker or the model registry refused, or is unreachable."""


class ServingError(FinancialAssetsError):
    """Something is wrong between a model artefact and its answer."""


class ArtifactStoreError(ServingError):
    """An artefact cannot be put where a cluster reads it."""


class ManifestError(ServingError):
    """A manifest breaks a rule of the serving plane."""


class TargetError(ServingError):
    """The serving target failed to reach the wanted state."""


class NotReadyError(TargetError):
    """The serving target did not get ready in the time allowed."""


class InferenceError(ServingError):
    """A request did not get an answer.

    Attributes
    ----------
    status
        HTTP status (or gRPC status code) if one was received.
    route
        The arm that the gateway says it routed to, ``None`` when unknown.
    sticky
        The gateway's name for that arm, with which a request stays with it; ``None`` when unknown.
    answered
        Whether a model may have answered. ``False``: there was no connection, it broke before the answer, or the
        gateway itself or a server that is still loading refused; nothing is known about any model then.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | str | None = None,
        route: str | None = None,
        sticky: str | None = None,
        answered: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.route = route
        self.sticky = sticky
        self.answered = answered


class RequestRejectedError(InferenceError):
    """The server says that the request is wrong (4xx)."""


class GatewayUnavailableError(InferenceError):
    """No connection to the gateway, or it answered 5xx."""


class InferenceTimeoutError(InferenceError):
    """No answer within the deadline."""


class ExperimentError(FinancialAssetsError):
    """Something is wrong with the experiment, its log or its evaluation."""


class UnaskableError(ExperimentError):
    """A question that cannot be asked of a pair of models; the message says why, as the end of a sentence."""


class LogError(ExperimentError):
    """The prediction log refused a row, or holds what it must not."""


class LogNotFoundError(LogError):
    """There is no prediction log yet, and reading it must not make one."""


class LockLostError(LogError):
    """A replay no longer holds the right to send the requests of its experiment."""


class ReplayError(ExperimentError):
    """A replay cannot continue."""


class JudgeError(ExperimentError):
    """A plan or a series of outcomes cannot be judged, or contradicts what was judged before.

    Attributes
    ----------
    code
        Stable name of the error, for programs.
    kind
        ``invalid``: the request must be changed. ``conflict``: it contradicts what is kept. ``unknown``: what it
        names is not there.
    problems
        Each field that is wrong, such as ``control.3.value``, with what is wrong there.
    fix
        What to change.
    """

    def __init__(
        self,
        code: str,
        kind: Literal["invalid", "conflict", "unknown"],
        message: str,
        fix: str,
        problems: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(f"{message}; {fix}")
        self.code = code
        self.kind = kind
        self.message = message
        self.problems = tuple(problems)
        self.fix = fix


class OrchestrationError(FinancialAssetsError):
    """A run of Dagster cannot be judged, or must not continue."""


class MonitoringError(FinancialAssetsError):
    """What is watched cannot be judged, or a monitoring service cannot be used."""


class NotificationError(MonitoringError):
    """A notification was not delivered, or may not have been."""


class AlertsError(MonitoringError):
    """Alertmanager cannot be reached, or its answer is not a list of alerts."""


class PrometheusError(MonitoringError):
    """Prometheus is not reachable, does not answer in time, or refuses the query."""


class NotMadeYetError(MonitoringError):
    """A part of the state that is exported does not exist yet; the message says what makes it."""
