"""CSV and Parquet files as rows with their places, like those of a JSONL file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.data.rows.json_rows import MAX_LINE_BYTES, BadRow, Record, Row, opened
from truetune.errors import UserError

if TYPE_CHECKING:
    from typing import TextIO


def table(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """Every CSV value is text; a Parquet row is numbered from 1. Raises UserError if the file cannot be read on."""
    return _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, max_line_bytes)


def _csv(path: Path, max_line_bytes: int) -> Iterator[Record]:
    csv.field_size_limit(max_line_bytes)
    with opened(path) as file:
        lines = _lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), path, max_line_bytes)
        reader = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        header: list[str] | None = None
        try:
            for cells in reader:
                source = f"{path}:{reader.line_num}"
                if header is None:
                    header = _header(cells, source)
                elif not cells:
                    yield Record(reader.line_num, source, None)
                else:
                    yield Record(reader.line_num, source, _row(header, cells, source))
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: malformed CSV: {error}; correct or quote the field") from None


def _lines(file: TextIO, path: Path, longest: int) -> Iterator[str]:
    for number in count(1):
        try:
            line = file.readline(longest + 1)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise UserError(f"{path}:{number}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
        if len(line) > longest:
            raise UserError(f"{path}:{number}: the line is over {longest} characters; split the row into shorter ones")
        if not line:
            return
        yield line


def _header(cells: list[str], source: str) -> list[str]:
    twice = next((name for name in cells if cells.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: two columns are called {twice!r}; rename one")
    return cells


def _row(header: list[str], cells: list[str], source: str) -> Row | BadRow:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    return BadRow(
        source, f"{len(cells)} values for {len(header)} columns; quote fields that hold a comma or a line end"
    )


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(f"{path}: Parquet files need the package pyarrow; type: pip install 'truetune[data]'") from None
    faults: Any = (pyarrow.ArrowException, OSError, UnicodeDecodeError)
    number = 0
    with opened(path) as file:
        try:
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, f"{path}:row {number}", row)
        except faults as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise UserError(
                f"{path}: damaged after row {number} or not a whole Parquet file ({reason}); copy it again"
            ) from None
