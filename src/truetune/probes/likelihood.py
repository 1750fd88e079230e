"""Teacher-forced measurements: nll per target token, KL to the base, and exact reproduction of training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from truetune.data.dataset import Example
from truetune.data.module import to_device
from truetune.data.tokens import IGNORED, Encoder, collate
from truetune.models.language_model import Frozen, LanguageModel
from truetune.probes.decoding import evaluating
from truetune.training.objectives import kl_nats, nll_nats


@dataclass(frozen=True)
class Likelihood:
    """Sums over all target tokens of the examples; there are none if every prompt fills the context."""

    nll_nats: float
    kl_to_base_nats: float
    target_tokens: int
    reproduced: list[bool]

    @property
    def nll_nats_per_token(self) -> float:
        return self.nll_nats / self.target_tokens

    @property
    def kl_to_base_nats_per_token(self) -> float:
        return self.kl_to_base_nats / self.target_tokens


def likelihood(
    lm: LanguageModel, examples: Sequence[Example], *, batch_size: int, base: Frozen | None = None
) -> Likelihood:
    """`reproduced`: whether the arg max is right at every target token, which is what greedy decoding would produce.
    A row that is longer than the context is cut, and never counts as reproduced.

    The KL is KL(base || tuned) at the target positions; 0 without a base.
    """
    encoder = Encoder(lm.tokenizer)
    rows = [encoder.row(example) for example in examples]
    whole = [len(row.input_ids) <= lm.context_length for row in rows]
    for row in rows:
        del row.input_ids[lm.context_length :]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))
    nll = kl = 0.0
    tokens = 0
    reproduced = [False] * len(rows)
    device = next(lm.model.parameters()).device
    model: Any = lm.model
    with evaluating(lm.model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = to_device(collate([rows[i] for i in chosen], encoder.pad), device)
            ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"][:, 1:]
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            target = labels != IGNORED
            nll += float(nll_nats(logits[target], labels[target]))
            if base is not None:
                kl += float(kl_nats(base.logits(ids, mask)[:, :-1][target], logits[target]).sum())
            tokens += int(target.sum())
            right = ((logits.argmax(-1) == labels) | ~target).all(dim=1)
            for index, hit in zip(chosen, right.tolist(), strict=True):
                reproduced[index] = bool(hit) and whole[index]
    return Likelihood(nll, kl, tokens, reproduced)
