"""A pretrained model whose frozen weights take 4 bits each, for low-rank updates to be trained beside them."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from truetune.data.dataset import Dataset
from truetune.data.values import Dtype, YesOrNo
from truetune.errors import Say, UserError
from truetune.models.pretrained import Pretrained

if TYPE_CHECKING:
    from truetune.models.language_model import LanguageModel

PACKAGES = ("bitsandbytes", "accelerate", "peft")


@dataclass(frozen=True)
class Quantised(Pretrained):
    """QLoRA (Dettmers et al. 2023): computes in `dtype`; `double_quant` quantises the scales as well."""

    needs_whole_weights: ClassVar[bool] = True

    dtype: Dtype = "bfloat16"
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: YesOrNo = True

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if "trainer" in config and "lora" not in config["adaptation"]:
            raise UserError("model=qlora: weights of 4 bits cannot be trained themselves; add method=lora")
        check_machine()
        return []

    def load(self, say: Say = str) -> LanguageModel:
        check_machine()
        return super().load(say)

    def _storage(self) -> dict[str, Any]:
        import torch
        from transformers import BitsAndBytesConfig

        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=self.quant_type,
                bnb_4bit_use_double_quant=self.double_quant,
                bnb_4bit_compute_dtype=getattr(torch, self.dtype),
            )
        }


def check_machine() -> None:
    """Raises UserError for a device or a package that is not there."""
    if not has_cuda():
        raise UserError(
            "model=qlora: weights of 4 bits need a CUDA device, and this machine has none; "
            "type model=pretrained method=lora"
        )
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"model=qlora needs the package {package}; type: pip install 'truetune[qlora]'")


def has_cuda() -> bool:
    """Whether the CUDA driver's library is there, without importing torch."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
