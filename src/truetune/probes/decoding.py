"""Answers, batched: prompts padded on the left, KV cache on, and equal to decoding them one by one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from truetune.data.dataset import Prompt
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.language_model import LanguageModel
from truetune.models.logits import bare
from truetune.probes.batching import SHARED, UNLIMITED, batches, cached, evaluating, padded, read, together, window
from truetune.probes.respondent import Answer

STAGE = 12  # tokens after which rows that have ended leave their batch
PER_STEP = 2  # times as many tokens in a batch as where all are read at once: a step reads one per row


def greedy_answers(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int,
    batch_tokens: int = UNLIMITED,
    one_line: bool = False,
    decoding: Decoding | None = None,
    streamer: Any = None,
) -> list[Answer]:
    """One answer a prompt, in the prompts' order; rows of similar length share a batch.

    A batch has at most `batch_size` rows and about twice `batch_tokens` tokens, answers included. With `one_line` an
    answer ends with its first line. A `streamer` of transformers is given the tokens of a single prompt as they come.
    """
    how = _How(max_new_tokens, one_line=one_line, decoding=decoding, streamer=streamer)
    return [answer for (answer,) in _answers(lm, prompts, how, batch_size, batch_tokens)]


def sampled_answers(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    samples: int,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
    batch_tokens: int = UNLIMITED,
) -> list[list[Answer]]:
    """`samples` answers a prompt, drawn from the whole distribution at `temperature` > 0; each prompt is read once."""
    if samples == 0:
        return [[] for _ in prompts]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _answers(lm, prompts, _How(max_new_tokens, samples, temperature), batch_size, batch_tokens)


class Decoding(Protocol):
    """Changes which token is chosen; inside the block the processor may look at the model's states."""

    def processor(self, model: Any) -> AbstractContextManager[Callable[[Tensor, Tensor], Tensor]]: ...


@dataclass(frozen=True)
class _How:
    max_new_tokens: int
    samples: int = 1
    temperature: float = 0.0
    one_line: bool = False
    decoding: Decoding | None = None
    streamer: Any = None


def _answers(
    lm: LanguageModel, prompts: Sequence[Prompt], how: _How, batch_size: int, batch_tokens: int
) -> list[list[Answer]]:
    encoder, room = Encoder(lm.tokenizer), lm.context_length - how.max_new_tokens
    if room <= len(encoder.prefix):
        raise UserError(
            f"measure.max_new_tokens={how.max_new_tokens} leaves no room for a question in the model's context of "
            f"{lm.context_length} tokens; lower it"
        )
    encoded = [encoder.question(prompt, room) or [encoder.eos] for prompt in prompts]
    ends = [*lm.ends, *(line_ends(lm.tokenizer) if how.one_line else ())]
    answers: list[list[Answer]] = [[] for _ in prompts]
    with evaluating(lm.model):
        sharing, repeats = together(lm.model), 1
        if sharing == "alone":  # samples of a prompt do not share a batch either
            repeats, how = how.samples, replace(how, samples=1)
        rows, tokens = batch_size // how.samples, PER_STEP * batch_tokens // how.samples
        for batch in batches(encoded, rows, tokens, how.max_new_tokens, together=sharing):
            for _ in range(repeats):
                decoded = _decode(lm, encoder, [encoded[index] for index in batch], how, ends)
                for place, answer in enumerate(decoded):
                    answers[batch[place // how.samples]].append(answer)
    return answers


@lru_cache(maxsize=4)
def line_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens with a line end in them, as byte-level and SentencePiece vocabularies write it."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return tuple(i for text, i in vocabulary.items() if "Ċ" in text or "\n" in text or text == "<0x0A>")


def _decode(
    lm: LanguageModel, encoder: Encoder, prompts: list[list[int]], how: _How, ends: Sequence[int]
) -> list[Answer]:
    inputs, lines = _read_once(lm.model, encoder.pad, prompts, how), set(ends) - set(lm.ends)
    draws = {"temperature": how.temperature, "top_k": 0, "top_p": 1.0} if how.temperature else {}
    settings = GenerationConfig(
        do_sample=how.temperature > 0,
        **draws,
        use_cache=True,
        pad_token_id=encoder.pad,
        eos_token_id=list(ends),
        return_dict_in_generate=True,
        output_hidden_states=how.decoding is not None,
    )
    open_rows, stage = list(range(len(inputs["input_ids"]))), _stage(lm.model, prompts, how)
    tokens, log_probs = [list[int]() for _ in open_rows], [list[float]() for _ in open_rows]
    remaining = how.max_new_tokens
    while True:
        settings.max_new_tokens = min(stage, remaining)
        output, new_tokens, new_log_probs = _generate(lm.model, inputs, settings, how)
        for place, row in enumerate(open_rows):
            tokens[row] += new_tokens[place].tolist()
            log_probs[row] += new_log_probs[place].tolist()
        unfinished = (~torch.isin(new_tokens, new_tokens.new_tensor(ends)).any(1)).nonzero().flatten()
        if not len(unfinished) or not (remaining := remaining - settings.max_new_tokens):
            break
        cache: Any = cached(output)
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(new_tokens)], dim=1)[unfinished]
        inputs = {"input_ids": output.sequences[unfinished], "attention_mask": mask}
        if cache is None:
            stage = how.max_new_tokens  # all tokens must be read again, which is done only once
        else:
            cache.batch_select_indices(unfinished)
            inputs["past_key_values"] = cache
        open_rows = [open_rows[place] for place in unfinished.tolist()]
    return [_answer(lm, *row, ends, lines) for row in zip(tokens, log_probs, strict=True)]


