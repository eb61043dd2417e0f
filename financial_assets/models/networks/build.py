"""Every architecture by name, and the freshly initialised network of a variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.models.networks.attention import AttentiveLstmNetwork
from financial_assets.models.networks.boosted import BoostedNetwork
from financial_assets.models.networks.ensemble import EnsembleNetwork
from financial_assets.models.networks.linear import LinearNetwork
from financial_assets.models.networks.lstm import LstmNetwork
from financial_assets.models.networks.multiscale import MultiScaleLstmNetwork
from financial_assets.models.networks.transformer import TransformerNetwork
from financial_assets.models.variants import Variant

__all__ = ["NETWORKS", "build_network"]


def _lstm(variant: Variant, features: int) -> nn.Module:
    return LstmNetwork(features, hidden=variant.hidden, layers=variant.layers, dropout=variant.dropout)


def _attention(variant: Variant, features: int) -> nn.Module:
    return AttentiveLstmNetwork(features, hidden=variant.hidden, layers=variant.layers, dropout=variant.dropout)


def _multiscale(variant: Variant, features: int) -> nn.Module:
    return MultiScaleLstmNetwork(features, hidden=variant.hidden, dropout=variant.dropout)


def _transformer(variant: Variant, features: int) -> nn.Module:
    return TransformerNetwork(features, hidden=variant.hidden, layers=variant.layers, dropout=variant.dropout)


def _linear(variant: Variant, features: int) -> nn.Module:
    return LinearNetwork(features)


def _boosted(variant: Variant, features: int) -> nn.Module:
    return BoostedNetwork(features)


def _ensemble(variant: Variant, features: int) -> nn.Module:
    return EnsembleNetwork({member.name: build_network(member, features) for member in variant.members})


NETWORKS: Mapping[str, Callable[[Variant, int], nn.Module]] = MappingProxyType(
    {
        "lstm": _lstm,
        "multiscale": _multiscale,
        "attention": _attention,
        "transformer": _transformer,
        "linear": _linear,
        "boosted": _boosted,
        "ensemble": _ensemble,
    }
)
"""Network constructors by the name that a ``Variant`` gives.

To add an architecture: write a module with the inputs of ``LstmNetwork.forward`` that ends in ``Heads``, name its
constructor here, and add a line to ``variants.VARIANTS`` that names it in ``network``. Nothing else changes: assets,
checks, export and serving follow from the line. What is not trained by gradients is also named in
``fitting.registry.FITTERS``.
"""


def build_network(variant: Variant, features: int) -> nn.Module:
    """A freshly initialised network (from torch's current random state).

    Raises
    ------
    TrainingError
        If the variant names a network that does not exist, or one that cannot have the variant's size.
    """
    try:
        constructor = NETWORKS[variant.network]
    except KeyError:
        raise TrainingError(
            f"variant {variant.name!r} names the network {variant.network!r}; there are {', '.join(NETWORKS)}"
        ) from None
    return constructor(variant, features)
