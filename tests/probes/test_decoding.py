"""Batched answers are those that each question would get alone."""

import gc
import math
import weakref
from dataclasses import replace
from functools import wraps

import pytest
import torch
from bigram import bigram
from training.small import WORDS, language_model
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.methods.adaptation import Lora, Trained
from truetune.models.language_model import LanguageModel
from truetune.models.tokenizers import word_level
from truetune.probes import decoding
from truetune.probes.batching import evaluating, together
from truetune.probes.decoding import greedy_answers, sampled_answers

PROMPTS = ["w1", "w2 w3 w4 w5 w6 w7 w8 w9", "w0 w0", "w9 w8 w7", "w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5 w5"]


def llama():
    lm = language_model()
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(8)  # sharper, so that answers differ
    return lm


def pad_is_end():
    """Such a pad can be told from an end by its place alone."""
    lm = llama()
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
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


@pytest.mark.parametrize("make", [llama, gpt2, pad_is_end])
@pytest.mark.parametrize("stage", [1, 2, 12])
def test_batched_equals_one_by_one(make, stage, monkeypatch):
    monkeypatch.setattr(decoding, "STAGE", stage)
    lm = make()
    found = greedy_answers(lm, PROMPTS, max_new_tokens=6, batch_size=5)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        text, confidence = alone(lm, prompt, 6)
        assert answer.text == text
        assert answer.confidence == pytest.approx(confidence, abs=1e-5)
    assert len({answer.text for answer in found}) > 1
    assert found == greedy_answers(lm, PROMPTS, max_new_tokens=6, batch_size=5)


def test_rows_that_have_ended_leave_the_batch(monkeypatch):
    lm = bigram({"a", "b", "c", "d"}, {"a": "b", "c": "c"})
    monkeypatch.setattr(decoding, "STAGE", 2)
    sizes, generate = [], lm.model.generate

    def counted(**inputs):
        sizes.append(len(inputs["input_ids"]))
        return generate(**inputs)

    monkeypatch.setattr(lm.model, "generate", counted)
    texts = [answer.text for answer in greedy_answers(lm, ["a", "c", "d", "c"], max_new_tokens=5, batch_size=4)]
    assert texts == ["b", "c c c c c", "", "c c c c c"]
    assert sizes[-3:] == [4, 2, 2]


def test_answers_come_in_the_order_asked_and_no_longer_than_allowed():
    lm = llama()
    one = greedy_answers(lm, PROMPTS, max_new_tokens=3, batch_size=2)
    back = greedy_answers(lm, PROMPTS[::-1], max_new_tokens=3, batch_size=2)
    assert [a.text for a in one] == [a.text for a in back[::-1]]
    assert all(len(answer.text.split()) <= 3 for answer in one)


def test_an_answer_stops_at_its_end_and_confidence_is_the_geometric_mean_with_the_end():
    lm = bigram({"a", "b", "c", "d"}, {"a": {"b": 0.6, "d": 0.4}, "b": {"<eos>": 0.9, "c": 0.1}, "c": "c"})
    ended, endless, empty = greedy_answers(lm, ["a", "c c c", "d"], max_new_tokens=4, batch_size=3)
    assert (ended.text, endless.text, empty.text) == ("b", "c c c c", "")
    assert ended.confidence == pytest.approx(math.sqrt(0.6 * 0.9), abs=1e-5)
    assert [endless.confidence, empty.confidence] == pytest.approx([1.0, 1.0])
    (short,) = greedy_answers(lm, ["a"], max_new_tokens=1, batch_size=1)
    assert (short.text, short.confidence) == ("b", pytest.approx(0.6, abs=1e-5))


@pytest.mark.parametrize("several", [False, True])
def test_the_models_own_ends_stop_an_answer_as_the_tokenizers_does(several):
    """Chat models end a turn with another token than a text: Gemma's generation_config names both."""
    lm = bigram({"a", "b", "c", "end"}, {"a": {"b": 0.6, "c": 0.4}, "b": {"end": 0.9, "a": 0.1}, "end": "a"})
    stop = lm.tokenizer.convert_tokens_to_ids("end")
    lm.model.generation_config.eos_token_id = [lm.tokenizer.eos_token_id, stop] if several else stop
    ended, own = greedy_answers(lm, ["a", "c"], max_new_tokens=4, batch_size=2)
    assert (ended.text, ended.confidence) == ("b", pytest.approx(math.sqrt(0.6 * 0.9), abs=1e-5))
    assert (own.text, own.confidence) == ("", pytest.approx(1.0))
    lm.model.generation_config.eos_token_id = None
    assert greedy_answers(lm, ["a"], max_new_tokens=4, batch_size=2)[0].text == "b end a b"


