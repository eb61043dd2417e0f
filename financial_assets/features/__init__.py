"""Bars to features: causal, scale-invariant functions that train the models and are exported with them.

The package can be called, so that ``fa.features(panel)`` reads as it should in a notebook: see ``table.features``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from financial_assets.features.table import FeatureTable


class _CallableModule(ModuleType):
    """A package is an attribute of the one above it: a function of the same name could only stand in its place."""

    def __call__(self, *arguments: Any, **options: Any) -> FeatureTable:
        from financial_assets.features.table import features

        return features(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
