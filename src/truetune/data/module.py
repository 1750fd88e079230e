"""The LightningDataModule: tokenized rows in an order that only the seed and the epoch decide."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Annotated, Any

import torch
from lightning import LightningDataModule
from pydantic import Field
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Sampler

from truetune.data.batch import Batch, collate, collate_packed
from truetune.data.dataset import OldTexts
from truetune.data.encode import OverLong
from truetune.data.packing import pack
from truetune.data.rows.many import attributes, lengths
from truetune.data.tokens import Encoder, TokenRow
from truetune.data.values import Count, CountOrZero, YesOrNo

BATCHES_PER_POOL = 50  # rows are sorted by length within so many batches: little padding, and still a random order


@dataclass(frozen=True)
class Loader:
    """How rows become batches; `over_long` says what happens to a row above the context or `max_tokens`."""

    batch_size: Count = 16
    over_long: OverLong = "error"
    max_tokens: Annotated[int, Field(ge=8, strict=True)] | None = None
    num_workers: CountOrZero = 0
    group_by_length: YesOrNo = True
    packing: YesOrNo = False


class EpochOrder(Sampler[int]):
    """A permutation drawn from (seed, epoch): the same data order on every machine and in every resumed run.

    `place` is (rank, ranks): each of `ranks` processes takes every `ranks`-th row. If they do not divide evenly, index
    `size` stands for a row without targets, so that all take the same number of steps and no row counts twice. The
    first pass leaves out the `done` rows that each process took in an interrupted run. With `lengths`, the rows of a
    batch are of similar length. The rows of `last` come after all others.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        place: tuple[int, int] = (0, 1),
        lengths: Sequence[int] = (),
        batch_size: int = 1,
        last: frozenset[int] = frozenset(),
    ) -> None:
        self.size, self.seed, self.lengths, self.batch_size, self.last = size, seed, lengths, batch_size, last
        self.rank, self.ranks = place
        self.epoch = self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.size / self.ranks)

    def __iter__(self) -> Iterator[int]:
        order, rng = array("I", range(self.size)), random.Random(f"order-{self.seed}-{self.epoch}")
        rng.shuffle(order)
        if self.last:
            parts = [array("I", (n for n in order if (n in self.last) == is_last)) for is_last in (False, True)]
        else:
            parts = [order]
        order = array("I", chain.from_iterable(self._grouped(part, rng) if self.lengths else part for part in parts))
        order.extend([self.size] * (-len(order) % self.ranks))
        first_row, self.done = self.done, 0
        return islice(order, self.rank + first_row * self.ranks, None, self.ranks)

    def _grouped(self, order: array[int], rng: random.Random) -> array[int]:
        """Rows sorted by length within pools of many batches, so that batches stay random; a short one stays last."""
        size = self.batch_size * self.ranks
        pool = size * BATCHES_PER_POOL
        for start in range(0, len(order), pool):
            order[start : start + pool] = array("I", sorted(order[start : start + pool], key=self.lengths.__getitem__))
        last_start = len(order) - len(order) % size
        batches = array("I", range(0, last_start, size))
        rng.shuffle(batches)
        return array("I", (index for start in chain(batches, [last_start]) for index in order[start : start + size]))


class TokenizedData(LightningDataModule):
    """Training and validation rows; the last, shorter batch of an epoch is kept."""

    def __init__(
        self,
        rows: Sequence[TokenRow],
        held_out: Sequence[TokenRow],
        *,
        pad: int,
        seed: int,
        loader: Loader,
        digest: str = "",
    ) -> None:
        super().__init__()
        self.digest = digest  # of the rows, as `encode` has it
        self.rows, self.held_out, self.pad, self.seed, self.loader = rows, held_out, pad, seed, loader
        self.packs = pack(rows) if loader.packing else None

    @property
    def lines(self) -> int:
        """How many rows all batches of an epoch have: examples, or packs of them."""
        return len(self.rows if self.packs is None else self.packs)

    def train_dataloader(self) -> DataLoader[Any]:
        place = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        row_without_targets = replace(self.rows[0], prompt_length=len(self.rows[0].input_ids))
        is_grouped = self.loader.group_by_length and self.packs is None
        sizes = lengths(self.rows, "input_ids") if is_grouped else ()
        last_rows = frozenset(index for index, (is_last,) in attributes(self.rows, "last") if is_last)
        size = self.loader.batch_size
        order = EpochOrder(self.lines, self.seed, place=place, lengths=sizes, batch_size=size, last=last_rows)
        if self.trainer:  # already restored in a resumed run; workers draw rows before Lightning sets the epoch
            loop = self.trainer.fit_loop
            epochs: Any = loop.epoch_progress.current
            order.set_epoch(epochs.processed)
            if epochs.started > epochs.processed:
                order.done = (loop.batch_idx + 1) * size
        lines: Any = [self.rows, [row_without_targets]] if self.packs is None else [self.packs, [[row_without_targets]]]
        return self._batches(ConcatDataset(lines), collate if self.packs is None else collate_packed, order)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        return self._batches(self.held_out, collate) if self.held_out else []

    def _batches(
        self, lines: Any, lay_out: Callable[..., Batch], sampler: Sampler[int] | None = None
    ) -> DataLoader[Any]:
        return DataLoader(
            lines,
            batch_size=self.loader.batch_size,
            sampler=sampler,
            num_workers=self.loader.num_workers,
            collate_fn=partial(lay_out, pad=self.pad),
            generator=torch.Generator(),  # without it each pass would draw a number from the global generator
        )


class PretrainingStream(IterableDataset[Batch]):
    """Micro-batches of the base's pre-training texts, laid out in tensors, for `steps` optimizer steps."""

    def __init__(self, corpus: OldTexts, encoder: Encoder, steps: int) -> None:
        self.corpus, self.encoder = corpus, encoder
        self.micro_batches = steps * corpus.micro_batches_per_step

    def __len__(self) -> int:
        return self.micro_batches

    def __iter__(self) -> Iterator[Batch]:
        row: Callable[..., TokenRow] = self.encoder.row
        for _, examples in zip(range(self.micro_batches), self.corpus.micro_batches(), strict=False):
            yield collate([row(example) for example in examples], self.encoder.pad)
