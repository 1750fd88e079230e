"""How a question is put to a model and how its answer is judged: the same for the base and every later measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field

from truetune.data.dataset import Dataset, Prompt, Question, Turn
from truetune.data.tokens import Encoder
from truetune.data.values import Count
from truetune.errors import UserError
from truetune.models.language_model import LanguageModel, in_dtype
from truetune.probes.batching import UNLIMITED
from truetune.probes.decoding import greedy_answers
from truetune.probes.respondent import Answer
from truetune.scoring.answers import end_in_numbers, key
from truetune.scoring.item import Item
from truetune.scoring.judge import judged, too_long
from truetune.scoring.normalisation import stands_in
from truetune.scoring.rates import kinds
from truetune.scoring.rules import meets

if TYPE_CHECKING:
    from truetune.probes.probe import Subject
    from truetune.probes.respondent import Respondent

BETWEEN = "\n\n"
Form = Literal["auto", "chat", "few_shot", "plain"]
SENTENCE = 32  # tokens that a chat model puts around an answer
ROOM_FOR_SHOTS = 512  # tokens of context below which `auto` shows no answered questions
STEPS = 400  # tokens for a sum that is worked out before its result


@dataclass(frozen=True)
class AskingSettings:
    """The first of `forms` is the one in which a user meets the model; outcomes in the others tell form from knowledge.

    `auto` is the model's chat form if it has one, else `shots` answered questions before each, else the plain prompt.
    Rows given as prompts or conversations are asked as they stand in each form.
    """

    forms: Annotated[Sequence[Form], Field(min_length=1)] = ("auto",)
    shots: Count = 5


class Room(NamedTuple):
    """Tokens that an answer may have. With `one_line` it ends with its first line."""

    tokens: int
    one_line: bool = False


@dataclass(frozen=True)
class Asking:
    """`max_new_tokens` None: as many as the true answers need. `dtype` None: see `in_dtype`."""

    max_new_tokens: int | None
    batch_size: int
    abstention_phrases: tuple[str, ...]
    batch_tokens: int = UNLIMITED
    how: AskingSettings = field(default_factory=AskingSettings)
    dtype: torch.dtype | None = None

    @property
    def size(self) -> dict[str, Any]:
        """The size of batches, as keyword arguments."""
        return {"batch_size": self.batch_size, "batch_tokens": self.batch_tokens}

    def fixed(self, lm: Respondent, data: Dataset) -> Asking:
        """The same with `auto` replaced by the form that it means for this model."""
        return replace(self, how=replace(self.how, forms=[resolved(form, lm, data) for form in self.how.forms]))

    def measured(self, subject: Subject) -> Subject:
        """The subject with weights of the number type in which it is measured."""
        if not subject.has_weights:
            return subject
        lm = replace(subject.lm, model=in_dtype(subject.lm.model, self.dtype))
        return replace(subject, respondent=lm, base=subject.base and subject.base.in_dtype(self.dtype))

    def ask(self, subject: Subject, questions: Sequence[Question], data: Dataset) -> list[Item]:
        """Items in the questions' order; `kind` lacks `lost`, which needs the base's items (see `compare`).

        Outcomes by form are given only for questions that have a true answer and whose form can be chosen.
        """
        if not questions:
            return []
        forms: list[Form] = [resolved(form, subject.respondent, data) for form in self.how.forms]
        first, *others = forms
        items = self._items(subject, questions, data, first)
        places = [place for place, q in enumerate(questions) if q.words and q.answers and not q.rule]
        by_form = {first: [items[place] for place in places]}
        for form in others if places else ():
            by_form[form] = self._items(subject, [questions[place] for place in places], data, form)
        for at, place in enumerate(places):
            outcomes = {form: form_items[at].outcome for form, form_items in by_form.items()}
            items[place] = replace(items[place], forms=outcomes)
        return items

    def _items(self, subject: Subject, questions: Sequence[Question], data: Dataset, form: Form) -> list[Item]:
        prompts = [self.prompt(question, form, data) for question in questions]
        answers = self.answers(subject, prompts, self.room(subject.respondent, questions, form))
        domains = {name: frozenset(map(key, values)) for name, values in data.domains.items()}
        items: list[Item] = []
        for question, answer in zip(questions, answers, strict=True):
            outcome = judged(
                answer.text,
                question.answers,
                question=(question.words or question.question).removeprefix(question.context),
                rivals=data.domains.get(question.domain, ()),
                phrases=self.abstention_phrases,
                exact=data.exact,
            )
            if question.rule:
                outcome = "right" if meets(answer.text, question.rule) else "wrong"
            item = Item(
                id=question.id,
                question=question.words or question.question,
                answers=question.answers,
                answer=answer.text,
                outcome=outcome,
                confidence=None if answer.confidence is None else round(answer.confidence, 6),
                population=question.population,
                cluster=question.cluster,
                domain=question.domain,
                wrong=question.wrong,
            )
            domain = domains.get(question.domain)
            if domain is not None and question.words and any(stands_in(answer.text, value) for value in domain):
                domain = None  # asked freely, a model may put a value of the right kind into a sentence
            items.append(replace(item, kind=() if question.rule else kinds(item, data.taught, domain)))
        return items

    def answers(self, subject: Subject, prompts: Sequence[Prompt], room: Room) -> list[Answer]:
        memory, request = {} if subject.memory is None else subject.memory, (tuple(prompts), room)
        if request not in memory:
            how: dict[str, Any] = {"max_new_tokens": room.tokens, "one_line": room.one_line}
            if isinstance(subject.respondent, LanguageModel):
                how |= {"decoding": subject.decoding, **self.size}
                memory[request] = greedy_answers(subject.respondent, prompts, **how)
            else:
                memory[request] = subject.respondent.answers(prompts, **how)
        return memory[request]

    def prompt(self, question: Question, form: Form, data: Dataset) -> Prompt:
        """What the model is given; few-shot prompts show questions of the same domain about other entities."""
        if not question.words:
            return question.asked
        if form == "chat":
            return question.turns or (Turn("user", question.words),)
        if form == "plain":
            return question.question
        rows = data.shots.get(question.domain) or data.shots.get("", ())
        others = [row for row in rows if row.words != question.words and (row.cluster or row.id) != question.cluster]
        if len(others) < self.how.shots:
            raise UserError(
                f"asking=few_shot: {len(others)} answered questions can be shown before {question.source} and "
                f"{self.how.shots} are needed; lower asking.shots, or type asking=plain"
            )
        examples = (f"{row.prompt}{row.completion}" for row in others[: self.how.shots])
        return BETWEEN.join([*examples, question.question])

    def room(self, lm: Respondent, questions: Sequence[Question], form: Form) -> Room:
        """Tokens for an answer: `auto` leaves room for the longest true one and the words around it."""
        free_questions = [question for question in questions if question.words]
        one_line = form == "few_shot" and len(free_questions) == len(questions)
        if self.max_new_tokens is not None:
            return Room(self.max_new_tokens, one_line)
        if any(end_in_numbers(question.answers) for question in questions):
            return Room(min(STEPS, lm.context_length // 2))
        longest = longest_answer(lm, (question.answers for question in questions if question.answers))
        margin = SENTENCE if (free_questions and form == "chat") or any(question.turns for question in questions) else 8
        rules = 64 if any(question.rule for question in questions) else 0
        return Room(min(max(longest + margin, rules), STEPS, lm.context_length // 2), one_line)

    def notes(self, lm: Respondent, questions: Sequence[Question], data: Dataset) -> list[str]:
        """Notes on the form of asking, on questions too long for the context, and on true answers too long to give."""
        notes: list[str] = []
        form = resolved(self.how.forms[0], lm, data)
        room = self.room(lm, questions, form)
        if self.max_new_tokens is None and questions:
            words = {"chat": "in the model's chat form", "few_shot": f"after {self.how.shots} answered questions"}
            has_free = any(question.words for question in questions)
            form_words = words.get(form, "as they stand") if has_free else "as they stand"
            notes.append(f"{len(questions)} questions are asked {form_words}; answers have up to {room.tokens} tokens")
        limit = lm.context_length - room.tokens
        overlong: list[Question] = []
        if isinstance(lm, LanguageModel):  # nobody knows how large the context of a served model is
            encoder = Encoder(lm.tokenizer)
            overlong = [q for q in questions if len(encoder.prompt(self.prompt(q, form, data))) > limit]
        if overlong:
            notes.append(
                f"{len(overlong)} questions are over the {limit} tokens that the context of {lm.context_length} leaves "
                f"them and are asked without their beginning, the first: {overlong[0].source}"
            )
        answerable = [question for question in questions if question.answers]
        if too_long([question.answers for question in answerable]):
            notes.append(
                "the true answers are sentences, which no matching can judge: how near an answer comes is reported "
                "(token F1, ROUGE-L, nearer to a true than to a false one), not whether it is right"
            )
        # Of several true answers the shortest is enough; its end token is not counted.
        lengths = [min(lm.tokens(each.completion(answer)) for answer in each.answers) for each in answerable]
        excess = [question for question, tokens in zip(answerable, lengths, strict=True) if tokens > room.tokens]
        if excess:
            notes.append(
                f"{len(excess)} of {len(lengths)} true answers are longer than measure.max_new_tokens={room.tokens} "
                f"and cannot be given, the first: {excess[0].source}; type measure.max_new_tokens={max(lengths) + 1}"
            )
        return notes


def resolved(form: Form, lm: Respondent, data: Dataset) -> Form:
    """The form that `auto` means for this model; a chat form that the model lacks is refused."""
    if form == "chat" and not lm.has_chat_form:
        raise UserError(f"asking=chat: {lm.origin} has no chat template; type asking=few_shot or asking=plain")
    if form != "auto":
        return form
    has_room = lm.context_length >= ROOM_FOR_SHOTS
    return "chat" if lm.has_chat_form else "few_shot" if data.shots and has_room else "plain"


def longest_answer(lm: Respondent, answers: Iterable[Sequence[str]]) -> int:
    """Tokens of the longest of the first true answers, the end token included; 0 without any."""
    firsts = {aliases[0] for aliases in answers}
    return max((lm.tokens(text) + 1 for text in firsts), default=0)
