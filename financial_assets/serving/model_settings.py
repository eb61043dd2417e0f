"""MLServer's ``model-settings.json``: what tells a bare server which runtime runs an artefact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_FILE = "model.onnx"
SETTINGS_FILE = "model-settings.json"
_IMPLEMENTATION = "financial_assets.serving.runtime.FinancialOnnxRuntime"


def model_settings(name: str, *, version: int | None = None, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The settings of one model beside its ``model.onnx``.

    Parameters
    ----------
    name
        The server's name of it; in a cluster the agent writes its own over it.
    version
        Number in the gateway's route; in a cluster the agent writes it.
    extra
        Parameters of the runtime; in a cluster the agent takes them from the Model.
    """
    parameters: dict[str, Any] = {"uri": f"./{MODEL_FILE}"}
    if version is not None:
        parameters["version"] = str(version)
    if extra is not None:
        parameters["extra"] = dict(extra)
    return {"name": name, "implementation": _IMPLEMENTATION, "parameters": parameters}
