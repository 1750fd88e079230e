"""A file's own names for the fields that a row format needs: `data.columns.prompt=frage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from truetune.data.rows.json_rows import BadRow, Row, named

Columns = Mapping[str, str]  # our name -> the file's; `instances.0.output` reaches into lists and objects


def renamed(row: Row, columns: Columns, source: str) -> Row:
    """The row with our names beside its own; raises BadRow for a column that it lacks."""
    return {**row, **{name: _at(row, path, name, source) for name, path in columns.items()}}


def _at(row: Row, path: str, name: str, source: str) -> object:
    value: object = row
    for index, part in enumerate([path] if path in row else path.split(".")):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(cast("list[object]", value)):
            value = cast("list[object]", value)[int(part)]
        else:
            where = f"no column {named([part])}" if index == 0 else f"nothing at {part!r} of {path!r}"
            raise BadRow(source, f"data.columns.{name}={path}: {where}; the columns are {named(list(row))}")
    return value