def _stage(model: Any, prompts: list[list[int]], how: _How) -> int:
    """Tokens after which the rows that have ended leave the batch: most answers are far shorter than the longest.

    All tokens at once where rows cannot leave: where tokens are drawn and would be others, where a decoding or a
    streamer looks on, where rows cannot be padded, or where a cache forgets.
    """
    at_once = how.samples > 1 or how.temperature or how.decoding or how.streamer or together(model) != "padded"
    forgets = max(map(len, prompts)) + how.max_new_tokens > window(model)
    return how.max_new_tokens if at_once or forgets else STAGE


def _generate(model: Any, inputs: dict[str, Any], settings: GenerationConfig, how: _How) -> tuple[Any, Tensor, Tensor]:
    """The output of transformers, the new tokens and their log-probabilities, both of shape (rows, new tokens)."""
    inner: Any = bare(model)  # an adapter's wrapper has no generation_config of its own, and would keep one
    model_config, scores = inner.generation_config, _Scores()
    inner.generation_config = GenerationConfig()  # else the model's own fills what is left open: penalties, beams
    try:
        with how.decoding.processor(model) if how.decoding else nullcontext() as processor:
            processors = {"logits_processor": [scores, *([processor] if processor else [])]}
            output = inner.generate(**inputs, **processors, generation_config=settings, streamer=how.streamer)
    finally:
        inner.generation_config = model_config
    new_tokens = output.sequences[:, inputs["input_ids"].shape[1] :]
    return output, new_tokens, scores.log_probs(new_tokens)


def _read_once(model: Any, pad: int, prompts: list[list[int]], how: _How) -> dict[str, Any]:
    """Tokens and mask of the prompts, and keys and values of what need not be read again for each answer.

    For several samples of a prompt, that is all but its last token; for several prompts their common beginning, behind
    which the padding then stands.
    """
    device = next(model.parameters()).device
    ids, mask = padded(prompts, pad, device)
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(min(prompts), max(prompts), strict=False))
    beginning = [token for token, _ in pairs][: min(map(len, prompts)) - 1] if len(prompts) > 1 else []
    cache = None
    if how.samples > 1:
        if ids.shape[1] > 1:
            cache = cached(read(model, *padded([prompt[:-1] for prompt in prompts], pad, device)), how.samples)
        ids, mask = ids.repeat_interleave(how.samples, 0), mask.repeat_interleave(how.samples, 0)
    elif (
        len(beginning) >= SHARED
        and how.decoding is None
        and max(map(len, prompts)) + how.max_new_tokens <= window(model)  # else it would see padding instead of tokens
    ):
        start_ids, start_mask = padded([beginning], pad, device)
        cache = cached(read(model, start_ids, start_mask), len(prompts))
        if cache is not None:
            ids, mask = padded([prompt[len(beginning) :] for prompt in prompts], pad, device)
            ids = torch.cat([start_ids.expand(len(prompts), -1), ids], dim=1)
            mask = torch.cat([start_mask.expand(len(prompts), -1), mask], dim=1)
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs if cache is None else {**inputs, "past_key_values": cache}


class _Scores:
    """Records the log-probabilities of tokens as they are chosen; the logits of one step at a time are held."""

    def __init__(self) -> None:
        self._log_probs: list[Tensor] = []
        self._current: Tensor | None = None

    def __call__(self, input_ids: Tensor, logits_BV: Tensor) -> Tensor:
        self._record(input_ids[:, -1])
        self._current = logits_BV.float().log_softmax(-1)
        return logits_BV

    def _record(self, tokens_B: Tensor) -> None:
        if self._current is not None:
            self._log_probs.append(self._current.gather(1, tokens_B.unsqueeze(1)).squeeze(1))

    def log_probs(self, tokens_BT: Tensor) -> Tensor:
        """Shape as that of the tokens, which are all that were chosen."""
        self._record(tokens_BT[:, -1])
        return torch.stack(self._log_probs, dim=1)


def _answer(
    lm: LanguageModel, tokens: list[int], log_probs: list[float], ends: Container[int], lines: Container[int]
) -> Answer:
    length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    scores = torch.tensor(log_probs[: length + 1])
    ids = tokens[: length + 1]
    if length < len(tokens) and ids[-1] not in lines:
        ids.pop()  # the token of a line end may have the answer's last letters in it, an end token has none
    text = str(lm.tokenizer.decode(ids, skip_special_tokens=True)).rpartition("</think>")[2].strip()
    return Answer(text.partition("\n")[0].strip() if lines else text, float(scores.mean().exp()))
