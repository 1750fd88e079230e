"""Reads JSON into records: an object a line (.jsonl), or an array of objects (.json)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import cast

from truetune.data.rows.row import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    BadRow,
    JsonObject,
    Number,
    Reading,
    Record,
    kind,
    named,
    not_utf8,
    opened,
    read_utf8,
)
from truetune.errors import UserError

TOO_DEEP = "nested too deeply to be read; flatten the row"


def lines(path: Path, reading: Reading) -> Iterator[Record]:
    """Records of a file read line by line; of a line that is too long, no more is in memory than a line may have."""
    offset = 0
    with opened(path) as file:
        for number in count(1):
            raw = file.readline(MAX_LINE_BYTES + 1)
            if not raw:
                return
            source = f"{path}:{number}"
            if len(raw) <= MAX_LINE_BYTES:
                yield Record(number, source, _line(raw, source, offset, reading.constants))
            else:
                content = BadRow(source, f"the line is over {MAX_LINE_BYTES} bytes; split the row into shorter ones")
                yield Record(number, source, content)
                while raw and not raw.endswith(b"\n"):  # its rest, in pieces that never add up in memory
                    offset += len(raw)
                    raw = file.readline(2**16)
            offset += len(raw)


def _line(raw: bytes, source: str, offset: int, constants: bool) -> JsonObject | BadRow | None:
    if offset == 0 and raw.startswith(BYTE_ORDER_MARK):
        raw, offset = raw[len(BYTE_ORDER_MARK) :], len(BYTE_ORDER_MARK)
    if not raw.strip():
        return None
    prefix = "" if raw.endswith(b"\n") else "last line incomplete (is the file still being written?): "
    try:
        value = _decode(raw.decode().rstrip("\r\n"), constants)  # the decoder would count the line end as a line
    except UnicodeDecodeError as error:
        return BadRow(source, (prefix if error.reason == "unexpected end of data" else "") + not_utf8(error, offset))
    except json.JSONDecodeError as error:
        return BadRow(source, f"{prefix}malformed JSON: {error.msg}", error.colno)
    except ValueError as error:
        return BadRow(source, str(error))
    if isinstance(value, list):
        return BadRow(source, "found a list, expected an object; a file that is one JSON array must be named .json")
    return _object(value, source)


def array(path: Path, reading: Reading) -> Iterator[Record]:
    """Records of a .json file, parsed and held in memory as a whole. Some hold one object per line all the same."""
    text = read_utf8(path)
    if not text.strip():
        return
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.colno == 1:
            yield from lines(path, reading)
            return
        hint = "; write an array, or one object per line" if error.msg == "Extra data" else ""
        raise _malformed(str(path), error, hint) from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    for number, element in enumerate(_elements(value, path, reading), start=1):
        source = f"{path}:row {number}"
        yield Record(number, source, _object(element, source))


def whole(text: str, source: str) -> object:
    """Parses a text that is one JSON value, with the constants that other tools write (NaN)."""
    try:
        return _decode(text, constants=True)
    except json.JSONDecodeError as error:
        raise _malformed(source, error) from None
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None


def _malformed(source: str, error: json.JSONDecodeError, hint: str = "") -> UserError:
    return UserError(f"{source}:{error.lineno}:{error.colno}: malformed JSON: {error.msg}{hint}")


def _elements(value: object, path: Path, reading: Reading) -> list[object]:
    """The array itself, or the list of objects in an object that wraps it with notes or holds one for each split."""
    if isinstance(value, list):
        return cast("list[object]", value)
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {kind(value)}, expected an array of objects")
    lists = {name: rows for name, rows in cast(JsonObject, value).items() if isinstance(rows, list)}
    names = [name for name, rows in lists.items() if rows and isinstance(rows[0], dict)]
    if not names:
        raise UserError(
            f"{path}: found one object without a list of objects in it, expected an array of objects; "
            "a file with one object per line must be named .jsonl"
        )
    name = names[0] if len(names) == 1 else reading.choose(names, path)
    return cast("list[object]", lists[name])


def _object(value: object, source: str) -> JsonObject | BadRow:
    if not isinstance(value, dict):
        return BadRow(source, f'found {kind(value)}, expected an object such as {{"text": "..."}}')
    row = cast(JsonObject, value)
    for name, content in row.items():
        try:
            json.dumps([name, content], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(str(error.object)[error.start]):04x}"
            return BadRow(
                source, f"field {named([name])}: lone surrogate {half} is half a character; write both or none"
            )
        except RecursionError:
            return BadRow(source, TOO_DEEP)
    return row


def _decode(text: str, constants: bool = False) -> object:
    """Parses more strictly than the JSON module, which silently keeps the last of two equal keys and takes NaN.

    With `constants`, NaN and Infinity are taken here, too.
    """

    def unique(pairs: list[tuple[str, object]]) -> JsonObject:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            duplicate = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"field {named([duplicate])} occurs twice in one object; keep one of them")
        return row

    def constant_of(constant: str) -> object:
        if constants:
            return float(constant)
        raise ValueError(f"{constant} is not JSON; write null or a number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant_of, parse_float=Number)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
