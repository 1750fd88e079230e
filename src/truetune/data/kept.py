"""A data set whose files are large is read once: what became of them is kept in the cache, by the content of both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from truetune.data.dataset import COLUMNS, Dataset, read_example
from truetune.data.rows.many import mapped, write
from truetune.records.files import cached, file_digest

WORTH_KEEPING = 4 * 2**20  # bytes; fewer are read anew within a second


@cache
def code() -> str:
    """Of what reads rows and cuts them into tokens: nothing that an earlier version made is used by another."""
    package = Path(__file__).parents[1]
    files = sorted([*(package / "data").rglob("*.py"), *(package / "scoring").glob("*.py")])
    releases = [version(name) for name in ("tokenizers", "transformers")]
    return sha256(b"".join([*(path.read_bytes() for path in files), repr(releases).encode()])).hexdigest()


def kept(cache_dir: str, names: Iterable[str], settings: str, load: Callable[[], Dataset]) -> Dataset:
    """What `load` returns, which depends on the named files and folders and on the settings alone."""
    files = [file for name in names for file in _files(Path(name).absolute())]
    if not cache_dir or sum(file.stat().st_size for file in files) < WORTH_KEEPING:
        return load()
    content = [(str(file), file_digest(file)) for file in files]
    key = json.dumps([settings, content, code()])
    notes: list[str] = []
    folder = Path(cache_dir) / "data" / sha256(key.encode()).hexdigest()
    cached(folder, lambda empty: _write(load(), empty), notes.append)
    data = _read(folder)
    return replace(data, notes=[*data.notes, *notes])


def _files(path: Path) -> list[Path]:
    """None of what is not there: reading says so."""
    if os.path.isdir(path):
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if os.path.isfile(path) else []


def _adapters() -> dict[str, Any]:
    """What writes and reads each field, but for the rows; files set none of the other three."""
    from pydantic import TypeAdapter

    types, apart = get_type_hints(Dataset), {"train", "pretraining", "choose", "elsewhere"}
    return {field.name: TypeAdapter(types[field.name]) for field in fields(Dataset) if field.name not in apart}


def _write(data: Dataset, folder: Path) -> None:
    write(data.train, COLUMNS, folder / "rows.arrow")
    rest = {name: adapter.dump_python(getattr(data, name), mode="json") for name, adapter in _adapters().items()}
    (folder / "rest.json").write_text(json.dumps(rest))


def _read(folder: Path) -> Dataset:
    rest = json.loads((folder / "rest.json").read_text())
    read = {name: adapter.validate_python(rest[name]) for name, adapter in _adapters().items()}
    return Dataset(train=mapped(folder / "rows.arrow", read_example), **read)
