"""The ONNX artefact as an MLflow model folder."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from financial_assets.errors import ExportError
from financial_assets.folders import make_folder
from financial_assets.models.onnx.export import INPUT_NAME, OUTPUT_WIDTHS
from financial_assets.models.request_shape import CHANNEL_COUNT, SERVED_LOOKBACK


def save_mlflow_model(
    onnx_path: Path, folder: Path, *, example: np.ndarray, metadata: Mapping[str, str] | None = None
) -> Path:
    """Save an ONNX file as an MLflow model with signature and input example.

    Parameters
    ----------
    onnx_path
        The exported file.
    folder
        Where the model folder goes; must not exist. It appears complete or not at all.
    example
        One window ``[256, channel]``.
    metadata
        Text for MLflow's ``MLmodel`` file.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ExportError
        If the folder exists, the example is not one window, or the file is not an ONNX model.
    """
    if folder.exists():
        raise ExportError(f"{folder} exists: an artefact is never overwritten")
    if example.ndim != 2 or len(example) != SERVED_LOOKBACK or example.shape[1] < CHANNEL_COUNT:
        raise ExportError(
            f"an example window has shape ({SERVED_LOOKBACK}, {CHANNEL_COUNT}), or one more for each covariate, not "
            f"{example.shape}"
        )
    try:
        model = onnx.load(onnx_path)
    except (OSError, DecodeError) as error:
        raise ExportError(f"{onnx_path} is not an ONNX model ({error}): export it again") from error
    for variable in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(variable, "true")
    # Importing mlflow takes seconds; only this function needs it.
    with warnings.catch_warnings():
        # mlflow warns about a type hint in its own code while it is imported.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        import mlflow.pyfunc  # noqa: F401  # pyright: ignore[reportUnusedImport] - mlflow.onnx would import it later
        from mlflow import onnx as mlflow_onnx  # pyright: ignore[reportPrivateImportUsage]
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

    float32 = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, *example.shape), INPUT_NAME)]),
        outputs=Schema([TensorSpec(float32, (-1, width), name) for name, width in OUTPUT_WIDTHS.items()]),
    )
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True
    ) as staging:
        mlflow_onnx.save_model(
            model,
            str(Path(staging, "model")),
            signature=signature,
            input_example={INPUT_NAME: example[np.newaxis].astype(np.float32)},
            metadata=dict(metadata or {}),
            pip_requirements=[f"{package}=={version(package)}" for package in ("onnx", "onnxruntime", "numpy")],
            save_as_external_data=False,
        )
        Path(staging, "model").replace(folder)
    return folder
