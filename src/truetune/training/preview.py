"""The first rows as the model will read them, token by token, with what is learnt set off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from truetune.data.tokens import IGNORED, TokenRow
from truetune.errors import speaker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def preview(rows: Sequence[TokenRow], tokenizer: PreTrainedTokenizerBase, console: Console) -> None:
    """Learnt tokens are green on a terminal, and in [brackets] everywhere."""
    for row in rows:
        speaker(console)(f"{row.id}: {len(row.input_ids)} tokens, {row.target_tokens} learnt")
        line = Text()
        for token, label in zip(row.input_ids, row.labels, strict=True):
            piece = str(tokenizer.decode([token])).replace("\n", "\\n")
            line.append(*((f"{piece}|", "dim") if label == IGNORED else (f"[{piece}]", "green")))
        console.print(line, soft_wrap=True)
        logging.getLogger("truetune").info("%s", line.plain)
