"""The one training path: pre-training and fine-tuning are the same module in the same Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, Trainer, seed_everything
from torch.utils.data import DataLoader

from truetune.training.checkpoint_io import AtomicCheckpointIO
from truetune.training.module import FineTuning


def fit(
    module: FineTuning,
    data: LightningDataModule | DataLoader[Any],
    *,
    seed: int,
    trainer: dict[str, Any],
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Any] = (),
    run_dir: Path | None = None,
) -> Trainer:
    """Trains in place and returns the trainer; `trainer` holds keyword arguments of lightning's Trainer."""
    quiet()
    seed_everything(seed, verbose=False)
    made = Trainer(
        callbacks=list(callbacks),
        logger=list(loggers) or False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(_is_checkpoint(callback) for callback in callbacks),
        default_root_dir=run_dir,
        plugins=[AtomicCheckpointIO()],
        **trainer,
    )
    if isinstance(data, LightningDataModule):
        made.fit(module, datamodule=data)
    else:
        made.fit(module, train_dataloaders=data)
    return made


def _is_checkpoint(callback: Callback) -> bool:
    from lightning.pytorch.callbacks import Checkpoint

    return isinstance(callback, Checkpoint)


def quiet() -> None:
    """Lightning's start-up lines and advice on workers would bury what the user needs to read."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for words in (
        ".*does not have many workers.*",
        ".*`_lru_cache`.*",
        ".*TensorBoard.*",
        ".*exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=words)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
