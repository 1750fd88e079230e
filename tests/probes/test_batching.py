"""Questions in a batch get what each gets alone, whatever an architecture keeps: keys and values, states, windows."""

import random
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from training.small import WORDS

from truetune.data.dataset import Dataset, Example, Question
from truetune.data.tokens import Encoder
from truetune.models.language_model import LanguageModel
from truetune.models.logits import forward, nll_nats
from truetune.models.tokenizers import word_level
from truetune.probes import decoding
from truetune.probes.asking import Asking
from truetune.probes.batching import evaluating, together, window
from truetune.probes.decoding import greedy_answers, sampled_answers
from truetune.probes.likelihood import likelihood
from truetune.probes.measure import notes
from truetune.probes.ranking import log_likelihoods
from truetune.probes.task import Task

STATE = {"hidden_size": 32, "num_hidden_layers": 2}
LAYERS = {**STATE, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
SIZES = {**LAYERS, "head_dim": 16, "max_position_embeddings": 128}
MAMBA2 = {"mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1}
SHARED_EXPERT = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
LINEAR = {"linear_num_value_heads": 2, "linear_num_key_heads": 1, "linear_key_head_dim": 16}
FAMILIES = {
    "Rwkv": {**STATE, "attention_hidden_size": 32, "context_length": 128},
    "Mamba": {**STATE, "state_size": 8},
    "FalconMamba": {**STATE, "state_size": 8},
    "Mamba2": {**STATE, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "RecurrentGemma": {
        **(SIZES | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8}),
        "block_types": ("recurrent", "recurrent", "attention"),
    },
    "FalconH1": {**SIZES, **MAMBA2, "mamba_d_ssm": 32, "mamba_n_heads": 2},
    "Bamba": {**SIZES, **MAMBA2, "mamba_n_heads": 4, "attn_layer_indices": [1]},
    "Qwen3Next": {
        **SIZES,
        **EXPERTS,
        **SHARED_EXPERT,
        **LINEAR,
        "linear_value_head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "Lfm2": {**SIZES, "layer_types": ["conv", "full_attention"]},
    "xLSTM": {"hidden_size": 128, "embedding_dim": 128, "num_heads": 2, "num_blocks": 2},
    "GPTNeo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "window_size": 4,
        "max_position_embeddings": 128,
        "attention_types": [[["global", "local"], 1]],
    },
    "Mistral": {**SIZES, "sliding_window": 8},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "Llama": SIZES,
}
ASKING = Asking(4, 8, ())
HOW = {"Rwkv": "alone", "xLSTM": "of equal length"}  # all others mask padding

_random = random.Random(0)


def words(count: int) -> str:
    return " ".join(_random.choice(WORDS) for _ in range(count))


OF_ALL_LENGTHS = [words(count) for count in (1, 8, 3, 3, 12, 5, 5, 20)]
BEGINNING = words(18)
SHARING = [f"{BEGINNING} {words(count)}" for count in range(1, 9)]


@cache
def model_of(name: str) -> LanguageModel:
    if not hasattr(transformers, f"{name}Config"):
        pytest.skip(f"this transformers has no {name}")
    tokenizer = word_level(WORDS)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **FAMILIES[name], **special)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)  # sharper, so that answers differ
    return LanguageModel(model.train(), tokenizer, "digest", name)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("prompts", [OF_ALL_LENGTHS, SHARING], ids=["lengths", "beginning"])
@pytest.mark.parametrize("stage", [1, 12])
def test_an_answer_in_a_batch_is_that_of_the_whole_text_read_again(
    name: str, prompts: list[str], stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "STAGE", stage)
    lm, texts, sure = model_of(name), list[str](), list[float]()
    encoder = Encoder(lm.tokenizer)
    for prompt in prompts:
        ids, logs = list(encoder.prompt(prompt)), list[float]()
        start = len(ids)
        with evaluating(lm.model):
            while len(logs) < 4 and encoder.eos not in ids[start:]:
                log_p = forward(lm.model, torch.tensor([ids]))[0, -1].log_softmax(-1)
                ids.append(int(log_p.argmax()))
                logs.append(float(log_p.max()))
        texts.append(str(lm.tokenizer.decode(ids[start:], skip_special_tokens=True)).strip())
        sure.append(float(torch.tensor(logs).mean().exp()))
    answers = greedy_answers(lm, prompts, max_new_tokens=4, batch_size=8)
    assert len(set(texts)) > 2, "the answers differ, or nothing would be shown"
    assert [answer.text for answer in answers] == texts
    assert [answer.confidence for answer in answers] == pytest.approx(sure, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_likelihoods_and_ranks_in_a_batch_are_those_of_each_alone(name: str) -> None:
    lm, encoder = model_of(name), Encoder(model_of(name).tokenizer)
    greedy = greedy_answers(lm, OF_ALL_LENGTHS, max_new_tokens=4, batch_size=1)
    drawn = sampled_answers(lm, OF_ALL_LENGTHS, samples=3, temperature=1e-4, seed=0, max_new_tokens=4, batch_size=8)
    assert [[sample.text for sample in samples] for samples in drawn] == [[answer.text] * 3 for answer in greedy]
    examples = [Example(f"e{n}", prompt, " w1 w2", "here") for n, prompt in enumerate(OF_ALL_LENGTHS)]
    alone = [likelihood(lm, [example], batch_size=1).rows[0][0] for example in examples]
    batch = [row[0] for row in likelihood(lm, examples, batch_size=8).rows]
    assert batch == pytest.approx(alone, abs=1e-3)
    choices = [["w1", "w2 w3", "w4 w5 w6"]] * len(OF_ALL_LENGTHS)
    nats = log_likelihoods(lm, OF_ALL_LENGTHS, [""] * len(choices), choices, ASKING)
    for prompt, row in zip(OF_ALL_LENGTHS, nats, strict=True):
        for choice, value in zip(choices[0], row, strict=True):
            begun, text = list(encoder.prompt(prompt)), encoder.joined(prompt, f" {choice}")[1]
            with evaluating(lm.model):
                logits = forward(lm.model, torch.tensor([[*begun, *text]]))[0, len(begun) - 1 : -1]
            assert value == pytest.approx(-float(nll_nats(logits, torch.tensor(text)).sum()), abs=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_how_a_model_is_asked_is_tried_once_and_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model_of(name)
    settings, training = lm.model.generation_config, lm.model.training
    assert together(lm.model) == HOW.get(name, "padded")
    assert (lm.model.generation_config, lm.model.training) == (settings, training)
    monkeypatch.setattr(lm.model, "generate", None)
    assert together(lm.model) == HOW.get(name, "padded")
    data = Dataset(train=[], task=[Question("t", "w1 w2", ("w3",), "here")])
    probes: list[Any] = [Task(ASKING)]
    said = [note for note in notes(lm, data, probes, ASKING) if "in a batch" in note]
    assert len(said) == (name in HOW)


def test_the_narrowest_layer_counts() -> None:
    assert [window(model_of(name).model) for name in ("GPTNeo", "Mistral", "Llama")] == [4, 8, 1 << 30]


def test_rounding_in_bfloat16_is_not_taken_for_a_state(monkeypatch):
    """Deep and narrow, so that its rounding shows far above what float32 would be allowed."""
    torch.manual_seed(0)
    sizes = {**SIZES, "num_hidden_layers": 12, "vocab_size": 32}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, pad_token_id=0)).to(torch.bfloat16)
    monkeypatch.setattr("truetune.probes.batching._together", {})
    assert together(model) == "padded"
