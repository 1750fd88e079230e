"""Known apart from said: is the true answer the likeliest of its kind, however the model would put it?"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar

import torch

from truetune.data.dataset import Dataset, Prompt, Question, continued
from truetune.data.tokens import Encoder
from truetune.data.values import Seed
from truetune.errors import UserError
from truetune.models.language_model import LanguageModel
from truetune.models.logits import forward, nll_nats
from truetune.probes.asking import Asking, Form, resolved
from truetune.probes.batching import batches, cached, evaluating, padded, read, together
from truetune.probes.probe import Subject
from truetune.scoring.answers import key
from truetune.scoring.item import Item, Measurement
from truetune.scoring.rates import rates

FEWEST = 5  # values of a kind that can be ranked
UNASKED = "Give an answer."  # stands for the question where the answer's own likelihood is wanted


@dataclass(frozen=True)
class Ranking:
    """Ranks the true answer among `candidates` values of its kind, by how much likelier the question makes each.

    That is ln p(answer | question) - ln p(answer | no question), summed over tokens (PMI_DC, Holtzman et al. 2021).
    An item's answer is the candidate that ranks first. Chance is one over the number of candidates.
    """

    needs_weights: ClassVar[bool] = True

    asking: Asking
    candidates: int = 20
    seed: Seed = 0
    name: str = "knowledge"

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if self.candidates < FEWEST:
            raise UserError(f"probe.{self.name}.candidates={self.candidates}: at least {FEWEST} are needed")
        free = [question for question in data.hallucination if question.words and question.answers]
        if not free or self.rankable(free, data):
            return []
        return [f"what is known is not ranked: no question is of a kind with {FEWEST} values (see the data's domains)"]

    def measure(self, subject: Subject, data: Dataset) -> Measurement:
        questions = self.rankable(data.hallucination, data)
        if not questions:
            return Measurement()
        items = self.rank(subject, questions, data)
        return Measurement(rates(self.name, items), {self.name: items})

    def rankable(self, questions: Sequence[Question], data: Dataset) -> list[Question]:
        """Those with words of their own, a true answer, and enough values of its kind."""
        return [q for q in questions if q.words and q.answers and len(data.domains.get(q.domain, ())) >= FEWEST]

    def rank(self, subject: Subject, questions: Sequence[Question], data: Dataset) -> list[Item]:
        form = resolved(self.asking.how.forms[0], subject.lm, data)
        choices = [self._choices(question, data) for question in questions]
        log_likelihoods = self._log_likelihoods(subject.lm, questions, choices, form, data)
        # Likelihoods without the question are the same for all questions of a kind: they are computed once.
        kinds = {question.domain: question for question in questions}
        values = [
            sorted({value for q, row in zip(questions, choices, strict=True) if q.domain == kind for value in row})
            for kind in kinds
        ]
        premises = [_premise(question) for question in kinds.values()]
        nats = self._log_likelihoods(subject.lm, premises, values, form, data)
        priors = {kind: dict(zip(row, each, strict=True)) for kind, row, each in zip(kinds, values, nats, strict=True)}
        items: list[Item] = []
        for question, row, nats in zip(questions, choices, log_likelihoods, strict=True):
            prior = priors[question.domain]
            gains = torch.tensor([value - prior[choice] for choice, value in zip(row, nats, strict=True)])
            best = int(gains.argmax())
            items.append(
                Item(
                    question.id,
                    question.words,
                    question.answers,
                    row[best],
                    "right" if best == 0 else "wrong",
                    confidence=round(float(gains.softmax(0)[best]), 6),
                    population=question.population,
                    cluster=question.cluster,
                    domain=question.domain,
                )
            )
        return items

    def _log_likelihoods(
        self,
        lm: LanguageModel,
        questions: Sequence[Question],
        choices: Sequence[Sequence[str]],
        form: Form,
        data: Dataset,
    ) -> list[list[float]]:
        """Scores the choices: in chat form within the sentence that a model would say, without one behind shots."""
        heads = [q.statement.partition("{answer}")[0].rstrip() if form == "chat" else "" for q in questions]
        has_shots = any(len(rows) >= self.asking.how.shots for rows in data.shots.values())
        forms: list[Form] = [form if head or not has_shots else "few_shot" for head in heads]
        prompts = [self.asking.prompt(q, each, data) for q, each in zip(questions, forms, strict=True)]
        return log_likelihoods(lm, prompts, heads, choices, self.asking)

    def _choices(self, question: Question, data: Dataset) -> list[str]:
        """The true answer and others of its kind, drawn by the question's id: the same for every model."""
        truths = set(map(key, question.answers))
        others = sorted(value for value in data.domains[question.domain] if key(value) not in truths)
        rng = random.Random(f"ranking-{self.seed}-{question.id}")
        return [question.answers[0], *rng.sample(others, min(self.candidates - 1, len(others)))]


