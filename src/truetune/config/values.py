"""What the keys may hold that no class of ours owns.

All other keys are checked by the annotations of the class that takes them: config/instantiation.py.
"""

# ruff: noqa: UP045 (type checkers know no `|` of two Annotated)
from typing import Annotated, Any, Literal, Optional

from pydantic import Field

from truetune.data.values import BelowOne, Count, CountOrZero, NotNegative, Positive, Rate, Seed, Text, YesOrNo

PRECISIONS = Literal[
    "auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "32", "bf16", "16", 32, 16
]

KEYS: dict[str, Any] = {
    "task_name": Annotated[str, Field(pattern=r"^[\w.-]+$")],
    "tags": list[str],
    "seed": Seed,
    "resume": Optional[Text],
    "allow": list[Text],
    "optimized_metric": Optional[Text | Annotated[list[Text], Field(min_length=1)]],
    "paths.log_dir": Text,
    "paths.cache_dir": Text,
    "paths.output_dir": Text,
    "optimizer.lr": Rate,
    "optimizer.betas": tuple[BelowOne, BelowOne],
    "optimizer.eps": Positive,
    "optimizer.weight_decay": NotNegative,
    "optimizer.fused": Optional[YesOrNo],
    "optimizer.momentum": BelowOne,
    "trainer._target_": Literal["lightning.pytorch.Trainer"],
    "trainer.max_epochs": Count | Literal[-1],
    "trainer.accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
    "trainer.devices": Count | Literal["auto"] | Annotated[list[CountOrZero], Field(min_length=1)],
    "trainer.precision": PRECISIONS,
    "trainer.accumulate_grad_batches": Count,
    "trainer.log_every_n_steps": Optional[Count],
    "trainer.check_val_every_n_epoch": Count,
    "trainer.deterministic": YesOrNo | Literal["warn"],
    "trainer.gradient_clip_val": Optional[Positive],
    "trainer.gradient_clip_algorithm": Literal["norm", "value"],
    "trainer.limit_train_batches": Annotated[float, Field(gt=0, le=1, strict=True)] | Count,
    "callbacks.early_stopping.patience": CountOrZero,
}
REQUIRED = ("seed", "optimizer.lr", "trainer.max_epochs", "trainer.accumulate_grad_batches", "paths.cache_dir")
