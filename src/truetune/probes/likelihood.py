"""Teacher-forced measurements: nll per target token, KL to the base, and exact reproduction of training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from truetune.data.dataset import Example
from truetune.data.module import to_device
from truetune.data.tokens import IGNORED, Encoder, collate
from truetune.models.language_model import Frozen, LanguageModel
from truetune.probes.decoding import evaluating
from truetune.training.objectives import kl_nats, nll_nats


@dataclass(frozen=True)
class Likelihood:
    """Sums over the target tokens of each example; there are none if its prompt fills the context."""

    row_nll_nats: list[float]
    row_target_tokens: list[int]
    kl_to_base_nats: float
    reproduced: list[bool]

    @property
    def nll_nats(self) -> float:
        return math.fsum(self.row_nll_nats)

    @property
    def target_tokens(self) -> int:
        return sum(self.row_target_tokens)

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
    kl = 0.0
    found = [(0.0, 0, False)] * len(rows)
    device = next(lm.model.parameters()).device
    model: Any = lm.model
    with evaluating(lm.model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = to_device(collate([rows[i] for i in chosen], encoder.pad), device)
            ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"][:, 1:]
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            target = labels != IGNORED
            nll = torch.zeros(labels.shape, dtype=torch.float64, device=device)
            nll[target] = nll_nats(logits[target], labels[target]).double()
            if base is not None:
                kl += float(kl_nats(base.logits(ids, mask)[:, :-1][target], logits[target]).sum())
            right = ((logits.argmax(-1) == labels) | ~target).all(dim=1)
            for index, *row in zip(chosen, nll.sum(1).tolist(), target.sum(1).tolist(), right.tolist(), strict=True):
                found[index] = (row[0], row[1], row[2] and whole[index])
    nlls, tokens, reproduced = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    return Likelihood(nlls, tokens, kl, reproduced)
