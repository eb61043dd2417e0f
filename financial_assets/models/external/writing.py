"""A torch module as an external model: one ``.onnx`` file with the served signature, and its card."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
import yaml
from torch import Tensor, nn

from financial_assets.atomic import atomic_write_bytes, atomic_write_text
from financial_assets.errors import ExportError
from financial_assets.models.external.card import MODEL_ENDING, ExternalCard, ExternalModel
from financial_assets.models.onnx.export import INPUT_NAME, OPSET, OUTPUT_WIDTHS
from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.writer import write_onnx
from financial_assets.models.request_shape import CHANNEL_COUNT, SERVED_LOOKBACK


def write_external_model(module: nn.Module, card: ExternalCard, folder: Path, *, covariates: int = 0) -> ExternalModel:
    """Write ``<name>.onnx`` and ``<name>.yaml`` into a folder that ``EXTERNAL_MODELS`` can name.

    Whatever else writes ONNX files may be used instead, such as ``torch.onnx.export`` with a dynamic batch axis: only
    the signature counts.

    Parameters
    ----------
    module
        From ``bars`` float32 ``[batch, 256, 7 + covariates]``, oldest bar first, to the four served outputs
        ``[batch, 1]``, ``[batch, 5]``, ``[batch, 5]`` and ``[batch, 1]`` in the order of ``OUTPUT_WIDTHS``.
    card
        What is said of it; its name becomes that of both files.
    folder
        Where to write; made where it is missing.
    covariates
        Channels behind the seven of every bar.

    Raises
    ------
    ExportError
        The module uses an operation that cannot be written here, or answers in other shapes.
    """
    shape = (SERVED_LOOKBACK, CHANNEL_COUNT + covariates)

    def example(batch: int) -> Tensor:
        # Positive bars that differ from one another: a logarithm or a ratio of them is finite.
        steps = torch.arange(batch * SERVED_LOOKBACK, dtype=torch.float32).reshape(batch, SERVED_LOOKBACK, 1)
        return (100.0 + torch.sin(steps)).expand(batch, *shape).contiguous()

    module = module.eval()
    with torch.no_grad():
        answers = module(example(2))
    found, wanted = [tuple(answer.shape) for answer in answers], [(2, width) for width in OUTPUT_WIDTHS.values()]
    if found != wanted:
        raise ExportError(f"{card.name} answers {found} to two windows, not {wanted} ({', '.join(OUTPUT_WIDTHS)})")
    model = write_onnx(
        trace(module, example),
        source=(INPUT_NAME, ("batch", *shape)),
        outputs={name: ("batch", width) for name, width in OUTPUT_WIDTHS.items()},
        opset=OPSET,
    )
    onnx.checker.check_model(model, full_check=True)
    written = ExternalModel(folder / f"{card.name}{MODEL_ENDING}")
    folder.mkdir(parents=True, exist_ok=True)
    # The card first: a model without one is refused, a card without a model is not looked at.
    text = yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    atomic_write_text(written.card_path, text)
    atomic_write_bytes(written.path, model.SerializeToString(deterministic=True))
    return written
