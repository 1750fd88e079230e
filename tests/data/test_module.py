"""Loaders: every row once an epoch over all ranks, in an order that seed and epoch decide."""

import pickle
import random
from functools import partial
from itertools import count

import pytest
import torch
from training.small import language_model, loader, rows

from truetune.data.batch import collate, to_device
from truetune.data.dataset import Example
from truetune.data.module import EpochOrder, PretrainingStream, TokenizedData
from truetune.data.tokens import IGNORED, Encoder


@pytest.mark.parametrize(("size", "ranks"), [(10, 1), (10, 2), (11, 2), (11, 4), (3, 4)])
def test_ranks_share_the_rows_and_take_equally_many(size, ranks):
    samplers = [EpochOrder(size, 5, place=(rank, ranks)) for rank in range(ranks)]
    alone = EpochOrder(size, 5)
    for epoch in range(2):
        for sampler in (*samplers, alone):
            sampler.set_epoch(epoch)
        parts = [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])}
        woven = [index for step in zip(*parts, strict=True) for index in step]
        assert woven[:size] == list(alone)
        assert set(woven[size:]) <= {size}


@pytest.mark.parametrize("lengths", [None, [n * 7 % 13 for n in range(501)]])
def test_the_order_is_that_of_a_shuffled_list(lengths):
    """Results are compared by seed: another way to draw it would change them all."""
    order, rng = list(range(501)), random.Random("order-5-0")
    rng.shuffle(order)
    if lengths:
        pools = [sorted(order[start : start + 100], key=lambda n: lengths[n]) for start in range(0, 501, 100)]
        rows = [n for pool in pools for n in pool]
        batches = [rows[start : start + 2] for start in range(0, 500, 2)]
        rng.shuffle(batches)
        order = [n for batch in [*batches, rows[500:]] for n in batch]
    assert list(EpochOrder(501, 5, lengths=lengths, batch_size=2)) == order


def test_the_row_that_evens_out_the_ranks_has_no_target():
    lm = language_model()
    data = TokenizedData(rows(lm), [], pad=0, seed=0, loader=loader(1))
    silent = data.train_dataloader().dataset[len(rows(lm))]
    assert int((collate([silent], 0)["labels"] != IGNORED).sum()) == 0


def test_the_last_short_batch_is_kept_and_validation_stays_in_order():
    lm = language_model()
    training, validation = rows(lm), rows(lm)[:5]
    data = TokenizedData(training, validation, pad=0, seed=0, loader=loader(4))
    sizes = [len(batch["ids"]) for batch in data.train_dataloader()]
    assert sizes == [4, 4, 1]
    assert [batch["ids"] for batch in data.val_dataloader()] == [["row0", "row1", "row2", "row3"], ["row4"]]
    assert TokenizedData(training, [], pad=0, seed=0, loader=loader(4)).val_dataloader() == []


def test_worker_processes_see_the_same_order():
    lm = language_model()
    seen = []
    for workers in (0, 2):
        data = TokenizedData(rows(lm), [], pad=0, seed=3, loader=loader(4, num_workers=workers))
        seen.append([batch["ids"] for batch in data.train_dataloader()])
    assert seen[0] == seen[1]


def test_collate_travels_to_workers_and_pads_on_the_right():
    lm = language_model()
    batch = pickle.loads(pickle.dumps(partial(collate, pad=7)))(rows(lm, ["w1", "w2 w3 w4"]))
    assert batch["input_ids"][0, -2:].tolist() == [7, 7]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]
    assert batch["labels"][0, -2:].tolist() == [IGNORED, IGNORED]


class Counting:
    """An endless corpus of numbered texts."""

    micro_batches_per_step, description, content = 2, "numbers", "numbers"

    def vocabulary(self):
        return [f"w{n}" for n in range(12)]

    def micro_batches(self):
        for n in count():
            yield [Example(f"{n}", "", f"w{n % 12}", "here")]


def test_the_stream_gives_the_micro_batches_of_its_steps():
    stream = PretrainingStream(Counting(), Encoder(language_model().tokenizer), 3)
    assert len(stream) == 6
    assert [batch["ids"] for batch in stream] == [[str(n)] for n in range(6)]
    assert [batch["ids"] for batch in stream] == [[str(n)] for n in range(6)]


def test_tensors_move_and_ids_stay():
    moved = to_device(collate(rows(language_model()), 0), torch.device("meta"))
    assert moved.pop("ids")[:2] == ["row0", "row1"]
    assert {value.device.type for value in moved.values()} == {"meta"}
