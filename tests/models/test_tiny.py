"""The made model: its weights are the seed's, its tokenizers lose no text."""

import pytest
import torch
from training.small import TINY, WORDS, language_model

from truetune.models.frozen import Frozen
from truetune.models.language_model import set_special_tokens
from truetune.models.tokenizers import byte_bpe, word_level


def test_the_seed_alone_decides_the_weights_and_nobody_elses_numbers():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = language_model()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = language_model()
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert one.model.training
    assert one.context_length == TINY.context_length


def test_a_copy_moves_alone():
    lm = language_model()
    other = lm.copy()
    with torch.no_grad():
        next(other.model.parameters()).add_(1)
    assert not torch.equal(next(lm.model.parameters()), next(other.model.parameters()))
    assert (other.digest, other.origin, other.tokenizer) == (lm.digest, lm.origin, lm.tokenizer)


def test_a_frozen_model_has_no_dropout_and_its_copy_trains():
    lm = language_model()
    for layer in lm.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    reference = Frozen(lm.model)
    ids = torch.tensor([[1, 4, 5, 6]])
    first, second = (reference.logits(ids, torch.ones_like(ids)) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    for copy in (lm.copy().model, reference.trainable()):
        assert all(parameter.requires_grad for parameter in copy.parameters())
    assert lm.copy().model.training


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語 😀", "tab\tand\nnewline", "  two  spaces "])
def test_bytes_lose_no_text(text):
    tokenizer = byte_bpe(["plain words for training"], 300)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_words_are_tokens_and_strangers_are_unknown():
    tokenizer = word_level([*WORDS, "w1"])
    assert len(tokenizer) == len(WORDS) + 4
    assert tokenizer.convert_ids_to_tokens(tokenizer("w1 stranger w2").input_ids) == ["<bos>", "w1", "<unk>", "w2"]


def test_only_a_missing_pad_token_is_borrowed():
    tokenizer = word_level(WORDS)
    set_special_tokens(tokenizer)
    assert tokenizer.pad_token == "<pad>"
    tokenizer.pad_token = None
    set_special_tokens(tokenizer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
