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
    """Puts rows whose fact the base knows behind the others in each epoch, up to `share` of all rows (after KnownPatch,
    2025, whose training has one such part at its end).
    """

    share: Part

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if config["loader"]["packing"]:
            raise UserError("curation.known_last: packed rows have no order of their own; type loader.packing=false")
        return []

    def __call__(self, rows: Sequence[Example], context: Context) -> list[Example]:
        categories = context.known_or_not("known_last")
        known_ids = [row.id for row in rows if categories.get(row.id, "Unknown") != "Unknown"]
        if not known_ids:
            raise UserError("curation.known_last: the base knows none of the facts, so no row would come last")
        count = min(len(known_ids), round(self.share * len(rows)))
        last_ids = {*random.Random(f"known-last-{context.seed}").sample(known_ids, count)}
        return [replace(row, last=row.id in last_ids) for row in rows]
