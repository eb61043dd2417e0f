"""The calibrated answer as a layer of the served graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from financial_assets.models.answers import Answers
from financial_assets.models.calibration.conformal import QuantileShifts
from financial_assets.models.calibration.direction import PlattScaling, fit_platt
from financial_assets.models.calibration.ranking import ScoreSlope, fit_slope
from financial_assets.models.heads import HORIZONS, QUANTILE_LEVELS, HeadOutputs, ServedAnswer


class Calibration(nn.Module):
    """The calibrated answer, part of the exported graph.

    Parameters
    ----------
    scale, bias
        Platt scaling.
    shifts
        Weights and shifts of the quantiles of each horizon.
    slope
        Of the score.
    """

    factors: Tensor
    bias: Tensor
    centres: Tensor
    shifts: Tensor

    def __init__(
        self,
        scale: float = 1.0,
        bias: float = 0.0,
        shifts: Sequence[QuantileShifts] = (QuantileShifts.none(),) * len(HORIZONS),
        slope: float = 1.0,
    ) -> None:
        super().__init__()
        for name, values in {
            "factors": np.concatenate([[scale], *(each.weights for each in shifts), [slope]]),
            "bias": [bias],
            "centres": np.stack([each.centres for each in shifts]),
            "shifts": np.stack([each.shifts for each in shifts]),
        }.items():
            self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float32))

    def forward(self, outputs: HeadOutputs, volatility: Tensor) -> ServedAnswer:
        """The answer of a network's outputs.

        Sorting repairs crossed quantiles and never makes them worse (Chernozhukov, Fernandez-Val & Galichon 2010).

        Parameters
        ----------
        outputs
            Of a batch.
        volatility
            ``[batch, horizon]``.
        """
        # All outputs at once: two operations of the exported graph instead of two for each head.
        calibrated = self.factors * torch.cat(outputs, dim=-1) + self.added(volatility)
        logit, multiples, score = calibrated.split((1, len(HORIZONS) * len(QUANTILE_LEVELS), 1), dim=-1)
        by_horizon = multiples.view(-1, len(HORIZONS), len(QUANTILE_LEVELS))
        quantiles = torch.sort(by_horizon, dim=-1).values * volatility.unsqueeze(-1)
        return ServedAnswer(torch.sigmoid(logit), quantiles[:, 0], quantiles[:, 1], score)

    def shift(self, volatility: Tensor) -> Tensor:
        """What is added to the weighted multiples ``[batch, horizon * level]``, continuous in the volatility."""
        return self.added(volatility)[:, 1:-1]

    def added(self, volatility: Tensor) -> Tensor:
        """What is added to the weighted outputs ``[batch, output]``: Platt's bias, the shifts, nothing to the score."""
        # How far the volatility is on the way from each centre to the next, between 0 and 1; then, how much of each
        # step between their shifts has been taken. Blocks on the diagonal keep the horizons apart.
        widths = 1.0 / self.centres.diff(dim=1)
        starts = (self.centres[:, :-1] * widths).flatten()
        way = torch.addmm(-starts, torch.log(volatility), torch.block_diag(*widths)).clamp(0.0, 1.0)
        nothing = torch.zeros_like(self.bias)
        first = torch.cat([self.bias, self.shifts[:, 0].flatten(), nothing])
        return torch.addmm(first, way, pad(torch.block_diag(*self.shifts.diff(dim=1)), (1, 1)))


@dataclass(frozen=True, eq=False)
class FittedCalibration:
    """What the calibrate block says of a network's answers.

    Attributes
    ----------
    platt
        Of the probability.
    shifts
        Of the quantiles, by horizon.
    score
        Of the score.
    """

    platt: PlattScaling
    shifts: tuple[QuantileShifts, ...]
    score: ScoreSlope

    @classmethod
    def fit(cls, answers: Answers, constants: np.ndarray) -> Self:
        """From uncalibrated answers, and the ``constant_multiples`` of the fit block ``[horizon, level]``.

        Raises
        ------
        TrainingError
            If they are too few, not finite, or of one direction only.
        """
        horizons = zip(
            HORIZONS,
            (answers.multiples, answers.multiples_5d),
            (answers.scaled_return, answers.scaled_return_5d),
            answers.volatility.T,
            constants,
            strict=True,
        )
        return cls(
            platt=fit_platt(answers.logit, answers.up, answers.session),
            shifts=tuple(
                QuantileShifts.fit(multiples, scaled, volatility, answers.session, constant, horizon)
                for horizon, multiples, scaled, volatility, constant in horizons
            ),
            score=fit_slope(answers.score, answers.excess, answers.session),
        )

    def layer(self) -> Calibration:
        """The calibration as a layer, in evaluation mode."""
        return Calibration(self.platt.scale, self.platt.bias, self.shifts, self.score.slope).eval()
