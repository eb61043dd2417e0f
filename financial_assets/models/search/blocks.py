"""What a search may see: the fit and the stop block. The sessions that judge its result are kept from it.

Hyper-parameters that were chosen on the calibrate or the evaluation block would be fitted to it, and its scores would
be too good. The data that trials get therefore end with the stop block, and every trial is asked afterwards which
sessions chose its epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from financial_assets.errors import SearchLeakError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import Blocks
from financial_assets.models.training_data import TrainingData

Span = tuple[pd.Timestamp, pd.Timestamp]


@dataclass(frozen=True, eq=False)
class SearchData:
    """Data of the trials, and the sessions that each block holds.

    Attributes
    ----------
    data
        Everything up to the end of the stop block; its calibrate block is empty.
    spans
        First and last session of the blocks ``fit``, ``stop``, ``calibrate`` and ``evaluation``; the last one is what
        the panel holds after the data cut-off, if anything.
    """

    data: TrainingData
    spans: Mapping[str, Span]

    @classmethod
    def until(
        cls, cutoff: pd.Timestamp, features: FeaturePanel, panel: PricePanel, *, sequence_length: int
    ) -> SearchData:
        """Lay the blocks that a training with this cut-off has, and drop what comes after the stop block.

        Raises
        ------
        TrainingError
            There is too little for a block.
        """
        data = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)
        blocks = {name: getattr(data.blocks, name) for name in ("fit", "stop", "calibrate")}
        spans = {name: (data.sessions[span.start], data.sessions[span.stop - 1]) for name, span in blocks.items()}
        later = panel.sessions[panel.sessions > data.cutoff]
        if len(later):
            spans["evaluation"] = (later[0], later[-1])
        return cls(_ending(data, data.blocks.calibrate.start), spans)

    @property
    def read_until(self) -> pd.Timestamp:
        """Last session whose prices a trial reads: the one that settles the last label of the stop block."""
        return pd.Timestamp(self.data.sessions[-1])

    def check(self, scored: Span) -> None:
        """Make sure that sessions which were scored belong to the stop block.

        Parameters
        ----------
        scored
            First and last decision session whose loss was looked at.

        Raises
        ------
        SearchLeakError
            Some do not; the message names the blocks that they belong to.
        """
        first, last = self.spans["stop"]
        if first <= scored[0] and scored[1] <= last:
            return
        touched = [
            f"the {name} block ({_words(span)})"
            for name, span in self.spans.items()
            if name != "stop" and scored[0] <= span[1] and span[0] <= scored[1]
        ]
        raise SearchLeakError(
            f"a trial was judged on {_words(scored)}, on {' and '.join(touched) or 'sessions of no block'}: "
            f"hyper-parameters are chosen on the stop block alone ({_words((first, last))}), or the blocks after it "
            "could no longer judge them"
        )


def check_cutoff(cutoff: pd.Timestamp, evaluation_after: pd.Timestamp) -> None:
    """Make sure that a search ends where the evaluation begins.

    Parameters
    ----------
    cutoff
        Data cut-off of the search.
    evaluation_after
        Data cut-off of the models: later sessions are the evaluation block.

    Raises
    ------
    SearchLeakError
        The search would read sessions of the evaluation block.
    """
    if cutoff > evaluation_after:
        raise SearchLeakError(
            f"a search up to {cutoff:%Y-%m-%d} would read the evaluation block, which begins after the data cut-off "
            f"{evaluation_after:%Y-%m-%d}: its sessions judge the models and must not choose their settings"
        )


def _ending(data: TrainingData, count: int) -> TrainingData:
    """The first ``count`` sessions."""
    return replace(
        data,
        sessions=data.sessions[:count],
        features=data.features[:, :count],
        outcome=data.outcome[:, :count],
        outcome_5d=data.outcome_5d[:, :count],
        excess=data.excess[:, :count],
        causal_volatility=data.causal_volatility[:, :count],
        volatility=data.volatility[:, :count],
        usable=data.usable[:, :count],
        blocks=Blocks(data.blocks.fit, data.blocks.stop, range(count, count)),
    )


def _words(span: Span) -> str:
    return f"{span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}"
