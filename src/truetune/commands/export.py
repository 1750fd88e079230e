"""A run's tuned model as a Hugging Face folder that any other tool loads."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.commands.onnx import NEEDED, write_onnx
from truetune.errors import UserError
from truetune.records.files import MANIFEST, replacing, verify
from truetune.records.record import read_run
from truetune.records.run_folder import MODEL
from truetune.report.summary import number, rows
from truetune.report.verdict import verdict

if TYPE_CHECKING:
    from truetune.models.language_model import LanguageModel


def save_model(lm: LanguageModel, run_dir: Path) -> None:
    """Safetensors, tokenizer and generation configuration, whole or not at all."""
    with replacing(run_dir / MODEL) as temporary:
        lm.model.save_pretrained(temporary)
        lm.tokenizer.save_pretrained(temporary)


def export(run_dir: Path, out: Path, *, onnx: bool = False) -> Path:
    """Raises UserError if the run kept no model, if its files have changed, or if `out` is in use."""
    for package in NEEDED if onnx else ():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--onnx needs the package {package}; type pip install 'truetune[onnx]'")
    run, source = read_run(run_dir), saved_model(run_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out.absolute()}: exists and is not empty; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out, manifest=False) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        (temporary / "README.md").write_text(card(run), encoding="utf-8")
        if onnx:
            write_onnx(temporary)
    return out


def saved_model(run_dir: Path) -> Path:
    """The folder of the weights that were measured; raises UserError if there is none, or if it has changed."""
    source = run_dir / MODEL
    if not source.is_dir():
        raise UserError(f"{source}: no such folder: the run did not finish, or run.save_model=false")
    if fault := verify(source):
        raise UserError(f"{source}: the folder is damaged: {fault}")
    if linked := next((path for path in source.rglob("*") if path.is_symlink()), None):
        raise UserError(f"{linked}: a link, which no run makes; what it leads to is not read")
    return source


def card(run: dict[str, Any]) -> str:
    """The model card: what the fine-tune gained, lost and makes up, against its base."""
    lines = [
        "# A fine-tuned language model\n",
        f"Made by truetune {run['truetune_version']} on {run['created'][:10]}: `{run['command']}`\n",
        f"{verdict(run)}\n",
        "| measured | base | tuned | n |",
        "|---|---|---|---|",
    ]
    for row in rows(run):
        if row.tuned is not None:
            before = number(row.base.value if row.base else None)
            lines.append(f"| {row.label} | {before} | {number(row.tuned.value)} | {row.tuned.n:,} |")
    return "\n".join(lines) + "\n"
