"""Gradient-boosted trees of scikit-learn as a torch module, and as one node of ONNX-ML in the served graph.

Both compare float32 features with scikit-learn's float64 thresholds in float64, as scikit-learn itself does, and sum
the leaves in float64: a value on a threshold goes the same way in all three, and scores differ by their rounding to
float32 alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from financial_assets.errors import ExportError
from financial_assets.models.onnx.builder import ML_DOMAIN, GraphBuilder
from financial_assets.models.onnx.tracing import Operation

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

_ROWS = 512
"""Rows evaluated at a time: each holds one number per tree."""


class TreeEnsemble(nn.Module):
    """Sums of regression trees: ``[batch, feature]`` to raw scores ``[batch, output]``, float32.

    A row goes left where its value is at most the threshold, or is missing (NaN) and the node sends those left.
    Nothing here is trained: the trees are buffers.

    Parameters
    ----------
    trees
        Node arrays of scikit-learn's ``TreePredictor``; trees of an iteration stand together, one per output.
    baseline
        What each output starts from ``[output]``.
    features
        Width of the input.

    Raises
    ------
    ExportError
        If a tree splits on categories.
    """

    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    roots: Tensor
    baseline: Tensor

    def __init__(self, trees: Sequence[np.ndarray], baseline: np.ndarray, features: int) -> None:
        super().__init__()
        if any(nodes["is_categorical"].any() for nodes in trees):
            raise ExportError("trees that split on categories cannot be exported: set categorical_features=None")
        self.features = features
        roots = list(accumulate((len(nodes) for nodes in trees), initial=0))[:-1]
        numbers = [np.arange(len(nodes)) for nodes in trees]

        def join(parts: Iterable[np.ndarray], dtype: type) -> Tensor:
            return torch.from_numpy(np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype))

        def child(side: str) -> Tensor:
            # A leaf leads to itself, so that shallow branches wait for deep ones.
            chosen = zip(trees, numbers, roots, strict=True)
            return join((np.where(t["is_leaf"], own, t[side]) + root for t, own, root in chosen), np.int64)

        self.register_buffer("feature", join((np.where(t["is_leaf"], 0, t["feature_idx"]) for t in trees), np.int64))
        self.register_buffer("threshold", join((t["num_threshold"] for t in trees), np.float64))
        self.register_buffer("missing_left", join((t["missing_go_to_left"] for t in trees), np.bool_))
        self.register_buffer("left", child("left"))
        self.register_buffer("right", child("right"))
        self.register_buffer("value", join((np.where(t["is_leaf"], t["value"], 0.0) for t in trees), np.float64))
        self.register_buffer("roots", torch.tensor(roots, dtype=torch.int64))
        self.register_buffer("baseline", torch.from_numpy(np.asarray(baseline, dtype=np.float64)))
        self.register_load_state_dict_pre_hook(_take_shapes)

    @property
    def depth(self) -> int:
        """Steps from the roots after which every row has come to its leaf."""
        depth, reached = 0, self.roots
        while True:
            inner = reached[self.left[reached] != reached]
            if not len(inner):
                return depth
            depth, reached = depth + 1, torch.cat([self.left[inner], self.right[inner]])

    @classmethod
    def from_sklearn(
        cls, model: HistGradientBoostingClassifier | HistGradientBoostingRegressor, *, rounds: int | None = None
    ) -> TreeEnsemble:
        """The trees of a fitted model, or of its first ``rounds`` iterations.

        Scores are those of ``decision_function`` of a classifier (``[batch, 1]`` for two classes: the logit), and of
        ``predict`` of a regressor; its logarithm where the loss is ``poisson`` or ``gamma``.

        Raises
        ------
        ExportError
            If the model is not fitted, or splits on categories.
        """
        fitted: Any = model
        if not hasattr(fitted, "_predictors"):
            raise ExportError(f"{type(model).__name__} is not fitted: call fit() before it is exported")
        if fitted.is_categorical_ is not None:
            raise ExportError("trees that split on categories cannot be exported: set categorical_features=None")
        trees = [tree.nodes for tree in chain.from_iterable(fitted._predictors[:rounds])]
        return cls(trees, np.ravel(fitted._baseline_prediction), int(fitted.n_features_in_))

    def forward(self, values: Tensor) -> Tensor:
        """Raw scores.

        Raises
        ------
        ExportError
            If ``values`` are not ``[batch, feature]`` with as many features as the trees were fitted on.
        """
        if values.dim() != 2 or values.shape[1] != self.features:
            raise ExportError(f"trees of {self.features} features cannot read values of shape {tuple(values.shape)}")
        return evaluate_trees(values, self)


def _take_shapes(ensemble: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    """Make room for the trees of a stored state, however many they are."""
    for name in dict(ensemble.named_buffers(recurse=False)):
        if prefix + name in state:
            ensemble.register_buffer(name, torch.empty_like(state[prefix + name]))


def evaluate_trees(values: Tensor, ensemble: TreeEnsemble) -> Tensor:
    """``TreeEnsemble.forward`` as a function, which a trace has as one operation."""
    if has_torch_function_unary(values):
        return handle_torch_function(evaluate_trees, (values,), values, ensemble)
    return torch.cat([_evaluate(rows, ensemble) for rows in values.split(_ROWS)])


def _evaluate(values: Tensor, ensemble: TreeEnsemble) -> Tensor:
    precise = values.double()
    node = ensemble.roots.expand(len(values), -1)
    for _ in range(ensemble.depth):
        read = precise.gather(1, ensemble.feature[node])
        goes_left = (read <= ensemble.threshold[node]) | (read.isnan() & ensemble.missing_left[node])
        node = torch.where(goes_left, ensemble.left[node], ensemble.right[node])
    outputs = len(ensemble.baseline)
    by_output = ensemble.value[node].reshape(len(values), len(ensemble.roots) // outputs, outputs)
    return (ensemble.baseline + by_output.sum(1)).float()


def write_trees(builder: GraphBuilder, operation: Operation) -> str:
    """Write ``evaluate_trees`` as a ``TreeEnsembleRegressor`` on float64.

    The raw scores of a classifier are a regression too; ``TreeEnsembleClassifier`` would add labels that nobody reads.
    """
    values, ensemble = operation.args
    precise = builder.emit("Cast", [builder.operand(values)], to=TensorProto.DOUBLE)
    return builder.emit("TreeEnsembleRegressor", [precise], domain=ML_DOMAIN, **_attributes(ensemble))


def _attributes(ensemble: TreeEnsemble) -> dict[str, Any]:
    count, outputs = len(ensemble.feature), len(ensemble.baseline)
    roots = ensemble.roots.numpy()
    tree = np.repeat(np.arange(len(roots)), np.diff([*roots, count]))
    first, own = roots[tree], np.arange(count)
    leaf = ensemble.left.numpy() == own
    return {
        "n_targets": outputs,
        "base_values_as_tensor": _doubles(ensemble.baseline),
        "nodes_treeids": _whole(tree),
        "nodes_nodeids": _whole(own - first),
        "nodes_featureids": _whole(ensemble.feature.numpy()),
        "nodes_modes": tuple(np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()),
        "nodes_values_as_tensor": _doubles(ensemble.threshold),
        "nodes_truenodeids": _whole(np.where(leaf, 0, ensemble.left.numpy() - first)),
        "nodes_falsenodeids": _whole(np.where(leaf, 0, ensemble.right.numpy() - first)),
        "nodes_missing_value_tracks_true": _whole(ensemble.missing_left.numpy()),
        "target_treeids": _whole(tree[leaf]),
        "target_nodeids": _whole((own - first)[leaf]),
        "target_ids": _whole(tree[leaf] % outputs),
        "target_weights_as_tensor": _doubles(ensemble.value[torch.from_numpy(leaf)]),
    }


def _whole(numbers: np.ndarray) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers)


def _doubles(values: Tensor) -> TensorProto:
    return numpy_helper.from_array(values.numpy())
