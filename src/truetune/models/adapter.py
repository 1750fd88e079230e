"""PEFT adapters: what their folders hold, and how they are merged into their base."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from truetune.errors import UserError, first_line

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, and no weights of a whole model beside it."""
    return os.path.isfile(folder / SETTINGS) and not any(
        path.suffix == ".safetensors" and path.name != WEIGHTS for path in folder.iterdir()
    )


def check_adapter(folder: Path, named: str) -> str | None:
    """The base that the adapter's settings name, None if they name none.

    Raises UserError for settings that are not PEFT's, and for weights that are missing or pickled.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{named}: {SETTINGS} is not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise UserError(f"{named}: {SETTINGS} holds no object; expected PEFT's settings")
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(path.name for path in folder.glob("adapter_model.*"))
        problem = f"only pickled weights ({pickles[0]}), which can run code" if pickles else f"no {WEIGHTS}"
        raise UserError(f"{named}: {problem}; expected {WEIGHTS} (save_pretrained writes it)")
    return settings.get("base_model_name_or_path") or None


def with_adapter(base: Any, folder: Path, named: str) -> Any:
    """The base's model with the adapter merged into it; raises UserError if the two do not fit."""
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise UserError(f"{named}: an adapter needs the package peft; type: pip install 'truetune[lora]'") from None
    from safetensors import safe_open

    try:
        model: Any = PeftModel.from_pretrained(base, str(folder))
        with safe_open(folder / WEIGHTS, "pt") as file:
            tensor_names = {*file.keys()}
        unmatched = tensor_names ^ {*get_peft_model_state_dict(model, save_embedding_layers=False)}
        if unmatched:
            raise ValueError(f"{len(unmatched)} tensors have no counterpart, the first: {min(unmatched)}")
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = first_line(error)[:200]
        raise UserError(
            f"{named}: the adapter does not fit its base ({reason}); name the right one: model.base=..."
        ) from None
    if not hasattr(model, "merge_and_unload"):
        kind = model.peft_config["default"].peft_type.value
        raise UserError(
            f"{named}: an adapter of the kind {kind} cannot be merged into its base; expected LoRA or the like"
        )
    return model.merge_and_unload()


def adapter_digest(folder: Path, base: str) -> str:
    digest = sha256(base.encode())
    for name in (SETTINGS, WEIGHTS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest `checkpoint-N` that a Trainer wrote; None if the folder holds a model itself, or no checkpoint."""
    if not os.path.isdir(folder) or any((folder / name).is_file() for name in ("config.json", SETTINGS)):
        return None
    checkpoints = [
        path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit() and path.is_dir()
    ]
    return max(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
