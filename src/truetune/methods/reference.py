"""What an objective can ask for before training: the base, a teacher made from it, texts of what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from truetune.data.batch import Batch, collate
from truetune.data.dataset import Dataset, Example
from truetune.data.module import Loader, TokenizedData
from truetune.data.tokens import Encoder
from truetune.errors import Say, UserError
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel
from truetune.probes.decoding import sampled_answers
from truetune.training.fit import fit, make_trainer
from truetune.training.module import FineTuning, OptimizerFactory
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps, steps_per_epoch

PER_PROMPT = 32


@dataclass(frozen=True)
class Reference:
    """`known` are the ids of the training rows whose fact the base knows at least a little."""

    base: LanguageModel
    data: Dataset
    known: frozenset[str]
    batch_size: int
    seed: int
    optimizer: OptimizerFactory
    trainer: dict[str, Any]
    say: Say

    @cached_property
    def frozen(self) -> Frozen:
        """The base itself, not a copy of it."""
        return Frozen(self.base.model)

    def teacher(self, epochs: int, rows: Literal["known", "all"] = "known") -> Frozen:
        """The base trained for `epochs` on all rows, or only on known ones, which teach the form and no new fact."""
        selection = [row for row in self.data.train if rows == "all" or row.id in self.known]
        if not selection:
            raise UserError("objective.self_distill: the base knows none of the facts: nothing to teach from")
        self.say(f"training the teacher on {len(selection)} {'' if rows == 'all' else 'known '}rows, epochs: {epochs}")
        lm, encoder = self.base.copy(), Encoder(self.base.tokenizer)
        tokens, loader = [encoder.row(row) for row in selection], Loader(self.batch_size, group_by_length=False)
        tokenized = TokenizedData(tokens, [], pad=encoder.pad, seed=self.seed, loader=loader)
        steps = Steps(steps_per_epoch(len(selection), self.batch_size, accumulate=1, devices=1), epochs)
        module = FineTuning(lm.model, [NextToken()], self.optimizer, Constant(warmup_steps=0), steps)
        keys = ("accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm", "deterministic")
        options = {key: self.trainer[key] for key in keys if key in self.trainer}
        trainer = make_trainer({**options, "max_epochs": epochs, "devices": 1})
        fit(trainer, module, tokenized, seed=self.seed)
        return Frozen(lm.model)

    def old_texts(self, count: int, max_tokens: int) -> Iterator[Batch]:
        """One text per batch: from the base's pre-training where the data source has it, else drawn from the base."""
        encoder, source = Encoder(self.base.tokenizer), self.data.pretraining
        if source is not None:
            examples: Sequence[Example] = list(islice((e for batch in source.micro_batches() for e in batch), count))
        else:
            texts = drawn_texts(self.base, count, max_tokens, self.seed)
            examples = [Example(f"drawn/{index}", "", text, "the base") for index, text in enumerate(texts)]
        for example in examples:
            row = encoder.row(example)
            del row.input_ids[self.base.context_length :]
            yield collate([row], encoder.pad)


def drawn_texts(base: LanguageModel, count: int, max_tokens: int, seed: int) -> list[str]:
    """Texts that the base writes without a prompt, at temperature 1; empty ones are left out."""
    per_prompt = sampled_answers(
        base,
        [""] * -(-count // PER_PROMPT),
        samples=PER_PROMPT,
        temperature=1.0,
        seed=seed,
        max_new_tokens=min(max_tokens, base.context_length - 2),
        batch_size=PER_PROMPT,
    )
    return [answer.text for answers in per_prompt for answer in answers if answer.text][:count]
