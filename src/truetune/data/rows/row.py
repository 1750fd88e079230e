"""What every format of file is read into: records with their places, and faults with what to do about them."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from truetune.errors import UserError

JsonObject = dict[str, object]
MAX_LINE_BYTES = 16 * 2**20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
COMPRESSED = (".gz", ".zst")


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


@dataclass
class Reading:
    """How a file or folder is read: the first of `splits` that it holds, if it has several; and the notes on it."""

    splits: Sequence[str] = ("train",)
    notes: list[str] = field(default_factory=list)
    forms: dict[str, None] = field(default_factory=dict)
    unused: dict[str, None] = field(default_factory=dict)  # fields not used here that mean something to other tools
    nulls: int = 0  # nulls left out of lists of answers
    constants: bool = False  # NaN and Infinity are read as numbers: other tools write them

    def choose(self, names: Iterable[str], path: Path) -> str:
        names = list(names)
        name = next((split for split in self.splits if split in names), None)
        if name is None:
            raise UserError(
                f"{path}: holds the splits {named(names)}, and {' or '.join(self.splits)} is wanted; name one with "
                "data.split=... or keep it in a file of its own"
            )
        if len(names) > 1:
            self.notes.append(f"{path}: split {name} of {', '.join(names)} (data.split)")
        return name


class Number(float):
    """A number of JSON that remembers how it is spelt: 3.50 is an answer, and not 3.5."""

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.spelling = text
        return number

    spelling: str


def ending(path: Path) -> str:
    """The ending of the file's name, such as .jsonl, without that of a compression."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


@contextmanager
def opened(path: Path) -> Generator[IO[bytes], None, None]:
    """A file open for reading, decompressed, and converted from UTF-16 if it begins with its mark.

    Any fault that the system reports becomes a UserError of one line.
    """
    place, kind_of_file = path.absolute(), path.suffix.lower()
    try:
        with path.open("rb") as raw:
            file: Any = raw
            if kind_of_file == ".gz":
                file = gzip.GzipFile(fileobj=raw)
            elif kind_of_file == ".zst":
                import pyarrow

                file = io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))
            if ending(path) not in (".parquet", ".arrow") and file.peek(2)[:2] in UTF_16_MARKS:
                file = io.BytesIO(file.read().decode("utf-16").encode())
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: begins as UTF-16 and does not go on as such: {error}; save it as UTF-8") from None
    except (EOFError, zlib.error) as error:
        raise UserError(f"{place}: the compressed file is cut short or damaged: {error}; copy it again") from None
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
    words: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
    words |= dict.fromkeys((int, float, Number), "a number")
    return words.get(type(value), f"a {type(value).__name__}")


def named(names: list[str]) -> str:
    """Field names for a message: escaped onto one line, and only the first few of many."""
    quoted = [json.dumps(name if len(name) <= 40 else f"{name[:40]}...") for name in names[:8]]
    return ", ".join([*quoted, f"and {len(names) - 8} more"] if len(names) > 8 else quoted) or "none"
