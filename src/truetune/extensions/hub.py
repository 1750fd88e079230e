"""A data set of the Hugging Face hub, or of its cache, as a data source."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from truetune.data.dataset import Dataset, Question
from truetune.data.files import Files
from truetune.data.rows.json_rows import Record
from truetune.data.rows.read import Reading, ask_records, read_records
from truetune.data.values import Text
from truetune.errors import UserError, first_line


@dataclass(frozen=True)
class Hub(Files):
    """The rows stay in the library's memory-mapped files until they are read, one after the other.

    Validation rows and probe questions come from splits of their own, from files, or are set aside.
    """

    name: Text = ""
    subset: Text | None = None
    split: Text = "train"
    validation_split: Text | None = None
    probe_split: Text | None = None
    revision: Text | None = None

    def load(self) -> Dataset:
        """Raises UserError if the data set is neither cached nor within reach."""
        for what in ("validation", "probe"):
            file, split = getattr(self, f"{what}_file"), getattr(self, f"{what}_split")
            if file is not None and split is not None:
                raise UserError(f"data.{what}_file={file} and data.{what}_split={split}: leave one of the two out")
        return self._split(self._rows(self.split))

    @property
    def _options(self) -> dict[str, Any]:
        return {"prompt_template": self.prompt_template, "columns": self._columns}

    def _rows(self, split: str) -> Reading:
        return read_records(self._called(split), self._records(split), on_bad_row=self.on_bad_row, **self._options)

    def _probe(self) -> tuple[str, list[Question]] | None:
        split = self.probe_split
        if split is None:
            return super()._probe()
        return self._called(split), ask_records(self._called(split), self._records(split), **self._options)

    def _validated(self) -> tuple[str, Reading] | None:
        split = self.validation_split
        return super()._validated() if split is None else (self._called(split), self._rows(split))

    def _called(self, split: str) -> str:
        """In messages and in the ids of rows without one."""
        return self.name if split == self.split else f"{self.name}/{split}"

    def _records(self, split: str) -> Iterator[Record]:
        try:
            import datasets
        except ImportError:
            raise UserError("data=hub needs the package datasets; type: pip install 'truetune[data]'") from None
        datasets.disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each retry would be a line
        try:
            rows: Any = datasets.load_dataset(self.name, self.subset, split=split, revision=self.revision)
        except Exception as error:  # of the hub, of the network, of the files in it: a dozen kinds
            raise UserError(
                f"data.name={self.name}: cannot be loaded ({first_line(error)[:160]}); check the name, data.subset and "
                f"data.split={split}; without a network type, where there is one: hf download --repo-type dataset "
                f"{self.name} --local-dir DIR, and here: data=jsonl data.train_file=DIR"
            ) from None
        for number, row in enumerate(rows, start=1):
            yield Record(number, f"{self._called(split)}:row {number}", row)
