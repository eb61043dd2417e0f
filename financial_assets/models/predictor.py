"""The served model: raw bars in, calibrated answer out."""

from __future__ import annotations

from torch import Tensor, nn

from financial_assets.errors import ExportError
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK
from financial_assets.features.graph import FeatureGraph
from financial_assets.models.calibration.layer import Calibration
from financial_assets.models.heads import QUANTILE_LEVELS, ServedAnswer
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training import Training
from financial_assets.models.volatility import HarVolatility

__all__ = ["QUANTILE_LEVELS", "SERVED_LOOKBACK", "Predictor", "build_predictor"]


class Predictor(nn.Module):
    """Feature graph, scaler, volatility, network and calibration as one module.

    Parameters
    ----------
    graph
        The feature graph that the training panel was computed with.
    scaler, network, calibration, volatility
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
        volatility: HarVolatility,
        sequence_length: int,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.scaler = scaler
        self.network = network
        self.calibration = calibration
        self.volatility = volatility
        self.sequence_length = sequence_length
        self.bars_needed = max(graph.lookback + sequence_length - 1, CAUSAL_VOLATILITY_LOOKBACK)
        if self.bars_needed > SERVED_LOOKBACK:
            raise ExportError(
                f"features look back {graph.lookback} bars and SEQUENCE_LENGTH={sequence_length}: {self.bars_needed} "
                f"bars are needed, a request carries {SERVED_LOOKBACK}; SEQUENCE_LENGTH can be at most "
                f"{SERVED_LOOKBACK - graph.lookback + 1}"
            )

    def forward(self, bars: Tensor) -> ServedAnswer:
        """Answer for windows of raw bars.

        Parameters
        ----------
        bars
            float32 ``[batch, SERVED_LOOKBACK, channel]``: channels as in ``PricePanel``, oldest bar first.
        """
        return self.answer(*self.prepare(bars))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of a request."""
        return self.graph.channels

    def prepare(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled features ``[batch, step, feature]`` and forecast volatility ``[batch, horizon]`` of windows."""
        recent = bars[:, SERVED_LOOKBACK - self.bars_needed :, :].transpose(1, 2).contiguous()
        features = self.graph(recent)[..., -self.sequence_length :]
        return features.transpose(1, 2).contiguous(), self.volatility(recent, sessions=1)[:, 0]

    def answer(self, features: Tensor, volatility: Tensor) -> ServedAnswer:
        """Answer for unscaled features ``[batch, step, feature]`` and forecast volatility ``[batch, horizon]``."""
        return self.calibration(self.network(self.scaler(features), volatility), volatility)


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
    predictor = Predictor(
        graph,
        training.scaler,
        training.network,
        training.calibration,
        training.volatility,
        training.sequence_length,
    )
    return predictor.eval().requires_grad_(False)