def test_an_adapter_that_adds_nothing_is_sampled_and_saved_as_the_base_is():
    """Padded rows have the base's positions, and the model keeps its own generation_config."""
    pytest.importorskip("peft")
    lm, how = llama(), {"samples": 4, "temperature": 0.7, "seed": 0, "max_new_tokens": 6, "batch_size": 64}
    lm.model.generation_config = GenerationConfig(eos_token_id=[lm.tokenizer.eos_token_id, 9], top_p=0.9)
    lora = Lora(2, 4, 0.0, None, False, False)
    plain, wrapped = sampled_answers(lm, PROMPTS, **how), replace(lm, model=lora.prepare(lm.copy().model))
    assert [[a.text for a in drawn] for drawn in sampled_answers(wrapped, PROMPTS, **how)] == [
        [a.text for a in drawn] for drawn in plain
    ]
    merged = lora.finish(Trained(wrapped.model, {}, lambda: 0.0, print))
    assert merged.generation_config.to_dict() == lm.model.generation_config.to_dict()


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_end_of_a_long_question_is_what_is_asked(make):
    """A question that fills the context keeps its first token and its last words, and the answer has room."""
    lm = make()
    assert lm.context_length == 32
    long = " ".join(f"w{n % 10}" for n in range(90))
    (answer,) = greedy_answers(lm, [long], max_new_tokens=6, batch_size=1)
    encoder = Encoder(lm.tokenizer)
    kept = [*encoder.prefix, *encoder.text(long)[-25:]]
    assert encoder.question(long, 26) == kept
    assert (kept[0], len(kept)) == (lm.tokenizer.bos_token_id, 26)
    with evaluating(lm.model):
        first = lm.model(input_ids=torch.tensor([kept]), use_cache=False).logits[0, -1].argmax()
    assert answer.text.split()[:1] == lm.tokenizer.decode([int(first)], skip_special_tokens=True).split()


@pytest.mark.parametrize("asked", [32, 40])
def test_answers_as_long_as_the_context_are_refused(asked):
    with pytest.raises(UserError, match=rf"measure.max_new_tokens={asked} leaves no room .* context of 32 tokens"):
        greedy_answers(gpt2(), PROMPTS, max_new_tokens=asked, batch_size=2)


def test_a_mode_of_evaluation_stays_and_an_error_brings_training_back():
    model = torch.nn.Dropout(0.5)

    def fails():
        with evaluating(model):
            assert not model.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert model.training
    model.eval()
    with evaluating(model):
        assert not torch.ones(1, requires_grad=True).exp().requires_grad
    assert not model.training


def test_the_mode_comes_back_and_no_random_number_is_used():
    lm = llama()
    lm.model.train()
    state = torch.get_rng_state()
    greedy_answers(lm, PROMPTS, max_new_tokens=2, batch_size=5)
    sampled_answers(lm, PROMPTS, samples=2, temperature=1.0, seed=3, max_new_tokens=2, batch_size=5)
    assert lm.model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_are_decided_by_the_seed():
    lm = language_model()

    def drawn(seed):
        how = {"samples": 3, "temperature": 2.0, "max_new_tokens": 6, "batch_size": 5}
        return [answer.text for answers in sampled_answers(lm, PROMPTS, seed=seed, **how) for answer in answers]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_prompt_read_once_gives_the_samples_of_one_read_for_each(make, monkeypatch):
    lm, read = make(), []
    how = {"samples": 4, "temperature": 3.0, "seed": 5, "max_new_tokens": 6, "batch_size": 64}
    together(lm.model)  # is tried with a few passes, once
    forward = lm.model.forward
    lm.model.forward = wraps(forward)(lambda *a, **k: (read.append(k["attention_mask"].shape), forward(*a, **k))[1])
    shared = sampled_answers(lm, PROMPTS, **how)
    assert read[0][0] == len(PROMPTS), "the prompts are read once each"
    monkeypatch.setattr(decoding, "cached", lambda *_: None)
    again = sampled_answers(lm, PROMPTS, **how)
    assert [[a.text for a in answers] for answers in shared] == [[a.text for a in answers] for answers in again]
    pairs = zip(shared, again, strict=True)
    flat = [(a.confidence, b.confidence) for one, two in pairs for a, b in zip(one, two, strict=True)]
    assert [one for one, _ in flat] == pytest.approx([two for _, two in flat], abs=1e-5)
    assert len({answer.text for answer in shared[0]}) > 1


def test_samples_come_in_the_shares_of_the_model():
    lm = bigram({"a", "b", "d"}, {"a": {"b": 0.7, "d": 0.3}})
    (found,) = sampled_answers(lm, ["a"], samples=2000, temperature=1.0, seed=0, max_new_tokens=2, batch_size=64)
    assert sum(answer.text == "b" for answer in found) / 2000 == pytest.approx(0.7, abs=0.04)


def test_what_was_thought_first_is_no_part_of_the_answer():
    lm = bigram({"a", "b", "</think>"}, {"a": "b", "b": "</think>", "</think>": {"a": 0.9, "<eos>": 0.1}})
    thought, cut = (greedy_answers(lm, ["a"], max_new_tokens=n, batch_size=1)[0] for n in (3, 1))
    assert (thought.text, thought.confidence) == ("a", pytest.approx(0.9 ** (1 / 3), abs=1e-5))
    assert cut.text == "b", "not yet at an end of its thoughts"


def test_a_model_that_gave_one_line_answers_is_not_kept():
    lm = llama()
    greedy_answers(lm, PROMPTS, max_new_tokens=2, batch_size=4, one_line=True)
    kept = weakref.ref(lm.model)
    del lm
    gc.collect()
    assert kept() is None
