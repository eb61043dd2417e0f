"""What makes a model the same model: data, code, settings. An equal fingerprint is reused, not trained again.

``python -m financial_assets.models.artifacts.fingerprint`` prints the present source and code versions.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import pandas as pd
import torch

from financial_assets.features.feature import FAMILIES
from financial_assets.market.panel import PricePanel
from financial_assets.models.dataset import BLOCK_SHARES
from financial_assets.models.variants import Variant

DECIDING = (
    *(f"features.{name}" for name in ("bars", "catalogue", "feature", "fusion", "graph", "primitive")),
    *(f"features.{name}" for name in ("rolling", "series", "windows")),
    *(f"features.panels.{name}" for name in ("buffers", "eager", "kept_program", "operations", "program")),
    *(f"features.indicators.{family}" for family in FAMILIES),
    "market.outcomes",
    "market.panel:listed_bars",
    *(f"models.{name}" for name in ("answers", "dataset", "devices", "heads", "predictor", "request_shape")),
    *(f"models.{name}" for name in ("scaling", "training", "training_data", "variants", "volatility")),
    *(f"models.calibration.{name}" for name in ("conformal", "direction", "layer", "ranking", "rows", "shrinkage")),
    *(f"models.networks.{name}" for name in ("attention", "boosted", "build", "ensemble", "linear", "lstm")),
    *(f"models.networks.{name}" for name in ("multiscale", "transformer")),
    *(f"models.fitting.{name}" for name in ("boosted", "ensemble", "gradient", "linear", "registry")),
    *(f"models.fitting.{name}" for name in ("network", "regression", "rows")),
    *(f"models.onnx.trees:{name}" for name in ("TreeEnsemble", "evaluate_trees", "_evaluate")),
    "scoring.quantiles:QUANTILE_LEVELS",
)
"""Modules, or single definitions in them, that decide the weights; a test walks the imports of training and prediction
and names what is missing. The exporter is not among them: a file is proven equal to its weights before it is served."""

_EARLIER: Mapping[str, Mapping[str, str]] = {
    "433912d9d94f20de": {"2.13.0+cpu": "6c19ea1bff74cc44"},
    "4dbd2c61c2c0ca2f": {"2.13.0+cpu": "6c19ea1bff74cc44"},
    "120698217c7d5d87": {},
    "1df6fc230f27376d": {},
    "307600a670a9ea01": {},
    "e67d063b89cf853c": {},
    "2544ae2faaa80bb5": {"2.13.0+cpu": "fdc645e19e6c0fbd"},
    "9136578123c59c17": {},
}
"""Per source version and version of torch, the earlier code version that gives the same weights, bit for bit.

State folders of that earlier version are then reused. A line is written only after ``benchmarks/trained_weights.py``
has printed equal digests in both checkouts; code with weights of its own gets an empty mapping.
"""


def training_data_hash(panel: PricePanel, cutoff: pd.Timestamp) -> str:
    """Hash of the prices up to the cut-off: later sessions do not change the model, so they do not change the hash.

    Features are a function of these prices and of the code, which has its own hash.
    """
    return panel.until(cutoff).content_hash()


@cache
def code_version() -> str:
    """Hash of torch's version and of the code that decides the weights, or the earlier version with equal weights."""
    source = source_version(files("financial_assets"))
    own = hashlib.sha256(f"torch {torch.__version__}\n{source}".encode()).hexdigest()[:16]
    return _EARLIER.get(source, {}).get(torch.__version__, own)


def source_version(root: Traversable) -> str:
    """Hash of ``DECIDING`` below ``root``, the package's folder, by syntax tree.

    What cannot change a weight is left out: docstrings, comments, imports, annotations, ``__all__``, the texts of
    errors, and the files' names and order. Moving code or writing about it keeps every model.
    """
    digests: list[str] = []
    for entry in DECIDING:
        module, _, definition = entry.partition(":")
        *folders, name = module.split(".")
        tree: ast.AST = ast.parse(root.joinpath(*folders, f"{name}.py").read_text(encoding="utf-8"))
        if definition:
            tree = next(node for node in ast.walk(tree) if definition in _names(node))
        shape = json.dumps(_shape(_Deciding().visit(tree)))
        digests.append(hashlib.sha256(shape.encode()).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


class _Deciding(ast.NodeTransformer):
    """Drops what cannot change a weight."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        # Which error ends a training may matter to a caller that catches it; what it says does not.
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=kind)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if "__all__" in _names(node) else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # The name stays, also without a value: the fields of a dataclass are an order of arguments.
        return self.generic_visit(ast.AnnAssign(node.target, ast.Constant(None), node.value, node.simple))

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _names(node: ast.AST) -> list[str]:
    """The names that a statement defines."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name() as target):
            return [target.id]
        case _:
            return []


def _shape(node: object) -> object:
    """A syntax tree as plain lists, the same for every Python: newer ones add fields, which are empty here."""
    if isinstance(node, ast.AST):
        filled = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *([name, _shape(value)] for name, value in filled)]
    return [_shape(part) for part in node] if isinstance(node, list) else repr(node)


def fingerprint(
    *,
    data_hash: str,
    variant: Variant,
    seed: int,
    sequence_length: int,
    cutoff: pd.Timestamp,
    code: str | None = None,
) -> str:
    """Identity of a training: 20 hexadecimal digits.

    Parameters
    ----------
    data_hash
        From ``training_data_hash``.
    variant, seed, sequence_length, cutoff
        The training's arguments.
    code
        Code version; default: that of the installed package.
    """
    identity = {
        "data": data_hash,
        "code": code_version() if code is None else code,
        "variant": variant.hyperparameters(),
        "seed": seed,
        "sequence_length": sequence_length,
        "cutoff": f"{cutoff:%Y-%m-%d}",
        "block_shares": BLOCK_SHARES,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]


if __name__ == "__main__":
    print(f"source version  {source_version(files('financial_assets'))}")
    print(f"code version    {code_version()} (torch {torch.__version__})")
