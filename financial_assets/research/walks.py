"""Model variants fitted and judged fold by fold: ``fa.walk_forward``, over the walk-forward of the asset graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from matplotlib.figure import Figure

from financial_assets.display import section
from financial_assets.errors import FinancialAssetsError, TrainingError
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.market.universe import Universe
from financial_assets.models.variants import Variant, choose_variants
from financial_assets.models.walk_forward.baselines import DIRECTION_BASELINES, RISK_BASELINES
from financial_assets.models.walk_forward.folds import FoldPlan, Window
from financial_assets.models.walk_forward.plots import scores_figure
from financial_assets.models.walk_forward.quantile_heads import ALL
from financial_assets.models.walk_forward.report import WalkForwardReport, make_report
from financial_assets.models.walk_forward.run import BASELINES, WalkForward, models_and_folds
from financial_assets.research.arguments import named_as_arguments

_SHOWN = {
    ("direction", "log_loss"): "log_loss",
    ("direction", "accuracy"): "accuracy",
    ("excess_return", "rank_ic"): "rank_ic",
    ("return_quantiles", "pinball_normalised"): "pinball",
    ("return_quantiles_5d", "pinball_normalised"): "pinball_5d",
}
"""Scores of the table, by head and name."""

_MAIN_RIVAL = "majority"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, eq=False)
class WalkForwardResult:
    """What a walk-forward found.

    Attributes
    ----------
    report
        All tables: ``scores``, ``coverage``, ``comparisons``, ``sets``, ``folds``.
    variants
        Names of the variants; the other models are baselines.
    """

    report: WalkForwardReport
    variants: tuple[str, ...]

    @property
    def forecasts(self) -> pd.DataFrame:
        """Forecast table of all models and folds: what :func:`.backtest` and :func:`.compare_models` take."""
        return self.report.forecasts

    @property
    def scores(self) -> pd.DataFrame:
        """One row per model, head, score and fold, with an interval of 95 % clustered by day."""
        return self.report.scores

    @property
    def table(self) -> pd.DataFrame:
        """One row per model, variants first, of all folds together: the main score of each head; NaN without one."""
        whole = self.scores[self.scores["fold"] == ALL]
        wide = whole.pivot(index="model", columns=["head", "score"], values="estimate")
        shown = {title: wide[key] for key, title in _SHOWN.items() if key in wide}
        table = pd.DataFrame(shown, index=wide.index)
        order = sorted(table.index, key=lambda name: (name not in self.variants, name))
        return table.loc[order].rename_axis("model").reset_index()

    @property
    def sentence(self) -> str:
        """Whether each variant's probabilities have been shown to beat the share of rises, and no more."""
        return " ".join(self._said(name) for name in self.variants)

    def plot(self) -> Figure:
        """The main score of each head by fold, with intervals of 95 %."""
        return scores_figure(self.scores)

    def _repr_html_(self) -> str:
        folds = self.report.folds
        whole = folds[folds["there"]].drop(columns=["there", "seconds"])
        return section("Walk-forward", self.sentence, self.table, whole)

    def _said(self, name: str) -> str:
        pairs = self.report.comparisons
        found = pairs[
            (pairs["model"] == name)
            & (pairs["rival"] == _MAIN_RIVAL)
            & (pairs["loss"] == "log_loss")
            & (pairs["fold"] == ALL)
        ]
        if found.empty:
            return f"{name}: too few sessions to compare its probabilities with the share of rises ({_MAIN_RIVAL})."
        row = found.iloc[0]
        if row["high"] < 0:
            end = "its probabilities have been shown to be better"
        elif row["low"] > 0:
            end = "its probabilities have been shown to be worse"
        else:
            end = "neither has been shown to be better"
        return (
            f"{name}: log loss minus that of the share of rises ({_MAIN_RIVAL}) on {row['days']:,} sessions: "
            f"{row['difference']:+.4f} (95 % interval: {row['low']:+.4f} to {row['high']:+.4f}); {end}."
        )


