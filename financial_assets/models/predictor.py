"""The served model: raw bars in, calibrated answer out."""

from __future__ import annotations

from torch import Tensor, nn

from financial_assets.errors import ExportError
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK, causal_volatility, split_channels
from financial_assets.features.graph import FeatureGraph
from financial_assets.models.calibration import Calibration
from financial_assets.models.networks import QUANTILE_LEVELS
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Training

__all__ = ["QUANTILE_LEVELS", "SERVED_LOOKBACK", "Predictor", "build_predictor"]


class Predictor(nn.Module):
    """Feature graph, scaler, network and calibration as one module.

    Parameters
    ----------
    graph
        The feature graph that the training panel was computed with.
    scaler, network, calibration
        Parts of a ``Training``.
    sequence_length
        Feature vectors that the network reads.

    Raises
    ------
    ExportError
        If the parts need more bars than a request carries.
    """

    def __init__(
        self,
        graph: FeatureGraph,
        scaler: RobustScaler,
        network: nn.Module,
        calibration: Calibration,
        sequence_length: int,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.scaler = scaler
        self.network = network
        self.calibration = calibration
        self.sequence_length = sequence_length
        self.bars_needed = max(graph.lookback + sequence_length - 1, CAUSAL_VOLATILITY_LOOKBACK)
        if self.bars_needed > SERVED_LOOKBACK:
            raise ExportError(
                f"features look back {graph.lookback} bars and SEQUENCE_LENGTH={sequence_length}: {self.bars_needed} "
                f"bars are needed, a request carries {SERVED_LOOKBACK}; SEQUENCE_LENGTH can be at most "
                f"{SERVED_LOOKBACK - graph.lookback + 1}"
            )

    def forward(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for windows of raw bars.

        Parameters
        ----------
        bars
            float32 ``[batch, SERVED_LOOKBACK, channel]``: channels as in ``PricePanel``, oldest bar first.

        Returns
        -------
        tuple of Tensor
            ``probability_up`` ``[batch, 1]`` and ``return_quantiles`` ``[batch, 5]``, float32.
        """
        return self.answer(*self.prepare(bars))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of a request."""
        return self.graph.channels

    def prepare(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled features ``[batch, step, feature]`` and today's volatility ``[batch, 1]`` of windows of raw bars."""
        recent = bars[:, SERVED_LOOKBACK - self.bars_needed :, :].transpose(1, 2).contiguous()
        features = self.graph(recent)[..., -self.sequence_length :]
        volatility = causal_volatility(split_channels(recent))[..., -1:]
        return features.transpose(1, 2).contiguous(), volatility

    def answer(self, features: Tensor, volatility: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for windows of unscaled features ``[batch, step, feature]`` and today's volatility ``[batch, 1]``."""
        logit, multiples = self.network(self.scaler(features))
        return self.calibration(logit, multiples, volatility)


def build_predictor(training: Training, graph: FeatureGraph) -> Predictor:
    """The served model of a training, in evaluation mode.

    Raises
    ------
    ExportError
        If ``graph`` does not compute the features that the training used.
    """
    if tuple(graph.names) != training.feature_names:
        raise ExportError(
            f"the feature graph has {len(graph.names)} features, variant {training.variant.name!r} was trained on "
            f"{len(training.feature_names)} others: train it again"
        )
    predictor = Predictor(graph, training.scaler, training.network, training.calibration, training.sequence_length)
    return predictor.eval().requires_grad_(False)
