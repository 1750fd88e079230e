"""The tuned model for other runtimes (onnxruntime, TensorFlow's converters): token ids in, logits out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from truetune.errors import UserError

FILE = "model.onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")  # packages
TOLERANCE = 1e-4  # of a logit


def write_onnx(folder: Path) -> None:
    """Adds `model.onnx`: `input_ids` (batch, positions) to `logits` (batch, positions, vocabulary), no cache, no mask.

    Raises UserError if onnxruntime does not agree with the model, on a shape that the export has not seen.
    """
    import onnxruntime
    import torch
    from torch import Tensor, nn

    from truetune.models.logits import forward
    from truetune.models.pretrained import Pretrained

    lm = Pretrained(str(folder)).load()

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = lm.model

        def forward(self, input_ids: Tensor) -> Tensor:
            return forward(self.model, input_ids)

    model = Logits().eval()
    input_ids = torch.randint(0, len(lm.tokenizer), (2, 7), generator=torch.Generator().manual_seed(0))
    batch, positions = torch.export.Dim("batch"), torch.export.Dim("positions", max=min(lm.context_length, 1 << 20))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (input_ids,),
            folder / FILE,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: batch, 1: positions}},
            dynamo=True,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(folder / FILE))
    with torch.no_grad():
        reference = model(input_ids[:1, :5])
    logits: Any = session.run(None, {"input_ids": input_ids[:1, :5].numpy()})[0]
    difference = float((torch.from_numpy(logits) - reference).abs().max())
    if not difference < TOLERANCE:
        raise UserError(f"--onnx: onnxruntime's logits differ by {difference:.2g}; leave --onnx out for this model")
