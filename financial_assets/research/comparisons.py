"""Which of several models is better at one question: ``fa.compare_models``, over the scores of the walk-forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from financial_assets.display import section
from financial_assets.errors import ForecastError
from financial_assets.market.panel import PricePanel
from financial_assets.models.forecasts import HEADS, check_forecasts
from financial_assets.models.training import Training
from financial_assets.models.walk_forward.backtests import COVERAGE_COLUMNS, UNIVERSE, coverage_table
from financial_assets.models.walk_forward.quantile_heads import ALL, realised_variances
from financial_assets.models.walk_forward.rivals import comparison_table, confidence_sets
from financial_assets.models.walk_forward.scores import score_table
from financial_assets.research.questions import HEADS_OF, JudgedHead, Question
from financial_assets.research.sources import Day, Source, forecast_table
from financial_assets.scoring.autocorrelation import FEWEST_DAYS
from financial_assets.scoring.ranking import FEWEST_TICKERS


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Models on the rows that all of them answered.

    Attributes
    ----------
    question
        What was asked.
    scores
        One row per model, head and score, with an interval of 95 % clustered by day (``walk_forward.scores``).
    pairs
        Diebold and Mariano's test of each two models: the ``difference`` of their losses is negative where ``model`` is
        better than ``rival``.
    confidence_set
        The models that the best may be among (Hansen, Lunde and Nason 2011), the best first.
    coverage
        Back-tests of the values at risk; no rows of other questions.
    alpha
        Error rate of the confidence set.
    """

    question: Question
    scores: pd.DataFrame
    pairs: pd.DataFrame
    confidence_set: pd.DataFrame
    coverage: pd.DataFrame
    alpha: float

    @property
    def table(self) -> pd.DataFrame:
        """The main score of every model with its interval, best first, and whether it may be the best.

        ``p_value``: the smallest error rate at which the model would be left out of the confidence set.
        """
        parts: list[pd.DataFrame] = []
        for head in HEADS_OF[self.question]:
            own = self.scores[(self.scores["head"] == head.name) & (self.scores["score"] == head.score)]
            ranked = own.sort_values("estimate", ascending=head.sign > 0, kind="stable")
            members = self._members(head)
            # Models that never differ have no confidence set: each of them may be the best.
            verdicts = [members.get(str(name), (True, np.nan)) for name in ranked["model"]]
            columns = pd.DataFrame(verdicts, index=ranked.index, columns=pd.Index(["may_be_best", "p_value"]))
            parts.append(ranked.join(columns))
        return pd.concat(parts, ignore_index=True)

    @property
    def sentence(self) -> str:
        """Who may be the best at each head, and no more."""
        return " ".join(self._said(head) for head in HEADS_OF[self.question] if self._has(head))

    def plot(self) -> Figure:
        """The main score of every model with its 95 % interval."""
        table = self.table
        heads = [head for head in HEADS_OF[self.question] if self._has(head)]
        size = (4.5 * len(heads) + 2, 0.35 * table["model"].nunique() + 1.5)
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        for axes, head in zip(figure.subplots(1, len(heads), squeeze=False).flat, heads, strict=True):
            own = table[table["head"] == head.name][::-1]  # the best on top
            place = np.arange(len(own))
            half = np.nan_to_num(np.stack([own["estimate"] - own["low"], own["high"] - own["estimate"]]))
            axes.errorbar(own["estimate"].to_numpy(), place, xerr=half, fmt="o", markersize=4, linewidth=1)
            axes.set_yticks(place, own["model"])
            axes.set_xlabel(head.words)
        return figure

    def _repr_html_(self) -> str:
        shown = [self.table.drop(columns="fold"), self.pairs.drop(columns="fold")]
        if not self.coverage.empty:
            universe = self.coverage["ticker"] == UNIVERSE
            shown.append(self.coverage[universe].drop(columns=["fold", "ticker"]))
        return section(f"Comparison: {self.question}", self.sentence, *shown)

    def _has(self, head: JudgedHead) -> bool:
        return bool((self.scores["head"] == head.name).any())

    def _members(self, head: JudgedHead) -> dict[str, tuple[bool, float]]:
        """Model -> whether it is in the confidence set, and its p-value; models that never differ share theirs."""
        own = self.confidence_set
        own = own[(own["head"] == head.name) & (own["loss"] == head.loss)]
        return {
            name: (bool(row["included"]), float(row["p_value"]))
            for _, row in own.iterrows()
            for name in str(row["model"]).split(" = ")
        }

    def _said(self, head: JudgedHead) -> str:
        table = self.table[self.table["head"] == head.name]
        best, members = table.iloc[0], self._members(head)
        words = head.words[0].upper() + head.words[1:]
        if not members:
            return f"{words}: on {best['days']} sessions no two of the models differ."
        likely = [name for name in table["model"] if members[name][0]]
        level = f"{1 - self.alpha:.0%}"
        start = (
            f"{words} on {best['days']:,} sessions: {best['model']} has the best, {best['estimate']:.4g} "
            f"(95 % interval: {best['low']:.4g} to {best['high']:.4g})."
        )
        if len(likely) == 1:
            return f"{start} The {level} confidence set holds no other model."
        return f"{start} The {level} confidence set holds {', '.join(likely)}: none of them has been shown to be best."