def walk_forward(
    variants: str | Variant | Sequence[str | Variant],
    panel: PricePanel,
    *,
    splits: int = 5,
    test_sessions: int = 30,
    gap: int = 5,
    window: Window = "expanding",
    window_sessions: int = 1000,
    sequence_length: int = 10,
    max_epochs: int | None = None,
    seed: int = 42,
    device: str = "auto",
    universe: Universe | None = None,
    graph: FeatureGraph | None = None,
    bayes_accuracy: float | None = None,
    folder: str | Path | None = None,
) -> WalkForwardResult:
    """Fit variants on the past of each fold's cut-off and judge what they say of the sessions after it.

    All baselines (constants, rules, logistic regression, trees, forecasters of risk) are fitted and judged beside them,
    and the alarms for leaks of a run hold here, too.

    Parameters
    ----------
    variants
        Names, such as ``linear`` or ``baseline``, or ``Variant`` objects of one's own.
    panel
        Prices, from :func:`.load_panel`.
    splits, test_sessions, gap
        Folds; decision sessions of each; sessions between the cut-off of a fold and its first test session.
    window, window_sessions
        ``expanding``: training begins at the first session. ``rolling``: it has ``window_sessions``.
    sequence_length
        Feature vectors in a window of the networks.
    max_epochs
        At most so many; default: each variant's own limit.
    seed, device
        Of every draw; where networks train.
    universe
        Dated members, which the alarm for survivors needs.
    graph
        Features; default: the whole catalogue.
    bayes_accuracy
        What the best possible predictor of a simulated market gets right: the alarm for leaks expects no more.
    folder
        Where forecasts are kept, so that a second call computes only what is missing. Default: nothing is written
        that outlives the call.

    Raises
    ------
    TrainingError
        An argument is out of range, or there are too few sessions; names it.
    LeakAlarmError
        Something was known that could not be known.
    """
    chosen = _chosen(variants)
    _check_integers(sequence_length=(sequence_length, 2), seed=(seed, 0), max_epochs=(max_epochs, 1))
    _check_integers(splits=(splits, 1), test_sessions=(test_sessions, 1), gap=(gap, 0))
    features = graph or FeatureGraph(covariates=panel.covariates)
    plan = FoldPlan(splits, gap, test_sessions, window, window_sessions)
    with TemporaryDirectory(prefix="walk-forward-") as temporary, named_as_arguments():
        walk = WalkForward(
            folder=Path(temporary if folder is None else folder),
            panel=panel,
            features=compute_panel(panel, features),
            plan=plan,
            sequence_length=sequence_length,
            seed=seed,
            device=device,
            max_epochs=max_epochs,
            universe=universe,
            graph=features,
            variants=chosen,
            bayes_accuracy=bayes_accuracy,
        )
        for models, fold in models_and_folds(walk):
            walk.run(models, fold)
        return WalkForwardResult(make_report(walk), tuple(chosen))


def _chosen(variants: str | Variant | Sequence[str | Variant]) -> dict[str, Variant]:
    asked = [variants] if isinstance(variants, str | Variant) else list(variants)
    own = [one for one in asked if isinstance(one, Variant)]
    names = [one for one in asked if isinstance(one, str)]
    if not asked or len(own) + len(names) < len(asked):
        raise TrainingError("variants must be names of variants or Variant objects, at least one")
    try:
        with named_as_arguments():
            found = [*choose_variants(names), *own]
    except FinancialAssetsError as error:
        raise TrainingError(str(error)) from error
    taken = {BASELINES, *DIRECTION_BASELINES, *RISK_BASELINES}
    chosen: dict[str, Variant] = {}
    for variant in found:
        if variant.name in chosen or variant.name in taken or names.count(variant.name) > 1:
            raise TrainingError(f"variants: the name {variant.name!r} is there twice, or is that of a baseline")
        if not _SAFE_NAME.fullmatch(variant.name):
            raise TrainingError(f"variants: the name {variant.name!r} must be letters, digits, - and _")
        chosen[variant.name] = variant
    return chosen


def _check_integers(**arguments: tuple[object, int]) -> None:
    for name, (value, least) in arguments.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise TrainingError(f"{name} must be a whole number of at least {least}, not {value!r}")
