"""Several examples in a row, or rows of similar length: the same step, the same answers, less padding."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training.small import bound, gradient, language_model, loader, recording, rows

from truetune.data.batch import collate, collate_packed
from truetune.data.module import EpochOrder, TokenizedData
from truetune.data.packing import pack
from truetune.data.tokens import TokenRow
from truetune.errors import UserError
from truetune.methods.keep_close import KlToBase, L2Sp
from truetune.models.frozen import Frozen
from truetune.models.logits import check_packing, forward
from truetune.training.fit import fit, make_trainer
from truetune.training.module import FineTuning
from truetune.training.objectives import Micro, NextToken
from truetune.training.schedules import Constant, Steps


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
@settings(max_examples=60)
def test_every_row_is_in_one_pack_and_none_is_over_the_longest(lengths):
    data = [TokenRow(f"r{index}", [1] * length, 0) for index, length in enumerate(lengths)]
    packs = pack(data)
    assert sorted(row.id for p in packs for row in p) == sorted(row.id for row in data)
    sizes = [sum(len(row.input_ids) for row in p) for p in packs]
    assert max(sizes) == max(lengths)
    shortest = sorted(sizes)[:2]
    assert len(shortest) < 2 or sum(shortest) > max(lengths), "two packs that fit into one are one"
    assert [[row.id for row in p] for p in pack(data)] == [[row.id for row in p] for p in packs]


def micro(lm, batch):
    positions = batch.get("position_ids")
    logits = forward(lm.model, batch["input_ids"], positions)
    parts = (batch[name] for name in ("labels", "input_ids", "attention_mask", "weights"))
    return Micro(lm.model, logits, *parts, positions)


@pytest.fixture
def lm():
    lm = language_model()
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(8)  # or the logits are so small that nothing could be seen
    return lm


def moved(lm):
    """A base for the objectives that need one."""
    other = lm.copy()
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return Frozen(other.copy().model)


def test_packed_logits_are_those_of_each_row_alone(lm):
    data = rows(lm)
    packs = pack(data)
    assert len(packs) < len(data)
    batch = collate_packed(packs, 0)
    packed = forward(lm.model, batch["input_ids"], batch["position_ids"])
    for number, together in enumerate(packs):
        start = 0
        for row in together:
            alone = forward(lm.model, torch.tensor([row.input_ids]))[0]
            torch.testing.assert_close(packed[number, start : start + len(row.input_ids)], alone, rtol=0, atol=1e-5)
            start += len(row.input_ids)
    mask = batch["attention_mask"]
    leaked = lm.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], attention_mask=mask).logits
    assert float((leaked - packed).abs().max()) > 0.01, "the very mistake that the forward pass avoids"


@pytest.mark.parametrize("objective", ["next_token", "kl target", "kl all", "l2_sp"])
def test_every_objective_is_the_same_sum_over_packed_rows(lm, objective):
    base = moved(lm)
    made = {
        "next_token": NextToken(),
        "kl target": bound(KlToBase(1.0, "target"), base),
        "kl all": bound(KlToBase(1.0, "all"), base),
        "l2_sp": bound(L2Sp(1.0), base),
    }[objective]
    data = rows(lm)
    for index, row in enumerate(data):
        data[index] = TokenRow(row.id, row.input_ids, row.prompt_length, weight=0.25 * (1 + index % 3))
    one, other = micro(lm, collate(data, 0)), micro(lm, collate_packed(pack(data), 0))
    assert int(one.target_tokens) == int(other.target_tokens) == sum(row.target_tokens for row in data)
    assert int(one.is_real_BT.sum()) == int(other.is_real_BT.sum()) == sum(len(row.input_ids) - 1 for row in data)
    assert float(made(one).detach()) == pytest.approx(float(made(other).detach()), rel=1e-4)
    assert float(made(one).detach()) > 0


def trained(lm, seen, **batching):
    data = TokenizedData(rows(lm), [], pad=0, seed=0, loader=loader(100, **batching))
    module = FineTuning(lm.model, [NextToken()], recording(seen), Constant(), Steps(1, 1))
    fit(make_trainer({"max_epochs": 1, "accelerator": "cpu"}), module, data, seed=0)
    return module


@pytest.mark.parametrize("batching", [{"packing": True}, {"group_by_length": True}])
def test_the_step_is_that_of_the_rows_alone(batching):
    lm, other, seen = language_model(), language_model(), []
    module = trained(lm, seen, **batching)
    loss, expected = gradient(other, rows(other))
    torch.testing.assert_close(seen[0][1], list(expected), rtol=1e-4, atol=1e-6)
    assert module.window_loss == pytest.approx(float(loss), rel=1e-5)
    assert module.window_tokens == sum(row.target_tokens for row in rows(other))


def test_validation_rows_are_not_packed_and_count_as_before():
    lm = language_model()
    data = TokenizedData(rows(lm), rows(lm), pad=0, seed=0, loader=loader(4, packing=True))
    assert all("position_ids" not in batch for batch in data.val_dataloader())
    assert data.lines == len(data.packs) < 9
    silent = data.train_dataloader().dataset[data.lines]
    assert [row.target_tokens for row in silent] == [0]


def test_the_check_lets_a_model_of_separate_examples_pass_and_leaves_it_as_it_was(lm):
    lm.model.train()
    before = [p.detach().clone() for p in lm.model.parameters()]
    check_packing(lm.model)
    assert lm.model.training
    assert all(torch.equal(a, b) for a, b in zip(before, lm.model.parameters(), strict=True))
    lm.model.to(torch.bfloat16)
    check_packing(lm.model)


class Contaminated(torch.nn.Module):
    """Rows of a model that looks at all that came before, whatever the positions."""

    def __init__(self, takes_positions):
        super().__init__()
        self.embedding, self.takes_positions = torch.nn.Embedding(20, 20), takes_positions

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, use_cache, **more):
        from types import SimpleNamespace

        if more and not self.takes_positions:
            raise TypeError("unexpected keyword argument 'position_ids'")
        return SimpleNamespace(logits=self.embedding(input_ids).cumsum(1))


@pytest.mark.parametrize(
    ("takes_positions", "words"), [(True, "lets packed examples see each other"), (False, "takes no position ids")]
)
def test_a_model_whose_examples_see_each_other_is_refused(takes_positions, words):

    with pytest.raises(UserError) as caught:
        check_packing(Contaminated(takes_positions))
    assert str(caught.value).startswith("loader.packing=true: Contaminated ")
    assert words in str(caught.value)


LENGTHS = [(7 * index) % 40 + 1 for index in range(203)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_batches_are_of_similar_length_in_an_order_of_seed_and_epoch(ranks):
    size = 4
    parts = [EpochOrder(203, 1, place=(rank, ranks), lengths=LENGTHS, batch_size=size) for rank in range(ranks)]
    orders = []
    for epoch in range(2):
        for part in parts:
            part.set_epoch(epoch)
        seen = [list(part) for part in parts]
        assert sorted(index for part in seen for index in part if index < 203) == list(range(203))
        batches = [part[start : start + size] for part in seen for start in range(0, len(part), size)]
        spread = [max(at) - min(at) for batch in batches if len(at := [LENGTHS[i] for i in batch if i < 203]) == size]
        assert sum(spread) / len(spread) < 3, "of 40"
        assert len(seen[0][-(len(seen[0]) % size) :]) < size
        orders.append(seen)
    assert orders[0] != orders[1]
    firsts = [LENGTHS[batch[0]] for batch in batches[:10]]
    assert any(a > b for a, b in pairwise(firsts)), "batches themselves come in random order"
    again = EpochOrder(203, 1, place=(0, ranks), lengths=LENGTHS, batch_size=size)
    assert list(again) == orders[0][0]


def test_less_is_padded():
    def padded(**batching):
        lm = language_model()
        data = TokenizedData(rows(lm), [], pad=0, seed=0, loader=loader(3, **batching))
        return sum(int((batch["attention_mask"] == 0).sum()) for batch in data.train_dataloader())

    assert padded(group_by_length=True) < padded()
    assert padded(packing=True) < padded()
    assert padded(packing=True, group_by_length=True) == padded(packing=True), "packs are not sorted by rows' lengths"