def compare_models(
    models: Sequence[Source] | Mapping[str, Source] | pd.DataFrame,
    panel: PricePanel,
    *,
    question: Question = "direction",
    start: Day | None = None,
    end: Day | None = None,
    alpha: float = 0.1,
) -> ModelComparison:
    """Judge several models on the rows that all of them answered.

    Parameters
    ----------
    models
        Two or more of what :func:`.backtest` takes; a mapping gives them names. A forecast table may hold several.
    panel
        Prices, from :func:`.load_panel`: what happened is taken from them.
    question
        ``direction``: probabilities of a rise, by log loss. ``ranking``: scores, by their rank correlation with the
        excess return of a session, in universes of at least ten tickers. ``risk``: quantiles of the return of the next
        session and of five, by pinball loss in units of volatility; with back-tests of the values at risk.
    start, end
        First and last decision session.
    alpha
        Error rate of the confidence set: the best is left out with at most this probability.

    Raises
    ------
    ForecastError
        A model cannot be read, does not answer the question or shares its name with another; or they have too few
        sessions in common.
    """
    if question not in get_args(Question):
        raise ForecastError(f"question must be one of {', '.join(get_args(Question))}, not {question!r}")
    if not isinstance(alpha, float) or not 0 < alpha < 1:
        raise ForecastError(f"alpha must lie between 0 and 1, not {alpha!r}")
    forecasts = _joined(list(_tables(models, panel, start, end)))
    variances = realised_variances(panel)
    scores: list[pd.DataFrame] = []
    pairs: list[pd.DataFrame] = []
    sets: list[pd.DataFrame] = []
    coverage: list[pd.DataFrame] = []
    silent = set(forecasts["model"])
    for head in HEADS_OF[question]:
        rows = _common_rows(forecasts, head)
        if rows.empty:
            continue
        silent -= set(rows["model"])
        scores.append(_whole(score_table(rows, variances)))
        pairs.append(_whole(comparison_table(rows, heads=[head.name], every_pair=True)))
        sets.append(_whole(confidence_sets(rows, heads=[head.name], alpha=alpha)))
        if question == "risk":
            coverage.append(_whole(coverage_table(rows)))
    if silent:
        needed = " or ".join(head.columns[0] for head in HEADS_OF[question])
        raise ForecastError(
            f"models: {', '.join(sorted(silent))} cannot answer question={question!r}: no settled row has {needed}"
        )
    return ModelComparison(
        question=question,
        scores=pd.concat(scores, ignore_index=True),
        pairs=pd.concat(pairs, ignore_index=True),
        confidence_set=pd.concat(sets, ignore_index=True),
        coverage=pd.concat(coverage, ignore_index=True) if coverage else pd.DataFrame(columns=list(COVERAGE_COLUMNS)),
        alpha=alpha,
    )


def _tables(
    models: Sequence[Source] | Mapping[str, Source] | pd.DataFrame,
    panel: PricePanel,
    start: Day | None,
    end: Day | None,
) -> Iterator[pd.DataFrame]:
    if isinstance(models, str | Path | Training):
        raise ForecastError("models must be two or more models: give a list, or a mapping with their names")
    if isinstance(models, Mapping):
        for name, source in models.items():
            yield forecast_table(source, panel, argument=f"models[{name!r}]", name=str(name), start=start, end=end)
        return
    for place, source in enumerate([models] if isinstance(models, pd.DataFrame) else models):
        yield forecast_table(source, panel, argument=f"models[{place}]", start=start, end=end)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of all models, of no fold: they are judged on all rows together."""
    names = [name for table in tables for name in table["model"].unique()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ForecastError(f"models: several are called {', '.join(twice)}; give a mapping with their names")
    if len(names) < 2:
        raise ForecastError(f"models must be two or more, not {len(names)}")
    return check_forecasts(pd.concat(tables, ignore_index=True).assign(fold=""))


def _common_rows(forecasts: pd.DataFrame, head: JudgedHead) -> pd.DataFrame:
    """Rows that every model with the head answered and that are settled, without what other heads say.

    Raises
    ------
    ForecastError
        There are too few.
    """
    known = forecasts.dropna(subset=[*head.columns, *head.known])
    models = known["model"].nunique()
    answered = known.groupby(["date", "ticker"])["model"].transform("size")
    rows = known[answered == models]
    if models and (days := rows["date"].nunique()) < FEWEST_DAYS:
        raise ForecastError(
            f"models: {', '.join(known['model'].unique())} have settled forecasts of {head.columns[0]} for the same "
            f"tickers on {days} sessions only; at least {FEWEST_DAYS} are needed"
        )
    if head.name == "excess_return" and models:
        tickers = rows.groupby(["model", "date"]).size()
        if int((tickers >= FEWEST_TICKERS).groupby("model").sum().min()) < FEWEST_DAYS:
            raise ForecastError(
                f"question='ranking' needs {FEWEST_DAYS} sessions with at least {FEWEST_TICKERS} tickers that all "
                f"models answered; the median session has {tickers.median():.0f}"
            )
    others = [name for name in HEADS if name not in head.columns]
    return check_forecasts(rows.assign(**dict.fromkeys(others, np.nan)))


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["fold"] == ALL].reset_index(drop=True)
