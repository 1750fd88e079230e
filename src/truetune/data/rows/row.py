"""What every format of file is read into: records with their places, and faults with what to do about them."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from truetune.errors import UserError

JsonObject = dict[str, object]
MAX_LINE_BYTES = 16 * 2**20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
    content: JsonObject | BadRow | None


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


def read_utf8(path: Path) -> str:
    """All of a file as text; a byte order mark is dropped."""
    with opened(path) as file:
        raw = file.read()
    try:
        return raw.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        mark = len(BYTE_ORDER_MARK) if raw.startswith(BYTE_ORDER_MARK) else 0
        line = raw.count(b"\n", 0, mark + error.start) + 1
        raise UserError(f"{path}:{line}: {not_utf8(error, mark)}") from None


def not_utf8(error: UnicodeDecodeError, offset: int) -> str:
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