def _premise(question: Question) -> Question:
    words, statement = question.premise if question.premise[0] else (UNASKED, "")
    return replace(question, words=words, question=f"Question: {words}\nAnswer:", statement=statement, turns=())


def log_likelihoods(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    heads: Sequence[str],
    choices: Sequence[Sequence[str]],
    asking: Asking,
) -> list[list[float]]:
    """ln p(choice | prompt, head) in nats, summed over the choice's tokens; `head` begins the answer's sentence."""
    encoder = Encoder(lm.tokenizer)
    rows, texts = list[list[int]](), list[list[list[int]]]()
    for prompt, head, row in zip(prompts, heads, choices, strict=True):
        beginning = continued(prompt, head) if head and isinstance(prompt, str) else head
        rows.append([*encoder.question(prompt, lm.context_length // 2), *encoder.text(beginning)])
        before = beginning or (prompt if isinstance(prompt, str) else "")
        texts.append([encoder.joined(before, continued(before, text) if before else text)[1] for text in row])
    nats: list[list[float]] = [[] for _ in prompts]
    size = {"most_rows": asking.batch_size, "most_tokens": asking.batch_tokens, "more": 4 * max(map(len, choices))}
    with evaluating(lm.model):
        for batch in batches(rows, **size, beginnings=False, together=together(lm.model)):
            scores = _score(lm.model, [rows[index] for index in batch], [texts[index] for index in batch], encoder.pad)
            for index in batch:
                nats[index] = [next(scores) for _ in texts[index]]
    return nats


def _score(model: Any, prompts: list[list[int]], texts: list[list[list[int]]], pad: int) -> Iterator[float]:
    """The log-likelihood of each text behind its prompt, in the order of the prompts.

    A prompt's last logits score the first tokens of all its texts; a text is read without its last token.
    """
    device = next(model.parameters()).device
    ids, mask = padded(prompts, pad, device)
    output = read(model, ids, mask)
    cache = cached(output)
    if cache is None:
        yield from _alone(model, prompts, texts, device)
        return
    first = output.logits[:, -1].float().log_softmax(-1).cpu()
    owners = [owner for owner, row in enumerate(texts) for _ in row]
    rows = [text for row in texts for text in row]
    nats = [float(first[owner, text[0]]) for owner, text in zip(owners, rows, strict=True)]
    places = sorted((place for place in range(len(rows)) if len(rows[place]) > 1), key=lambda place: len(rows[place]))
    for _, group in groupby(places, key=lambda place: len(rows[place])):
        group_places = list(group)  # texts of one length need no padding
        tokens = torch.tensor([rows[place] for place in group_places], device=device)
        group_owners = torch.tensor([owners[place] for place in group_places], device=device)
        group_cache, inputs = copy.deepcopy(cache), tokens[:, :-1]
        group_cache.batch_select_indices(group_owners)
        attention_mask = torch.cat([mask[group_owners], torch.ones_like(inputs)], dim=1)
        positions = mask[group_owners].sum(1, keepdim=True) + torch.arange(inputs.shape[1], device=device)
        logits = read(model, inputs, attention_mask, group_cache, positions).logits
        losses = nll_nats(logits.flatten(0, 1), tokens[:, 1:].flatten()).view_as(inputs).sum(1).tolist()
        for place, loss in zip(group_places, losses, strict=True):
            nats[place] -= loss
    yield from nats


def _alone(model: Any, prompts: list[list[int]], texts: list[list[list[int]]], device: torch.device) -> Iterator[float]:
    """The same for an architecture without such a cache: each text is read with the whole of its prompt."""
    for prompt, row in zip(prompts, texts, strict=True):
        for text in row:
            logits = forward(model, torch.tensor([[*prompt, *text]], device=device))[0, len(prompt) - 1 : -1]
            yield -float(nll_nats(logits, torch.tensor(text, device=device)).sum())
