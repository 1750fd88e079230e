"""A model that is served behind an OpenAI-compatible API, to be audited by its answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from truetune.data.dataset import Dataset, Prompt
from truetune.data.values import Text
from truetune.errors import Say, UserError
from truetune.models.chat_completions import Client, Reply, Server

if TYPE_CHECKING:
    from truetune.probes.respondent import Answer

LISTED = 8  # names in a message
OF_WEIGHTS = "losses and KL (nats per token), the fit of training rows"
NO_CONFIDENCE = ("calibration", "selective")


@dataclass(frozen=True)
class Endpoint(Server):
    """`name` is what the server calls the model."""

    has_weights: ClassVar[bool] = False

    name: Text

    def weights_bytes(self) -> float:
        return math.inf  # as for any model whose files are not here

    def check_files(self) -> None:
        """Asks for a first word, so that a server that cannot be asked is refused before anything is made."""
        first_word(self)

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        """Notes on what cannot be measured by answers."""
        word, notes = first_word(self), [f"{self.called}.name={self.name}: answers at {self.url}"]
        omissions = [f"the probe {name}" for name, node in config["probe"].items() if _needs_weights(node)]
        omissions.append(OF_WEIGHTS)
        notes.append(f"{self.called}: is served, its weights are not here, so left out are {', '.join(omissions)}")
        if not word.has_log_probs:
            probes = [f"the probe {name}" for name in NO_CONFIDENCE if name in config["probe"]]
            notes.append(
                f"{self.called}: the server gives no log-probabilities, so no answer has a confidence"
                + (f", and left out are {', '.join(probes)}" if probes else "")
            )
        if any(not question.words and not question.turns for question in (*data.task, *data.hallucination)):
            notes.append(f"{self.called}: prompts are put as a user's turn, for a chat continues no text")
        if word.model not in ("", self.name):
            notes.append(f"{self.called}.name={self.name}: the server says that {word.model} has answered")
        elif word.names and self.name not in word.names:
            names = ", ".join(word.names[:LISTED])
            notes.append(f"{self.called}.name={self.name}: answers, but the server lists {names}: is it that model?")
        return notes

    def load(self, say: Say = str) -> ServedModel:
        return ServedModel(self, first_word(self).has_log_probs, say)


@dataclass(frozen=True)
class _FirstWord:
    """What a server shows of itself when it is asked for one token."""

    has_log_probs: bool
    model: str
    names: list[str]


@lru_cache
def first_word(endpoint: Endpoint) -> _FirstWord:
    """Asks for one token; raises UserError, with the server's model names if the name may be the reason."""
    hello, client = [{"role": "user", "content": "Hello"}], Client(endpoint, endpoint.name)
    client.check()
    options: dict[str, Any] = {"max_tokens": 1, "temperature": 0}
    try:
        try:
            reply = client.first_reply(hello, **options, logprobs=True)
        except UserError as error:
            if "logprobs" not in str(error):
                raise
            reply = client.first_reply(hello, **options)  # transformers' server refuses `logprobs`
    except UserError as error:
        names = client.names() if ": HTTP 4" in str(error) or ": HTTP 5" in str(error) else []
        hint = f"; {endpoint.called}.name={endpoint.name}, and it has {', '.join(names[:LISTED])}" if names else ""
        raise UserError(f"{error}{hint}") from None
    return _FirstWord(reply.log_probs is not None, reply.model, client.names())


@dataclass(frozen=True)
class ServedModel:
    """The model as the core asks it: a `Served` of `probes/respondent.py`."""

    endpoint: Endpoint
    has_log_probs: bool
    say: Say
    context_length: int = 1 << 30  # nobody knows
    has_chat_form: bool = True

    @property
    def origin(self) -> str:
        return f"{self.endpoint.name} at {self.endpoint.url}"

    @property
    def digest(self) -> str:
        return sha256(f"{self.endpoint.url} {self.endpoint.name}".encode()).hexdigest()

    def tokens(self, text: str) -> int:
        """An upper estimate: byte-pair vocabularies write three to five bytes of a text in a token."""
        return math.ceil(len(text.encode()) / 2)

    def answers(self, prompts: Sequence[Prompt], *, max_new_tokens: int, one_line: bool) -> list[Answer]:
        fixed: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": 0}
        fixed |= {"logprobs": True} if self.has_log_probs else {}
        fixed |= {"stop": ["\n"]} if one_line else {}
        client = Client(self.endpoint, self.endpoint.name, fixed)
        replies = client.replies(list(map(messages, prompts)), f"asking {self.endpoint.name}", self.say)
        empty = sum(reply.is_cut and not reply.text.strip() for reply in replies)
        if 2 * empty > len(replies):
            self.say(
                f"{self.origin}: {empty} of {len(replies)} answers are empty, for their {max_new_tokens} tokens were "
                "used up before (by thinking?); raise measure.max_new_tokens, or switch that off with model.options"
            )
        return [_answer(reply, one_line) for reply in replies]


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages of a request; a plain text is put as a user's turn."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    extras = [json.loads(turn.more or "{}") for turn in prompt]
    drop = ("weight", "tools")
    return [
        {"role": turn.role, "content": turn.content, **{key: more[key] for key in more if key not in drop}}
        for turn, more in zip(prompt, extras, strict=True)
    ]


def _answer(reply: Reply, one_line: bool) -> Answer:
    from truetune.probes.respondent import Answer

    text, log_probs = reply.text, list[float]()
    for token, log_prob in reply.log_probs or ():
        log_probs.append(log_prob)
        if one_line and "\n" in token:
            break
    text = text.partition("\n")[0] if one_line else text.rpartition("</think>")[2]
    confidence = math.exp(math.fsum(log_probs) / len(log_probs)) if log_probs else None
    return Answer(text.strip(), confidence)


def _needs_weights(node: Mapping[str, Any]) -> bool:
    module, _, name = str(node["_target_"]).rpartition(".")
    return bool(getattr(getattr(import_module(module), name), "needs_weights", False))
