"""A data set whose files are large is read once: the result is kept in the cache, by the content of files and code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from truetune.data.dataset import COLUMNS, Dataset, read_example
from truetune.data.files import Files
from truetune.data.rows.files import READERS
from truetune.data.rows.many import ArrowRows, mapped, write
from truetune.data.rows.row import ending
from truetune.errors import Say, Unwritable, tell
from truetune.records.files import cached, file_digest, source_digest, verify

ROWS, TOKENS = "data", "tokens"  # folders of the cache
WORTH_KEEPING = 4 * 2**20  # bytes; fewer are read anew within a second
UNSET = {"train", "pretraining", "choose", "elsewhere"}  # `train` is written apart; files set none of the others


@cache
def code() -> str:
    """Hash of the code, and versions of the libraries, that read rows and tokenize them."""
    package = Path(__file__).parents[1]
    ours = source_digest([*(package / "data").rglob("*.py"), *(package / "scoring").glob("*.py")])
    return " ".join([ours, version("tokenizers"), version("transformers")])


def entry(cache: Path, kind: str, key: Sequence[Any]) -> Path:
    """The folder in the cache for what is made of that key by this code."""
    return cache.absolute() / kind / sha256(json.dumps([*key, code()]).encode()).hexdigest()


def written(folder: Path, build: Callable[[Path], None], say: Say, otherwise: str) -> bool:
    """Whether the entry is there, made by `build` if need be; if it cannot be, `say` tells what is done `otherwise`."""
    try:
        cached(folder, build, say)
    except Unwritable as error:
        say(f"{error}; {otherwise} without being kept")
        return False
    return True


def kept(source: Any, cache_dir: Path) -> Dataset:
    """What `source.load()` returns; for a user's files it comes from the cache, if they were read before.

    Rows are read before anything is written: rows that cannot be used leave nothing behind.
    """
    if type(source) is not Files:
        return source.load()
    try:
        key = _key(source)
    except (OSError, UnicodeError):  # reading the rows will report it, if it matters
        key = None
    if key is None:
        return source.load()
    folder = entry(cache_dir, ROWS, key)
    if verify(folder) is None:
        return _read(folder)
    data = source.load()
    return _read(folder) if written(folder, partial(_write, data), tell, "the rows are read") else data


def _key(source: Files) -> list[Any] | None:
    """Content of the files and settings; None if there is little to read."""
    template = None if source.chat_template == "auto" else source.chat_template
    settings = (source.train_file, source.validation_file, source.probe_file, source.retention_file, template)
    names = [*filter(None, settings), *(mix["file"] for mix in source.mixture)]
    files = [file for name in names for file in _files(Path(name).absolute())]
    if sum(file.stat().st_size for file in files) < WORTH_KEEPING:
        return None
    for file in files:
        str(file).encode()  # raises for a name that no table of rows can hold
    return [str(source), [(str(file), file_digest(file)) for file in files]]


def _files(path: Path) -> Iterator[Path]:
    """The files that reading may look at, those of a folder too; nothing if the path is not there."""
    if os.path.isfile(path):
        yield path
    elif os.path.isdir(path):
        entries = sorted([*path.glob("[!.]*"), *path.glob("[!.]*/[!.]*")])
        yield from (file for file in entries if ending(file) in (*READERS, ".txt") and os.path.isfile(file))


def _adapters() -> dict[str, Any]:
    """What writes and reads each field, by its name."""
    from pydantic import TypeAdapter

    types = get_type_hints(Dataset)
    return {field.name: TypeAdapter(types[field.name]) for field in fields(Dataset) if field.name not in UNSET}


def _write(data: Dataset, folder: Path) -> None:
    """Writes many rows as they lie on disk, all else as JSON."""
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
    values = {name: adapters[name].validate_python(value) for name, value in rest.items()}
    rows = {path.stem: mapped(path, read_example) for path in folder.glob("*.arrow")}
    return Dataset(**rows, **values)
