"""Saves and loads a run's tuned model, as weights or as an adapter of its base, and loads the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.errors import UserError
from truetune.records.earlier import modern
from truetune.records.files import replacing, verify
from truetune.records.run_folder import ADAPTER, MODEL, go_to_origin, status

if TYPE_CHECKING:
    from truetune.data.dataset import Dataset
    from truetune.models.language_model import LanguageModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def save_model(lm: LanguageModel, run_dir: Path) -> None:
    """Saves safetensors, tokenizer and generation configuration, whole or not at all."""
    with replacing(run_dir / MODEL) as temporary:
        write_model(lm, temporary)


def write_model(lm: LanguageModel, folder: Path) -> None:
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)


def save_adapter(lm: LanguageModel, run_dir: Path) -> None:
    """Saves what LoRA has trained, for `PeftModel.from_pretrained(base, run_dir / "adapter")`, and the tokenizer."""
    with replacing(run_dir / ADAPTER) as temporary:
        model: Any = lm.model
        model.save_pretrained(temporary, save_embedding_layers=False)  # "auto" would ask the hub
        lm.tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's model card, an empty form


def saved_model(run_dir: Path) -> Path:
    """The folder of the weights that were measured, or of their adapter. Imports no torch.

    Raises UserError if there is none, or if it was changed.
    """
    source = next((run_dir / name for name in (MODEL, ADAPTER) if (run_dir / name).is_dir()), run_dir / MODEL)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder: the run did not finish, or run.save_model=false")
    if fault := verify(source):
        raise UserError(f"{source}: the folder is damaged: {fault}")
    if link := next((path for path in source.rglob("*") if path.is_symlink()), None):
        raise UserError(f"{link}: a link, which no run makes; what it leads to is not read")
    if source.name == ADAPTER and status(run_dir) != "finished":
        raise UserError(f"{source}: the run did not finish; go on with truetune resume={run_dir.absolute()}")
    if source.name == ADAPTER and not (source / ADAPTER_WEIGHTS).is_file():
        raise UserError(f"{source}: no {ADAPTER_WEIGHTS}, which every run writes; pickled weights are not read")
    return source


def data_of(run_dir: Path, record: Mapping[str, Any]) -> Dataset:
    """The run's data. Changes to the folder that the run was typed in, where its paths start. Raises UserError."""
    from truetune.config.instantiation import make

    go_to_origin(run_dir)
    return make(modern(record["config"])["data"], "data").load()


def base_of(run_dir: Path, record: Mapping[str, Any], data: Dataset | None = None) -> LanguageModel:
    """The run's base, on the CPU; an embedded one comes from the cache, or is pre-trained anew on the run's `data`.

    Changes to the folder that the run was typed in. Raises UserError if the base, or the data that it needs, are gone.
    """
    from rich.console import Console

    from truetune.config.instantiation import make
    from truetune.models.pretrained import Pretrained
    from truetune.training.pretraining import from_cache, load_base

    go_to_origin(run_dir)
    config, digest = modern(record["config"]), str(record.get("base_digest") or "-")
    builder: Any = make(config["model"], "model")
    if isinstance(builder, Pretrained):
        return builder.load()
    cache = Path(config["paths"]["cache_dir"])
    if verify(folder := cache / "bases" / digest) is None:
        return from_cache(folder)
    return load_base(builder, data or data_of(run_dir, record), cache, Console(stderr=True, quiet=True))


def tuned_from(folder: Path, base: LanguageModel, record: Mapping[str, Any]) -> LanguageModel:
    """The model of a folder that `saved_model` found; an adapter is merged into a copy of the base.

    Raises UserError if `base` is not the one that the adapter was trained on.
    """
    from truetune.models.pretrained import Pretrained

    if folder.name != ADAPTER:
        return Pretrained(str(folder), dtype=record["config"]["model"].get("dtype", "float32")).load()
    if base.digest != record.get("base_digest"):
        raise UserError(
            f"{folder}: the run's base is another by now ({base.origin}): its weights, its tokenizer or the code that "
            "made it have changed, and the adapter does not fit it"
        )
    try:
        from peft import PeftModel
    except ImportError:
        raise UserError(f"{folder}: needs the package peft; type: pip install 'truetune[lora]'") from None
    from transformers import AutoTokenizer

    from truetune.methods.adaptation import merged

    model: Any = PeftModel.from_pretrained(base.copy().model, str(folder))
    trust_code = bool(record["config"]["model"].get("trust_remote_code"))
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_code)
    return replace(base, model=merged(model).eval(), tokenizer=tokenizer)
