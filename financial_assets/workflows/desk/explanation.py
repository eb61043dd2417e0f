"""What moved the signal of one ticker: the model behind it, asked about the very window that was served."""

from __future__ import annotations

from dataclasses import replace

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph
from financial_assets.installation.models import ModelStore
from financial_assets.models.explanations.answers import AnswerExplanation, Contribution, explain_answers
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.training import Training
from financial_assets.workflows.desk.session import DeskSession

METHOD = (
    "Integrated gradients (Sundararajan, Taly and Yan 2017) from the window whose features all lie at their median of "
    "the training block to the window that was served. Contributions say what moved this answer, not whether it is "
    "right."
)


def load_training(models: ModelStore, version: int) -> Training:
    """The training behind a served version.

    Raises
    ------
    TrainingError
        The model was made elsewhere, or its files are damaged.
    TrackingError
        The registry cannot be asked.
    """
    known = models.lifecycle().known_model(version)
    if isinstance(known, ExternalGraph):
        raise TrainingError(f"version {version} was made elsewhere: of its graph no gradients are known")
    return known


def explain_signal(session: DeskSession, ticker: str, training: Training) -> tuple[AnswerExplanation, ...]:
    """Explanations of all answers about a ticker; that of the direction in log-odds of the served probability.

    Parameters
    ----------
    session
        Signals and bars.
    ticker
        Which one.
    training
        Of ``session.arm.version``, see :func:`load_training`.

    Raises
    ------
    TrainingError
        The model has no gradients (trees).
    MarketDataError
        The ticker has no window on that session.
    """
    window = session.panel.window(ticker, session.as_of, SERVED_LOOKBACK)
    found = explain_answers(training, FeatureGraph(covariates=session.panel.covariates), window)
    if not found:
        raise TrainingError(
            f"{session.arm.model} has no gradients (trees): `financial-assets explain --variant {session.arm.variant}` "
            "says what its families are worth to it by permutation"
        )
    platt = training.platt
    return tuple(_calibrated(one, platt.scale, platt.bias) if one.answer == "direction" else one for one in found)


def _calibrated(explanation: AnswerExplanation, scale: float, bias: float) -> AnswerExplanation:
    """In log-odds after Platt's scaling, which is linear: contributions are stretched, both ends are shifted."""

    def stretched(parts: tuple[Contribution, ...]) -> tuple[Contribution, ...]:
        return tuple(replace(part, contribution=scale * part.contribution) for part in parts)

    return replace(
        explanation,
        value=scale * explanation.value + bias,
        baseline=scale * explanation.baseline + bias,
        families=stretched(explanation.families),
        features=stretched(explanation.features),
        completeness_error=scale * explanation.completeness_error,
    )
