"""Bytes to JSON objects: every row with its place in the file, every fault with what to do about it."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, cast

from truetune.errors import UserError

Row = dict[str, object]
MAX_LINE_BYTES = 16 * 2**20
TABLES = (".csv", ".tsv", ".parquet")
ROWS = (".jsonl", ".json", *TABLES)
_BOM = b"\xef\xbb\xbf"


class BadRow(UserError):
    """One row cannot be used; the others may still be."""

    def __init__(self, source: str, reason: str, column: int | None = None) -> None:
        super().__init__(f"{source}{'' if column is None else f':{column}'}: {reason}")
        self.reason = reason if column is None else f"column {column}: {reason}"


@dataclass(frozen=True)
class Record:
    """A line of a .jsonl file or an element of a .json array; None stands for a blank line."""

    number: int
    source: str
    content: Row | BadRow | None


def iter_jsonl(path: str | Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, Row]]:
    """Line (or array element) numbers from 1 and their objects; the first bad row raises."""
    for record in scan(Path(path), max_line_bytes):
        if isinstance(record.content, BadRow):
            raise record.content
        if record.content is not None:
            yield record.number, record.content


def scan(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """Goes on after a bad row, which is yielded, not raised; raises if the file as a whole cannot be used."""
    from truetune.data.rows.tables import table  # which is built on this module

    form = path.suffix.lower()
    if form in TABLES:
        records = table(path, max_line_bytes)
    else:
        records = _array(path) if form == ".json" else _lines(path, max_line_bytes)
    blank = rows = 0
    for record in records:
        blank += record.content is None
        rows += record.content is not None
        yield record
    if rows == 0:
        held = "holds only blank lines" if blank else "holds no rows"
        raise UserError(f"{path.absolute()}: the file {held}; write at least one JSON object into it")


def read_utf8(path: Path) -> str:
    """The whole file; a byte order mark is dropped."""
    with opened(path) as file:
        raw = file.read()
    try:
        return raw.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        mark = len(_BOM) if raw.startswith(_BOM) else 0
        line = raw.count(b"\n", 0, mark + error.start) + 1
        raise UserError(f"{path}:{line}: {_not_utf8(error, mark)}") from None


@contextmanager
def opened(path: Path) -> Generator[BinaryIO, None, None]:
    """A file open for reading; whatever the system has against it becomes one line."""
    place = path.absolute()
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{place}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{place}: this is a folder; name a file in it") from None
    except PermissionError:
        raise UserError(f"{place}: no permission to read the file; allow it with chmod u+r") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {error.strerror or error}") from None


def _lines(path: Path, max_line_bytes: int) -> Iterator[Record]:
    offset = 0
    with opened(path) as file:
        for number in count(1):
            raw = file.readline(max_line_bytes + 1)
            if not raw:
                return
            source = f"{path}:{number}"
            if len(raw) > max_line_bytes:
                content = BadRow(source, f"the line is over {max_line_bytes} bytes; split the row into shorter ones")
                yield Record(number, source, content)
                offset += _skip_rest(file, raw)
            else:
                yield Record(number, source, _line(raw, source, offset))
                offset += len(raw)


def _skip_rest(file: BinaryIO, raw: bytes) -> int:
    """Reads to the end of a line in pieces that never add up in memory; returns the length of the whole line."""
    size = len(raw)
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(2**16)
        size += len(raw)
    return size


def _line(raw: bytes, source: str, offset: int) -> Row | BadRow | None:
    if offset == 0 and raw.startswith(_BOM):
        raw, offset = raw[len(_BOM) :], len(_BOM)
    if not raw.strip():
        return None
    cut = "" if raw.endswith(b"\n") else "last line incomplete (is the file still being written?): "
    try:
        value = _decode(raw.decode().rstrip("\r\n"))  # the decoder would count the line end as a line
    except UnicodeDecodeError as error:
        return BadRow(source, (cut if error.reason == "unexpected end of data" else "") + _not_utf8(error, offset))
    except json.JSONDecodeError as error:
        return BadRow(source, f"{cut}malformed JSON: {error.msg}", error.colno)
    except (ValueError, RecursionError) as error:
        return BadRow(source, _refusal(error))
    if isinstance(value, list):
        return BadRow(source, "found a list, expected an object; a file that is one JSON array must be named .json")
    return _object(value, source)


def _array(path: Path) -> Iterator[Record]:
    """A .json file is parsed at once: it is held in memory whole. Some hold one object per line all the same."""
    text = read_utf8(path)
    if not text.strip():
        return
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.colno == 1:
            yield from _lines(path, MAX_LINE_BYTES)
            return
        hint = "; write an array, or one object per line" if error.msg == "Extra data" else ""
        raise UserError(f"{path}:{error.lineno}:{error.colno}: malformed JSON: {error.msg}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {_refusal(error)}") from None
    for number, element in enumerate(_rows_of(value, path), start=1):
        source = f"{path}:row {number}"
        yield Record(number, source, _object(element, source))


def _rows_of(value: object, path: Path) -> list[object]:
    """The array itself, or the only list of objects in an object that wraps it with notes on the data set."""
    if isinstance(value, list):
        return cast("list[object]", value)
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {kind(value)}, expected an array of objects")
    lists = {name: rows for name, rows in cast(Row, value).items() if isinstance(rows, list)}
    found = [name for name, rows in lists.items() if rows and isinstance(rows[0], dict)]
    if len(found) == 1:
        return cast("list[object]", lists[found[0]])
    if not found:
        raise UserError(
            f"{path}: found one object without a list of objects in it, expected an array of objects; "
            "a file with one object per line must be named .jsonl"
        )
    raise UserError(f"{path}: found several lists of objects ({named(found)}); keep each in a file of its own")


def _object(value: object, source: str) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow(source, f'found {kind(value)}, expected an object such as {{"text": "..."}}')
    row = cast(Row, value)
    for name, content in row.items():
        try:
            json.dumps([name, content], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(str(error.object)[error.start]):04x}"
            return BadRow(
                source, f"field {named([name])}: lone surrogate {half} is half a character; write both or none"
            )
        except RecursionError as error:
            return BadRow(source, _refusal(error))
    return row


def _decode(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, object]]) -> Row:
    """The JSON module would keep the last of two equal keys and say nothing."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {named([twice])} occurs twice in one object; keep one of them")
    return row


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON; write null or a number")


def _refusal(error: ValueError | RecursionError) -> str:
    return "nested too deeply to be read; flatten the row" if isinstance(error, RecursionError) else str(error)


def _not_utf8(error: UnicodeDecodeError, offset: int) -> str:
    byte = error.object[error.start]
    return f"byte 0x{byte:02x} at byte offset {offset + error.start} is not UTF-8; save the file as UTF-8"


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    words: dict[type, str] = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return words.get(type(value), f"a {type(value).__name__}")


def named(names: list[str]) -> str:
    """Field names for a message: escaped onto one line, and only the first few of many."""
    shown = [json.dumps(name if len(name) <= 40 else f"{name[:40]}...") for name in names[:8]]
    return ", ".join([*shown, f"and {len(names) - 8} more"] if len(names) > 8 else shown) or "none"
