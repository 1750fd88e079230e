"""Which files hold the rows, and what reads each: by the ends of their names, and by what libraries call splits."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from truetune.data.rows import json_rows, tables
from truetune.data.rows.row import BadRow, JsonObject, Reading, Record, ending, named, read_utf8
from truetune.errors import UserError

READERS: dict[str, Callable[[Path, Reading], Iterator[Record]]] = {
    ".jsonl": json_rows.lines,
    ".json": json_rows.array,
    ".csv": tables.separated,
    ".tsv": tables.separated,
    ".parquet": tables.arrow,
    ".ndjson": json_rows.lines,
    ".arrow": tables.arrow,
}
# Names that a folder or a file may give to the rows to validate with, and to those to ask.
VALIDATION = ("validation", "valid", "val", "dev")
PROBE = ("test", "eval", *VALIDATION)
SPLIT = re.compile(rf"(?:^|[-_.])(train|{'|'.join(PROBE)})(?=[-_.])")


def file_records(path: Path, reading: Reading | None = None) -> Iterator[Record]:
    """Records of a file. A bad row is yielded, not raised; UserError is raised if the file as a whole is of no use."""
    blank_lines = rows = 0
    for record in READERS.get(ending(path), json_rows.lines)(path, reading or Reading(PROBE)):
        blank_lines += record.content is None
        rows += record.content is not None
        yield record
    if rows == 0:
        reason = "holds only blank lines" if blank_lines else "holds no rows"
        raise UserError(f"{path.absolute()}: the file {reason}; write at least one JSON object into it")


def iter_rows(path: str | Path) -> Iterator[tuple[int, JsonObject]]:
    """Line (or array element) numbers from 1 and their objects; the first bad row raises."""
    for record in file_records(Path(path)):
        if isinstance(record.content, BadRow):
            raise record.content
        if record.content is not None:
            yield record.number, record.content


def data_files(path: str | Path | Sequence[str | Path], reading: Reading) -> Iterator[Path]:
    """The files to read. A folder stands for its files of rows in the order of their names.

    If these are of several splits, it stands for those of one.
    """
    entries = [path] if isinstance(path, (str, Path)) else list(path)
    if not entries:
        raise UserError("no data file is named; name at least one .jsonl, .json, .csv, .parquet or .txt file")
    for entry in map(Path, entries):
        if os.path.isdir(entry):
            yield from _files_of(entry, reading)
        elif ending(entry) in (*READERS, ".txt") or not os.path.exists(entry):
            yield entry  # a missing file is reported as missing, whatever its name
        else:
            expected = f"{', '.join(READERS)} or .txt"
            raise UserError(f"{entry.absolute()}: the name ends in {entry.suffix!r}, expected {expected}")


def _files_of(folder: Path, reading: Reading) -> list[Path]:
    """The files of a folder of rows, of one that `save_to_disk` wrote, or of a download from the hub."""
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads(read_utf8(folder / "dataset_dict.json"))["splits"]
        return _files_of(folder / reading.choose(splits, folder), reading)
    if (folder / "state.json").is_file():
        files = json.loads(read_utf8(folder / "state.json"))["_data_files"]
        return [folder / file["filename"] for file in files]
    files = sorted(path for path in folder.glob("[!.]*") if ending(path) in READERS and path.stem != "dataset_infos")
    if not files:
        folders = sorted({path.parent for path in folder.glob("[!.]*/*") if ending(path) in READERS})
        if len(folders) == 1:
            return _files_of(folders[0], reading)
        *most, last = READERS
        several = f"rows in several folders ({named([path.name for path in folders])})"
        holds = several if folders else f"no {', '.join(most)} or {last} file"
        raise UserError(f"{folder.absolute()}: the folder holds {holds}; name a file")
    splits = [match[1] if (match := SPLIT.search(file.name)) else "" for file in files]
    if "" in splits or len({*splits}) == 1:
        return files
    chosen_split = reading.choose(dict.fromkeys(splits), folder)
    return [file for file, split in zip(files, splits, strict=True) if split == chosen_split]
