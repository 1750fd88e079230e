"""Reads CSV, TSV, Parquet and Arrow files into records with their places, like those of a JSONL file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from truetune.data.rows.row import MAX_LINE_BYTES, BadRow, Reading, Record, ending, opened
from truetune.errors import UserError

if TYPE_CHECKING:
    from typing import TextIO


def separated(path: Path, reading: Reading) -> Iterator[Record]:
    """Records of values between commas, semicolons, tabs or bars, each of them text; the first line names the columns.

    That line also shows which separator it is. Raises UserError where the file cannot be read further.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    with opened(path) as file:
        lines = _lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), path)
        first_line = next(lines, "")
        default = "\t" if ending(path) == ".tsv" else ","
        separator = max((default, *";\t|,"), key=first_line.count)
        if separator != default:
            reading.notes.append(f"{path}: values stand between {separator!r}, as its first line has it")
        reader = csv.reader(chain([first_line], lines), delimiter=separator, strict=True)
        header: list[str] | None = None
        try:
            for cells in reader:
                number, source = reader.line_num, f"{path}:{reader.line_num}"
                if header is None:
                    header = cells
                    if duplicates := [name for name in cells if cells.count(name) > 1]:
                        raise UserError(f"{source}: two columns are called {duplicates[0]!r}; rename one")
                elif not cells:
                    yield Record(number, source, None)
                elif len(cells) == len(header):
                    yield Record(number, source, dict(zip(header, cells, strict=True)))
                else:
                    fault = f"{len(cells)} values for {len(header)} columns"
                    yield Record(
                        number, source, BadRow(source, f"{fault}; quote fields that hold a comma or a line end")
                    )
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: malformed CSV: {error}; correct or quote the field") from None


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    for number in count(1):
        try:
            line = file.readline(MAX_LINE_BYTES + 1)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise UserError(f"{path}:{number}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
        if len(line) > MAX_LINE_BYTES:
            raise UserError(
                f"{path}:{number}: the line is over {MAX_LINE_BYTES} characters; split the row into shorter ones"
            )
        if not line:
            return
        yield line


def arrow(path: Path, reading: Reading) -> Iterator[Record]:
    """Rows of a Parquet or Arrow file, numbered from 1. Raises UserError where the file cannot be read further."""
    import pyarrow
    import pyarrow.parquet

    number, parquet = 0, ending(path) == ".parquet"
    with opened(path) as file:
        try:
            batches = pyarrow.parquet.ParquetFile(file).iter_batches(1024) if parquet else pyarrow.ipc.open_stream(file)
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, f"{path}:row {number}", row)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            fault = f"not a whole {'Parquet' if parquet else 'Arrow'} file ({reason})"
            raise UserError(f"{path}: damaged after row {number} or {fault}; copy it again") from None
