"""What a run does with a model in pieces (`trainer=fsdp`) before and after the fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning import Trainer
from safetensors.torch import save_file
from torch import Tensor

from truetune.errors import rank
from truetune.models.language_model import LanguageModel
from truetune.models.logits import bare
from truetune.models.sharded_loading import fill_and_shard
from truetune.models.sharding import whole
from truetune.records.files import replacing
from truetune.records.run_folder import MODEL
from truetune.training.sharded import Sharded

LARGEST_FILE = 4_000_000_000  # bytes of safetensors


def start(trainer: Trainer) -> None:
    """Starts the run's other processes, if they are not there yet; from here on all take the same steps."""
    assert isinstance(trainer.strategy, Sharded)
    trainer.strategy.start()


def read_in_pieces(lm: LanguageModel, trainer: Trainer) -> LanguageModel:
    """Reads a model's weights, which are only shapes so far, from its folder, in pieces."""
    assert isinstance(trainer.strategy, Sharded)
    fill_and_shard(bare(lm.model), Path(lm.origin), trainer.strategy.mesh, trainer.strategy.root_device)
    return lm


def save_in_pieces(lm: LanguageModel, run_dir: Path) -> None:
    """Saves a model in pieces as `save_model` saves a whole one; all ranks must call this.

    Rank 0 holds the weights of one file at a time.
    """
    model: Any = bare(lm.model)
    groups = list(_groups(model))
    index: dict[str, str] = {}
    with replacing(run_dir / MODEL) if rank() == 0 else nullcontext() as folder:
        for number, group in enumerate(groups, start=1):
            file = f"model-{number:05}-of-{len(groups):05}.safetensors" if len(groups) > 1 else "model.safetensors"
            index |= dict.fromkeys(group, file)
            weights: dict[str, Tensor] = {}
            for name, tensor in group.items():
                whole_tensor = whole(tensor.detach())
                if folder is not None:
                    weights[name] = whole_tensor.cpu().contiguous()
            if folder is not None:
                save_file(weights, folder / file, metadata={"format": "pt"})
        if folder is None:
            return
        if len(groups) > 1:
            size = sum(_bytes(tensor) for group in groups for tensor in group.values())
            content = {"metadata": {"total_size": size}, "weight_map": index}
            (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)


def _groups(model: Any) -> Iterator[dict[str, Tensor]]:
    """The weights and buffers by name, tied ones once, in groups that each fit into one file."""
    tensors = model.state_dict()
    names = [name for name, _ in [*model.named_parameters(), *model.named_buffers()] if name in tensors]
    group: dict[str, Tensor] = {}
    for name in names:
        if group and sum(map(_bytes, [*group.values(), tensors[name]])) > LARGEST_FILE:
            yield group
            group = {}
        group[name] = tensors[name]
    yield group


def _bytes(tensor: Tensor) -> int:
    """The size of the whole tensor, not of this process's piece."""
    return tensor.numel() * tensor.element_size()
