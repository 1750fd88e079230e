"""A data set whose files are large is read once: what became of them is kept in the cache, by the content of both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from truetune.data.dataset import COLUMNS, Dataset, read_example
from truetune.data.files import Files
from truetune.data.rows.files import READERS
from truetune.data.rows.many import ArrowRows, mapped, write
from truetune.data.rows.row import ending
from truetune.errors import Unwritable, tell
from truetune.records.files import cached, file_digest

WORTH_KEEPING = 4 * 2**20  # bytes; fewer are read anew within a second
UNSET = {"train", "pretraining", "choose", "elsewhere"}  # the rows apart, files set none of these


@cache
def code() -> str:
    """Of what reads rows and cuts them into tokens: nothing that an earlier version made is used by another."""
    package = Path(__file__).parents[1]
    files = sorted([*(package / "data").rglob("*.py"), *(package / "scoring").glob("*.py")])
    releases = [version(name) for name in ("tokenizers", "transformers")]
    return sha256(b"".join([*(path.read_bytes() for path in files), repr(releases).encode()])).hexdigest()


def kept(source: Any, cache_dir: Path) -> Dataset:
    """What `source.load()` returns; of a user's files from the cache, if they were read before."""
    if type(source) is not Files:
        return source.load()
    try:
        key = _key(source)
    except (OSError, UnicodeError):  # which reading will say, if it is in its way
        key = None
    if key is None:
        return source.load()
    folder = cache_dir.absolute() / "data" / sha256(key.encode()).hexdigest()
    try:
        return _read(cached(folder, lambda empty: _write(source.load(), empty), tell))
    except Unwritable as error:
        tell(f"{error}; the rows are read without being kept")
        return source.load()


def _key(source: Files) -> str | None:
    """Content of the files and settings; None if there is little to read."""
    template = None if source.chat_template == "auto" else source.chat_template
    named = (source.train_file, source.validation_file, source.probe_file, source.retention_file, template)
    names = [*filter(None, named), *(mix["file"] for mix in source.mixture)]
    files = [file for name in names for file in _files(Path(name).absolute())]
    if sum(file.stat().st_size for file in files) < WORTH_KEEPING:
        return None
    key = json.dumps([str(source), [(str(file), file_digest(file)) for file in files], code()])
    key.encode()
    return key


def _files(path: Path) -> Iterator[Path]:
    """What reading may look at, of a folder too; none of what is not there."""
    if os.path.isfile(path):
        yield path
    elif os.path.isdir(path):
        inside = sorted([*path.glob("[!.]*"), *path.glob("[!.]*/[!.]*")])
        yield from (file for file in inside if ending(file) in (*READERS, ".txt") and os.path.isfile(file))


def _adapters() -> dict[str, Any]:
    """What writes and reads each field."""
    from pydantic import TypeAdapter

    types = get_type_hints(Dataset)
    return {field.name: TypeAdapter(types[field.name]) for field in fields(Dataset) if field.name not in UNSET}


def _write(data: Dataset, folder: Path) -> None:
    """Many rows as they lie on disk, all else as JSON."""
    write(data.train, COLUMNS, folder / "train.arrow")
    rest: dict[str, Any] = {}
    for name, adapter in _adapters().items():
        if isinstance(rows := getattr(data, name), ArrowRows):
            write(rows, COLUMNS, folder / f"{name}.arrow")
        else:
            rest[name] = adapter.dump_python(rows, mode="json")
    (folder / "rest.json").write_text(json.dumps(rest))


def _read(folder: Path) -> Dataset:
    rest, adapters = json.loads((folder / "rest.json").read_text()), _adapters()
    read = {name: adapters[name].validate_python(value) for name, value in rest.items()}
    rows = {path.stem: mapped(path, read_example) for path in folder.glob("*.arrow")}
    return Dataset(**rows, **read)
