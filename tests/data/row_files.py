"""Files for the readers to read, and the one-line faults they answer with."""

import json
from pathlib import Path

import pytest

from truetune.data.rows import json_rows, tables
from truetune.errors import UserError


def write(folder: Path, content: str | bytes, name: str = "rows.jsonl") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def dump(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def limit_lines(monkeypatch, longest):
    for reader in (json_rows, tables):
        monkeypatch.setattr(reader, "MAX_LINE_BYTES", longest)


def fault(read, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value), "an error is one line"
    return str(caught.value)
