"""Encodes examples into rows of tokens that fit; the rows of many examples are kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from truetune.data.dataset import Example
from truetune.data.file_cache import TOKENS, entry, written
from truetune.data.rows.many import ArrowRows, gathered, mapped, write
from truetune.data.tokens import COLUMNS, Encoder, TokenRow, token_row
from truetune.errors import Say, UserError

OverLong = Literal["error", "truncate", "skip"]


@dataclass(frozen=True)
class Encoded:
    """`notes` says what happened to over-long rows: nothing is ever cut or dropped silently."""

    rows: Sequence[TokenRow]
    notes: list[str]
    kept_digest: str = ""

    @property
    def digest(self) -> str:
        return self.kept_digest or digest(self.rows)


def encode(
    encoder: Encoder,
    examples: Sequence[Example],
    context_length: int,
    over_long: OverLong,
    max_tokens: int | None = None,
    *,
    cache: Path | None = None,
    say: Say = str,
) -> Encoded:
    """Raises UserError for an over-long example under `error`, and if a prompt leaves no room for the completion.

    `max_tokens` may allow less than the context holds.
    """
    fitting = _Fitting(encoder, examples, context_length, over_long, max_tokens)

    def build(folder: Path) -> None:
        write(fitting, COLUMNS, folder / "rows.arrow")
        rows = mapped(folder / "rows.arrow", token_row)
        notes = fitting.notes(len(rows))
        (folder / "rest.json").write_text(json.dumps({"notes": notes, "kept_digest": digest(rows)}))

    if cache is not None and isinstance(examples, ArrowRows) and (content := encoder.content) is not None:
        folder = entry(cache, TOKENS, [examples.digest, content, fitting.most, over_long])
        if written(folder, build, say, "the tokens are made"):
            return Encoded(mapped(folder / "rows.arrow", token_row), **json.loads((folder / "rest.json").read_text()))
    rows = gathered(fitting, COLUMNS, token_row)
    return Encoded(rows, fitting.notes(len(rows)))


def digest(rows: Sequence[TokenRow]) -> str:
    """Hash of training rows: a resumed run must go on with the same rows."""
    content = sha256(b"[")
    for index, row in enumerate(rows):
        values = (row.input_ids, row.prompt_length, row.weight, row.unlearnt)
        content.update(f"{', ' if index else ''}{values!r}{' last' if row.last else ''}".encode())
    content.update(b"]")
    return content.hexdigest()


class _Fitting:
    """Yields rows of at most `most` tokens, and counts longer examples; `source` is the first of them."""

    def __init__(
        self,
        encoder: Encoder,
        examples: Sequence[Example],
        context_length: int,
        over_long: OverLong,
        max_tokens: int | None,
    ) -> None:
        self.encoder, self.examples = encoder, examples
        self.over_long: OverLong = over_long
        self.most = min(context_length, max_tokens or context_length)
        is_limited = self.most < context_length
        self.limit = f"loader.max_tokens allows {self.most}" if is_limited else f"the context holds {self.most}"
        self.count, self.source = 0, ""

    def __iter__(self) -> Iterator[TokenRow]:
        # The rows may have been made before, for an entry that could not be written.
        self.count, self.source = 0, ""
        for example, row in self.encoder.rows(self.examples):
            if len(row.input_ids) <= self.most:
                yield row
            elif not example.prompt:
                yield from _blocks(row, self.most)
            else:
                self.source, self.count = self.source or example.source, self.count + 1
                yield from _fit(example, row, self.most, self.limit, self.over_long)

    def notes(self, row_count: int) -> list[str]:
        """Notes on all rows once they have been yielded; raises UserError if there were none."""
        if not row_count:
            source = self.examples[0].source if self.examples else "data"
            raise UserError(f"{source}: no example is left to train on")
        verb = {"truncate": "cut to", "skip": "left out for being over"}.get(self.over_long, "")
        notes = [f"{self.count} examples {verb} {self.most} tokens, the first: {self.source}"] if self.count else []
        if fields := self.encoder.left_out:
            notes.append(f"not used, since the chat template does not write it: {', '.join(sorted(fields))}")
        return notes


def _fit(example: Example, row: TokenRow, room: int, limit: str, over_long: OverLong) -> list[TokenRow]:
    """The row cut to what fits, or nothing."""
    if over_long == "skip":
        return []
    if row.prompt_length >= room:
        raise UserError(
            f"{example.source}: the prompt has {row.prompt_length} tokens and {limit}, so nothing would be learnt; "
            "shorten it or set loader.over_long=skip"
        )
    if over_long == "error":
        raise UserError(
            f"{example.source}: {len(row.input_ids)} tokens, {limit}; shorten the row or set "
            "loader.over_long=truncate or loader.over_long=skip"
        )
    return [replace(row, input_ids=row.input_ids[:room])]


def _blocks(row: TokenRow, room: int) -> list[TokenRow]:
    """A long text becomes consecutive blocks that share one token, so that every token is predicted once."""
    step = room - 1
    starts = range(0, len(row.input_ids) - 1, step)
    blocks = ((f"{row.id}#{index}", row.input_ids[s : s + room]) for index, s in enumerate(starts))
    return [replace(row, id=name, input_ids=ids, prompt_length=1) for name, ids in blocks]
