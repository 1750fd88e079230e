"""Facts that the base knows come last in each epoch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from truetune.data.dataset import Dataset, Example
from truetune.data.values import Part
from truetune.errors import UserError
from truetune.methods.curation import Context


@dataclass(frozen=True)
class KnownLast:
    """Rows whose fact the base knows, `share` of all rows if there are so many, follow the others in each epoch (after
    KnownPatch, 2025, whose training has one such part at its end).
    """

    share: Part

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if config["loader"]["packing"]:
            raise UserError("curation.known_last: packed rows have no order of their own; type loader.packing=false")
        return []

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        categories = context.known_or_not("known_last")
        known = [row.id for row in rows if categories.get(row.id, "Unknown") != "Unknown"]
        if not known:
            raise UserError("curation.known_last: the base knows none of the facts, so no row would come last")
        count = min(len(known), round(self.share * len(rows)))
        last = {*random.Random(f"known-last-{context.seed}").sample(known, count)}
        return [replace(row, last=row.id in last) for row in rows]
