"""A run's tuned model as a Hugging Face folder that any other tool loads."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from truetune.commands.onnx import NEEDED, write_onnx
from truetune.commands.tuned_model import base_of, saved_model, tuned_from, write_model
from truetune.errors import UserError
from truetune.records.files import MANIFEST, replacing
from truetune.records.record import read_run
from truetune.records.run_folder import ADAPTER
from truetune.report.summary import number, rows
from truetune.report.verdict import verdict

if TYPE_CHECKING:
    from truetune.models.language_model import LanguageModel

Dtype = Literal["auto", "float32", "bfloat16"]
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w-]*(\.[\w-]+)*(?<!\.jsonl)(?<!\.json)(?<!\.csv)(?<!\.txt)")
SEPARATORS = re.compile(r"([,\[\]{}'\"])")


def export(run_dir: Path, out: Path, *, onnx: bool = False, dtype: Dtype = "auto") -> Path:
    """Writes the run's tuned model to the new folder `out`; its weights get the type `dtype`, auto keeps their own.

    Raises UserError if the run kept no model, if its files have changed, or if `out` is in use.
    """
    for package in NEEDED if onnx else ():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--onnx needs the package {package}; type pip install 'truetune[onnx]'")
    run_dir, out = run_dir.absolute(), out.absolute()
    run, source = read_run(run_dir), saved_model(run_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out, manifest=False) as temporary:
        if source.name == ADAPTER:
            write_model(merged_model(source, run_dir, run), temporary)
        else:
            shutil.copytree(source, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        if dtype != "auto":
            convert(temporary, dtype)
        (temporary / "README.md").write_text(card(run), encoding="utf-8")
        if onnx:
            write_onnx(temporary)
    return out


def merged_model(adapter: Path, run_dir: Path, record: dict[str, Any]) -> LanguageModel:
    working_folder = Path.cwd()
    try:
        return tuned_from(adapter, base_of(run_dir, record), record)
    finally:
        os.chdir(working_folder)  # base_of has changed to the folder that the run was typed in


def convert(folder: Path, dtype: Dtype) -> None:
    """Converts the floating-point weights of a Hugging Face folder in place, and notes their type in config.json."""
    import torch
    from safetensors.torch import load_file, save_file

    size = 0
    for file in folder.glob("*.safetensors"):
        tensors = {
            name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        size += sum(tensor.nbytes for tensor in tensors.values())
        save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n", encoding="utf-8")
    index = folder / "model.safetensors.index.json"
    if index.is_file():  # the weights are in several files
        parts = json.loads(index.read_text(encoding="utf-8"))
        parts["metadata"] = {**parts.get("metadata", {}), "total_size": size}
        index.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")


def card(run: dict[str, Any]) -> str:
    """The model card: a head for the hub, then what the fine-tune gained, lost and makes up against its base."""
    from huggingface_hub import ModelCard, ModelCardData

    config: dict[str, Any] = run["config"] or {}
    base, source = ((config.get(key) or {}) for key in ("model", "data"))
    head = ModelCardData(
        base_model=base.get("name_or_path") if is_hub_name(base.get("name_or_path")) else None,
        datasets=[source["name"]] if is_hub_name(source.get("name")) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["truetune", *(["lora"] if "lora" in (config.get("adaptation") or {}) else [])],
    )
    command = run["command"] if isinstance(run["command"], str) else shlex.join(run["command"])
    lines = [
        "# A fine-tuned language model\n",
        f"Made by truetune {run['truetune_version']} on {run['created'][:10]}: `{without_folders(command)}`\n",
        f"{verdict(run)}\n",
        "| measured | base | tuned | n |",
        "|---|---|---|---|",
    ]
    for row in rows(run):
        if row.tuned is not None:
            base_value = number(row.base.value if row.base else None)
            lines.append(f"| {row.label} | {base_value} | {number(row.tuned.value)} | {row.tuned.n:,} |")
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"))


def is_hub_name(name: Any) -> bool:
    """Whether the name is `organisation/name`, and not a path that exists here."""
    return isinstance(name, str) and bool(HUB_NAME.fullmatch(name)) and not Path(name).exists()


def without_folders(command: str) -> str:
    """The command with each path cut to the name of its file, since its folders are those of one machine."""
    words: list[str] = []
    for word in shlex.split(command):
        key, sign, value = word.partition("=") if "=" in word else ("", "", word)
        parts = [part if is_hub_name(part) else PurePath(part).name or part for part in SEPARATORS.split(value)]
        words.append(f"{key}{sign}{''.join(parts)}")
    return shlex.join(words)
