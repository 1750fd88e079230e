"""A data set of the Hugging Face hub, or of its cache, as a data source."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from truetune.data.dataset import Dataset
from truetune.data.files import Files
from truetune.data.rows.read import NamedRows
from truetune.data.rows.row import Record
from truetune.data.values import Text
from truetune.errors import UserError, first_line


@dataclass(frozen=True)
class Hub(Files):
    """The rows stay in the library's memory-mapped files until they are read, one after the other.

    Validation rows and probe questions come from splits of their own, from files, or are set aside.
    """

    name: Text = ""
    subset: Text | None = None
    validation_split: Text | None = None
    probe_split: Text | None = None
    revision: Text | None = None

    def load(self) -> Dataset:
        """Raises UserError if the data set is neither cached nor within reach."""
        for what in ("validation", "probe"):
            file, split = getattr(self, f"{what}_file"), getattr(self, f"{what}_split")
            if file is not None and split is not None:
                raise UserError(f"data.{what}_file={file} and data.{what}_split={split}: leave one of the two out")
        return super().load()

    def source(self, what: Literal["train", "validation", "probe"]) -> str | NamedRows | None:
        split = {"train": self.split, "validation": self.validation_split, "probe": self.probe_split}[what]
        if split is None:
            return super().source(what)
        name = self.name if split == self.split else f"{self.name}/{split}"
        return NamedRows(name, partial(self._records, name, split))

    def _records(self, name: str, split: str) -> Iterator[Record]:
        import datasets

        datasets.disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else each retry would print a line
        try:
            rows: Any = datasets.load_dataset(self.name, self.subset, split=split, revision=self.revision)
        except Exception as error:  # hub, network and files raise a dozen kinds
            raise UserError(
                f"data.name={self.name}: cannot be loaded ({first_line(error)[:160]}); check the name, data.subset and "
                f"data.split={split}; without a network type, where there is one: hf download --repo-type dataset "
                f"{self.name} --local-dir DIR, and here: data=jsonl data.train_file=DIR"
            ) from None
        for number, row in enumerate(rows, start=1):
            yield Record(number, f"{name}:row {number}", row)
