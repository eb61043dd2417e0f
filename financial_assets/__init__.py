"""From raw prices to a served, A/B-tested, monitored forecasting model, as one Dagster asset graph.

For notebooks, ``import financial_assets as fa`` offers the functions of ``financial_assets.research``:
``fa.load_panel``, ``fa.features``, ``fa.backtest``, ``fa.compare_models``, ``fa.walk_forward``. Type checkers read
``__init__.pyi``: here nothing may be imported that the bare serving image does not have.
"""

from __future__ import annotations

_RESEARCH = ("backtest", "compare_models", "load_panel", "walk_forward")


def __getattr__(name: str) -> object:
    """The research interface, imported on first use: it needs torch, and the command line must start without it."""
    from importlib import import_module

    if name in _RESEARCH:
        return getattr(import_module("financial_assets.research"), name)
    if name == "features":  # a package that can be called
        return import_module("financial_assets.features")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_RESEARCH, "features"})
