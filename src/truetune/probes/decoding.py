"""Greedy answers, batched: prompts padded on the left, KV cache on, and equal to decoding them one by one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.language_model import LanguageModel


@dataclass(frozen=True)
class Answer:
    """`confidence` is the geometric mean probability of the answer's tokens, the end token included."""

    text: str
    confidence: float


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; the former mode comes back."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def greedy_answers(lm: LanguageModel, prompts: Sequence[str], *, max_new_tokens: int, batch_size: int) -> list[Answer]:
    """One answer a prompt, in the prompts' order; rows of similar length share a batch."""
    return _answers(lm, prompts, max_new_tokens, batch_size, 0.0)


def sampled_answers(
    lm: LanguageModel, prompts: Sequence[str], *, temperature: float, seed: int, max_new_tokens: int, batch_size: int
) -> list[Answer]:
    """One answer a prompt, drawn from the whole distribution at `temperature` > 0; repeat a prompt for more."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _answers(lm, prompts, max_new_tokens, batch_size, temperature)


def _answers(
    lm: LanguageModel, prompts: Sequence[str], max_new_tokens: int, batch_size: int, temperature: float
) -> list[Answer]:
    encoder, room = Encoder(lm.tokenizer), lm.context_length - max_new_tokens
    if room <= len(encoder.prefix):
        raise UserError(
            f"extras.max_new_tokens={max_new_tokens} leaves no room for a question in the model's context of "
            f"{lm.context_length} tokens; lower it"
        )
    encoded = [encoder.question(prompt, room) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    answers: list[Answer | None] = [None] * len(prompts)
    with evaluating(lm.model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            decoded = _decode(lm, encoder, [encoded[i] for i in chosen], max_new_tokens, temperature)
            for index, answer in zip(chosen, decoded, strict=True):
                answers[index] = answer
    return [answer for answer in answers if answer is not None]


def _decode(
    lm: LanguageModel, encoder: Encoder, prompts: list[list[int]], max_new_tokens: int, temperature: float
) -> list[Answer]:
    width = max(map(len, prompts))
    device = next(lm.model.parameters()).device
    input_ids = torch.tensor([[encoder.pad] * (width - len(p)) + p for p in prompts], device=device)
    attention_mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    model: Any = lm.model
    settings, own = _settings(encoder, max_new_tokens, temperature), model.generation_config
    model.generation_config = GenerationConfig()  # what is left open is taken from the model's own: penalties, beams
    try:
        made = model.generate(input_ids=input_ids, attention_mask=attention_mask, generation_config=settings)
    finally:
        model.generation_config = own
    tokens = made.sequences[:, width:]
    log_probs = torch.stack([logits.float().log_softmax(-1) for logits in made.logits], dim=1)
    chosen = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return [_answer(lm, encoder, row, scores) for row, scores in zip(tokens, chosen, strict=True)]


def _settings(encoder: Encoder, max_new_tokens: int, temperature: float) -> GenerationConfig:
    drawn = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    return GenerationConfig(
        do_sample=temperature > 0,
        **drawn,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        pad_token_id=encoder.pad,
        eos_token_id=encoder.eos,
        return_dict_in_generate=True,
        output_logits=True,
    )


def _answer(lm: LanguageModel, encoder: Encoder, tokens: Tensor, log_probs: Tensor) -> Answer:
    ended = (tokens == encoder.eos).nonzero()
    length = int(ended[0]) if len(ended) else len(tokens)
    scored = log_probs[: min(length + 1, len(tokens))]
    text = lm.tokenizer.decode(tokens[:length].tolist(), skip_special_tokens=True)
    return Answer(str(text).strip(), float(scored.mean().exp()))
