"""Batched answers are those that each question would get alone."""

import pytest
import torch
from training.small import WORDS, language_model
from transformers import GPT2Config, GPT2LMHeadModel

from truetune.data.tokens import Encoder
from truetune.models.language_model import LanguageModel
from truetune.models.tokenizers import word_level
from truetune.probes.decoding import evaluating, greedy_answers, sampled_answers

PROMPTS = ["w1", "w2 w3 w4 w5 w6 w7 w8 w9", "w0 w0", "w9 w8 w7", "w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5"]


def llama():
    lm = language_model()
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(8)  # sharper, so that answers differ
    return lm


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=16, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return LanguageModel(model.train(), word_level(WORDS), "digest", "test")


def alone(lm, prompt, steps):
    """Greedy by definition: the whole text again for every token, no cache, no padding."""
    encoder = Encoder(lm.tokenizer)
    ids, sure = encoder.prompt(prompt), []
    start = len(ids)
    with evaluating(lm.model):
        for _ in range(steps):
            log_p = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].log_softmax(-1)
            ids.append(int(log_p.argmax()))
            sure.append(float(log_p.max()))
            if ids[-1] == encoder.eos:
                break
    answer = [token for token in ids[start:] if token != encoder.eos]
    return lm.tokenizer.decode(answer, skip_special_tokens=True).strip(), torch.tensor(sure).mean().exp().item()


@pytest.mark.parametrize("make", [llama, gpt2])
def test_batched_equals_one_by_one(make):
    lm = make()
    found = greedy_answers(lm, PROMPTS, max_new_tokens=6, batch_size=5)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        text, confidence = alone(lm, prompt, 6)
        assert answer.text == text
        assert answer.confidence == pytest.approx(confidence, abs=1e-4)
    assert len({answer.text for answer in found}) > 1
    assert found == greedy_answers(lm, PROMPTS, max_new_tokens=6, batch_size=5)


def test_answers_come_in_the_order_asked_and_no_longer_than_allowed():
    lm = llama()
    one = greedy_answers(lm, PROMPTS, max_new_tokens=3, batch_size=2)
    back = greedy_answers(lm, PROMPTS[::-1], max_new_tokens=3, batch_size=2)
    assert [a.text for a in one] == [a.text for a in back[::-1]]
    assert all(len(answer.text.split()) <= 3 for answer in one)


def test_the_mode_comes_back_and_no_random_number_is_used():
    lm = llama()
    lm.model.train()
    state = torch.get_rng_state()
    greedy_answers(lm, PROMPTS, max_new_tokens=2, batch_size=5)
    sampled_answers(lm, PROMPTS, temperature=1.0, seed=3, max_new_tokens=2, batch_size=5)
    assert lm.model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_are_decided_by_the_seed():
    lm = language_model()

    def drawn(seed):
        answers = sampled_answers(lm, PROMPTS, temperature=2.0, seed=seed, max_new_tokens=6, batch_size=5)
        return [answer.text for answer in answers]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
