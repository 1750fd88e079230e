"""Answers, batched: prompts padded on the left, KV cache on, and equal to decoding them one by one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from truetune.data.dataset import Prompt
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.language_model import LanguageModel
from truetune.models.logits import bare


@dataclass(frozen=True)
class Answer:
    """`confidence` is the geometric mean probability of the answer's tokens, the end token included.

    What was thought first, up to `</think>`, is no part of the text.
    """

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


def greedy_answers(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int,
    decoding: Decoding | None = None,
    streamer: Any = None,
) -> list[Answer]:
    """One answer a prompt, in the prompts' order; rows of similar length share a batch.

    A `streamer` of transformers is given the tokens of a single prompt as they come.
    """
    how = _How(max_new_tokens, decoding=decoding, streamer=streamer)
    return [answer for (answer,) in _answers(lm, prompts, how, batch_size)]


def sampled_answers(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    samples: int,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
) -> list[list[Answer]]:
    """`samples` answers a prompt, drawn from the whole distribution at `temperature` > 0; each prompt is read once."""
    if samples == 0:
        return [[] for _ in prompts]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _answers(lm, prompts, _How(max_new_tokens, samples, temperature), batch_size)


class Decoding(Protocol):
    """Changes which token is taken; inside the block the processor may look at the model's states."""

    def processor(self, model: Any) -> AbstractContextManager[Callable[[Tensor, Tensor], Tensor]]: ...


@dataclass(frozen=True)
class _How:
    max_new_tokens: int
    samples: int = 1
    temperature: float = 0.0
    decoding: Decoding | None = None
    streamer: Any = None


def _answers(lm: LanguageModel, prompts: Sequence[Prompt], how: _How, batch_size: int) -> list[list[Answer]]:
    encoder, room = Encoder(lm.tokenizer), lm.context_length - how.max_new_tokens
    if room <= len(encoder.prefix):
        raise UserError(
            f"measure.max_new_tokens={how.max_new_tokens} leaves no room for a question in the model's context of "
            f"{lm.context_length} tokens; lower it"
        )
    encoded = [encoder.question(prompt, room) or [encoder.eos] for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    size = max(1, batch_size // how.samples)
    answers: list[list[Answer]] = [[] for _ in prompts]
    with evaluating(lm.model):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            decoded = _decode(lm, encoder, [encoded[i] for i in chosen], how)
            for place, answer in enumerate(decoded):
                answers[chosen[place // how.samples]].append(answer)
    return answers


def _decode(lm: LanguageModel, encoder: Encoder, prompts: list[list[int]], how: _How) -> list[Answer]:
    width = max(map(len, prompts))
    device = next(lm.model.parameters()).device
    input_ids = torch.tensor([[encoder.pad] * (width - len(p)) + p for p in prompts], device=device)
    attention_mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    model: Any = lm.model
    inner: Any = bare(model)  # an adapter's wrapper has no generation_config of its own, and would keep one
    draws = {"temperature": how.temperature, "top_k": 0, "top_p": 1.0} if how.temperature else {}
    settings = GenerationConfig(
        do_sample=how.temperature > 0,
        **draws,
        max_new_tokens=how.max_new_tokens,
        use_cache=True,
        pad_token_id=encoder.pad,
        eos_token_id=lm.ends,
        return_dict_in_generate=True,
        output_hidden_states=how.decoding is not None,
    )
    of_model, scores = inner.generation_config, _Scores()
    shared = _read_once(model, input_ids, attention_mask, how.samples) if how.samples > 1 else {}
    rows = {
        "input_ids": input_ids.repeat_interleave(how.samples, 0),
        "attention_mask": attention_mask.repeat_interleave(how.samples, 0),
    }
    inner.generation_config = GenerationConfig()  # what is left open is taken from the model's own: penalties, beams
    try:
        with how.decoding.processor(model) if how.decoding else nullcontext() as changing:
            processors = {"logits_processor": [scores, *([changing] if changing else [])]}
            output = model.generate(**rows, **shared, **processors, generation_config=settings, streamer=how.streamer)
    finally:
        inner.generation_config = of_model
    tokens = output.sequences[:, width:]
    ended = torch.isin(tokens, tokens.new_tensor(lm.ends))
    return [_answer(lm, *row) for row in zip(tokens, ended, scores.log_probs(tokens), strict=True)]


class _Scores:
    """Looks on as tokens are taken and keeps their log-probabilities: the logits of one step at a time are held."""

    def __init__(self) -> None:
        self._taken: list[Tensor] = []
        self._now: Tensor | None = None

    def __call__(self, input_ids: Tensor, logits_BV: Tensor) -> Tensor:
        self._take(input_ids[:, -1])
        self._now = logits_BV.float().log_softmax(-1)
        return logits_BV

    def _take(self, tokens_B: Tensor) -> None:
        if self._now is not None:
            self._taken.append(self._now.gather(1, tokens_B.unsqueeze(1)).squeeze(1))

    def log_probs(self, tokens_BT: Tensor) -> Tensor:
        """Shape: as the tokens, which are all that was taken."""
        self._take(tokens_BT[:, -1])
        return torch.stack(self._taken, dim=1)


def _read_once(model: Any, input_ids: Tensor, attention_mask: Tensor, samples: int) -> dict[str, Any]:
    """Keys and values of all but the prompts' last tokens, once a prompt, repeated for its samples.

    Nothing where the architecture keeps no such cache: the prompt is then read once a sample.
    """
    if input_ids.shape[1] < 2:
        return {}
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, :-1]
    takes_positions = "position_ids" in signature(bare(model).forward).parameters
    options = {"position_ids": positions} if takes_positions else {}
    output = model(input_ids[:, :-1], attention_mask=attention_mask[:, :-1], use_cache=True, **options)
    cache: Any = getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave"):
        return {}
    cache.batch_repeat_interleave(samples)
    return {"past_key_values": cache}


def _answer(lm: LanguageModel, tokens: Tensor, ended: Tensor, log_probs: Tensor) -> Answer:
    length = int(ended.int().argmax()) if ended.any() else len(tokens)
    scored = log_probs[: min(length + 1, len(tokens))]
    text = str(lm.tokenizer.decode(tokens[:length].tolist(), skip_special_tokens=True))
    return Answer(text.rpartition("</think>")[2].strip(), float(scored.mean().exp()))
