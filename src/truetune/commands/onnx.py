"""The tuned model for other runtimes (onnxruntime, TensorFlow's converters): token ids in, logits out."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.errors import UserError

if TYPE_CHECKING:
    from torch import nn

FILE = "model.onnx"
TOLERANCE = 1e-4  # of a logit


def check_installed() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--onnx needs the package {package}; type pip install 'truetune[onnx]'")


def write_onnx(folder: Path) -> None:
    """Adds `model.onnx`: `input_ids` (batch, positions) to `logits` (batch, positions, vocabulary), no cache, no mask.

    Raises UserError if onnxruntime does not agree with the model.
    """
    import torch

    from truetune.models.pretrained import Pretrained

    lm = Pretrained(str(folder)).load()
    model = _logits_only(lm.model.eval())
    sample = torch.randint(0, len(lm.tokenizer), (2, 7), generator=torch.Generator().manual_seed(0))
    batch, positions = torch.export.Dim("batch"), torch.export.Dim("positions", max=min(lm.context_length, 1 << 20))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (sample,),
            folder / FILE,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: batch, 1: positions}},
            dynamo=True,
            verbose=False,
        )
    _compare(model, folder / FILE, sample[:1, :5])


def _logits_only(model: Any) -> nn.Module:
    from torch import Tensor, nn

    from truetune.models.logits import forward

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor) -> Tensor:
            return forward(self.model, input_ids)

    return Logits().eval()


def _compare(model: nn.Module, file: Path, input_ids: Any) -> None:
    """On a shape that the export has not seen."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(file))
    with torch.no_grad():
        expected = model(input_ids)
    found: Any = session.run(None, {"input_ids": input_ids.numpy()})[0]
    difference = float((torch.from_numpy(found) - expected).abs().max())
    if not difference < TOLERANCE:
        raise UserError(f"--onnx: onnxruntime's logits differ by {difference:.2g}; leave --onnx out for this model")
