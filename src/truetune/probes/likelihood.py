"""Teacher-forced measurements: nll per target token, KL to the base, and exact reproduction of training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from truetune.data.dataset import Example
from truetune.data.module import to_device
from truetune.data.tokens import IGNORED, Encoder, collate
from truetune.models.language_model import AtPositions, Frozen, LanguageModel
from truetune.models.logits import CHUNK, kl_nats, nll_nats
from truetune.probes.decoding import evaluating


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
    whole = [len(row.input_ids) <= longest for row in rows]
    for row in rows:
        del row.input_ids[longest:]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))
    kl, found = 0.0, [(0.0, 0, False)] * len(rows)
    device = next(lm.model.parameters()).device
    with evaluating(lm.model):
        tuned, before = AtPositions(lm.model), base.at_positions(device) if base else None
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = to_device(collate([rows[i] for i in chosen], encoder.pad), device)
            batch_kl, *batch_rows = _batch(batch["input_ids"], batch["labels"][:, 1:], tuned, before)
            kl += batch_kl
            for index, *row in zip(chosen, *batch_rows, strict=True):
                found[index] = (row[0], row[1], row[2] and whole[index])
    nlls, tokens, reproduced = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    return Likelihood(nlls, tokens, kl, reproduced)


def _batch(
    input_ids: Tensor, labels: Tensor, tuned: AtPositions, base: AtPositions | None
) -> tuple[float, list[float], list[int], list[bool]]:
    """The summed KL; of each row the nll, the number of its target tokens, and whether all of them are the arg max."""
    target = labels != IGNORED
    predicting, parts = F.pad(target, (0, 1)), labels[target].split(CHUNK)  # position t predicts the label at t + 1
    target = target.cpu()
    nll = torch.zeros(labels.shape, dtype=torch.float64)  # which Apple's GPUs do not have
    right, kl = ~target, 0.0
    nlls, hits = [nll.new_zeros(0)], [right.new_zeros(0)]
    references = base(input_ids, predicting, CHUNK) if base else repeat(None, len(parts))
    for said, logits, reference in zip(parts, tuned(input_ids, predicting, CHUNK), references, strict=True):
        nlls.append(nll_nats(logits, said).cpu().double())
        hits.append((logits.argmax(-1) == said).cpu())
        kl += 0.0 if reference is None else float(kl_nats(reference, logits).sum())
    nll[target], right[target] = torch.cat(nlls), torch.cat(hits)
    return kl, nll.sum(1).tolist(), target.sum(1).tolist(), right.all(dim=1).tolist()
