"""Teacher-forced measurements: nll per target token, KL to the base, and exact reproduction of training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from truetune.data.dataset import Example
from truetune.data.module import to_device
from truetune.data.tokens import IGNORED, Encoder, collate
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel
from truetune.models.logits import CHUNK, AtPositions, kl_nats, nll_nats
from truetune.probes.decoding import evaluating


class RowScore(NamedTuple):
    """Sums over the target tokens of one example; there are none if its prompt fills the context."""

    nll_nats: float
    target_tokens: int
    reproduced: bool


@dataclass(frozen=True)
class Likelihood:
    rows: list[RowScore]
    kl_to_base_nats: float

    @property
    def nll_nats(self) -> float:
        return math.fsum(row.nll_nats for row in self.rows)

    @property
    def target_tokens(self) -> int:
        return sum(row.target_tokens for row in self.rows)

    @property
    def nll_nats_per_token(self) -> float:
        return self.nll_nats / self.target_tokens

    @property
    def kl_to_base_nats_per_token(self) -> float:
        return self.kl_to_base_nats / self.target_tokens


def likelihood(
    lm: LanguageModel,
    examples: Sequence[Example],
    *,
    batch_size: int,
    base: Frozen | None = None,
    choices: bool = False,
) -> Likelihood:
    """`reproduced`: whether the arg max is right at every target token, which is what greedy decoding would produce.
    A row that is longer than the context is cut, and never counts as reproduced.

    The KL is KL(base || tuned) at the target positions; 0 without a base. The end token is a target too, but not of
    `choices`: of those it is the prompt that is cut, at its beginning.
    """
    encoder, longest = Encoder(lm.tokenizer), lm.context_length
    rows = [encoder.choice(example, longest) if choices else encoder.row(example) for example in examples]
    is_cut = [len(row.input_ids) > longest for row in rows]
    for row in rows:
        del row.input_ids[longest:]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))  # similar lengths share a batch
    kl, scores = 0.0, dict[int, RowScore]()
    device = next(lm.model.parameters()).device
    with evaluating(lm.model):
        tuned, before = AtPositions(lm.model), base.at_positions(device) if base else None
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = to_device(collate([rows[i] for i in indices], encoder.pad), device)
            batch_kl, batch_scores = _batch(batch["input_ids"], batch["labels"][:, 1:], tuned, before)
            kl += batch_kl
            for index, score in zip(indices, batch_scores, strict=True):
                scores[index] = score._replace(reproduced=False) if is_cut[index] else score
    return Likelihood([scores[index] for index in range(len(rows))], kl)


def _batch(
    input_ids: Tensor, labels: Tensor, tuned: AtPositions, base: AtPositions | None
) -> tuple[float, list[RowScore]]:
    """The summed KL, and the score of each row."""
    target = labels != IGNORED
    predicting, chunks = F.pad(target, (0, 1)), labels[target].split(CHUNK)  # position t predicts the label at t + 1
    target = target.cpu()
    nll = torch.zeros(labels.shape, dtype=torch.float64)  # which Apple's GPUs do not have
    right, kl = ~target, 0.0
    nlls, hits = [nll.new_zeros(0)], [right.new_zeros(0)]
    references = base(input_ids, predicting, CHUNK) if base else repeat(None, len(chunks))
    for truth, logits, reference in zip(chunks, tuned(input_ids, predicting, CHUNK), references, strict=True):
        nlls.append(nll_nats(logits, truth).cpu().double())
        hits.append((logits.argmax(-1) == truth).cpu())
        kl += 0.0 if reference is None else float(kl_nats(reference, logits).sum())
    nll[target], right[target] = torch.cat(nlls), torch.cat(hits)
    rows = zip(nll.sum(1).tolist(), target.sum(1).tolist(), right.all(dim=1).tolist(), strict=True)
    return kl, [RowScore(*row) for row in rows]
