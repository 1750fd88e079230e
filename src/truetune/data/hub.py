"""A data set of the Hugging Face hub, or of its cache, as a data source."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from truetune.data.dataset import Dataset
from truetune.data.files import Files
from truetune.data.jsonl import Record
from truetune.data.readers import read_records
from truetune.errors import UserError, first_line


@dataclass(frozen=True)
class Hub(Files):
    """The rows stay in the library's memory-mapped files until they are read, one after the other."""

    name: str = ""
    subset: str | None = None
    split: str = "train"
    revision: str | None = None

    def load(self) -> Dataset:
        """Raises UserError if the data set is neither cached nor within reach."""
        options: dict[str, Any] = {"prompt_template": self.prompt_template, "columns": self._columns}
        return self._split(read_records(self.name, self._records(), on_bad_row=self.on_bad_row, **options))

    def _records(self) -> Iterator[Record]:
        try:
            import datasets
        except ImportError:
            raise UserError("data=hub needs the package datasets; type: pip install 'truetune[data]'") from None
        datasets.disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each retry would be a line
        try:
            rows: Any = datasets.load_dataset(self.name, self.subset, split=self.split, revision=self.revision)
        except Exception as error:  # of the hub, of the network, of the files in it: a dozen kinds
            raise UserError(
                f"data.name={self.name}: cannot be loaded ({first_line(error)[:160]}); check the name, data.subset and "
                f"data.split; without a network type, where there is one: hf download --repo-type dataset {self.name} "
                "--local-dir DIR, and here: data=jsonl data.train_file=DIR"
            ) from None
        for number, row in enumerate(rows, start=1):
            yield Record(number, f"{self.name}:row {number}", row)
