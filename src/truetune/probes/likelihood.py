"""Teacher-forced measurements: nll per target token, KL to the base, and exact reproduction of training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from truetune.data.batch import collate, to_device
from truetune.data.dataset import Example
from truetune.data.tokens import IGNORED, Encoder
from truetune.models.frozen import Frozen
from truetune.models.language_model import LanguageModel
from truetune.models.logits import CHUNK, AtPositions, kl_of_logs
from truetune.probes.batching import UNLIMITED, batches, evaluating
from truetune.scoring.estimates import Estimate, bootstraps


class RowScore(NamedTuple):
    """Sums over the target tokens of one example; there are none if its prompt fills the context."""

    nll_nats: float
    target_tokens: int
    reproduced: bool
    kl_to_base_nats: float = 0.0


@dataclass(frozen=True)
class Likelihood:
    rows: list[RowScore]

    @property
    def nll_nats(self) -> float:
        return math.fsum(row.nll_nats for row in self.rows)

    @property
    def kl_to_base_nats(self) -> float:
        return math.fsum(row.kl_to_base_nats for row in self.rows)

    @property
    def target_tokens(self) -> int:
        return sum(row.target_tokens for row in self.rows)

    def metrics(self, probe: str, examples: Sequence[Example], resamples: int) -> dict[str, Estimate]:
        """Nll and KL per target token, in nats; n counts target tokens, the intervals resample texts (or entities)."""
        tokens = np.array([row.target_tokens for row in self.rows], dtype=float)
        sums = np.array([(row.nll_nats, row.kl_to_base_nats) for row in self.rows]).reshape(-1, 2)
        if not tokens.sum():
            return {}

        def means(indices: npt.NDArray[np.intp]) -> list[float | None]:
            total = float(tokens[indices].sum())
            return [math.fsum(column) / total if total else None for column in sums[indices].T]

        clusters = [example.cluster or example.id for example in examples]
        estimates = bootstraps(means, clusters, np.random.default_rng(0), resamples)
        names = (f"{probe}/nll_nats_per_token", f"{probe}/kl_to_base_nats_per_token")
        return {name: replace(each, n=int(tokens.sum())) for name, each in zip(names, estimates, strict=True)}


def likelihood(
    lm: LanguageModel,
    examples: Sequence[Example],
    *,
    batch_size: int,
    batch_tokens: int = UNLIMITED,
    base: Frozen | None = None,
    choices: bool = False,
) -> Likelihood:
    """`reproduced`: whether the arg max is right at every target token, which is what greedy decoding would produce.
    A row that is longer than the context is cut, and never counts as reproduced.

    The KL is KL(base || tuned) at the target positions, 0 without a base. The end token is a target too, but not with
    `choices`: of those the prompt is cut, at its beginning.
    """
    encoder, longest = Encoder(lm.tokenizer), lm.context_length
    rows = [encoder.choice(example, longest) if choices else encoder.row(example) for example in examples]
    is_cut = [len(row.input_ids) > longest for row in rows]
    for row in rows:
        del row.input_ids[longest:]
    scores: dict[int, RowScore] = {}
    device = next(lm.model.parameters()).device
    with evaluating(lm.model):
        tuned, before = AtPositions(lm.model), base.at_positions(device) if base else None
        for indices in batches([row.input_ids for row in rows], batch_size, batch_tokens, beginnings=False):
            batch = to_device(collate([rows[i] for i in indices], encoder.pad), device)
            batch_scores = _batch(batch["input_ids"], batch["labels"][:, 1:], tuned, before)
            for index, score in zip(indices, batch_scores, strict=True):
                scores[index] = score._replace(reproduced=False) if is_cut[index] else score
    return Likelihood([scores[index] for index in range(len(rows))])


def _batch(input_ids: Tensor, labels: Tensor, tuned: AtPositions, base: AtPositions | None) -> list[RowScore]:
    is_target = labels != IGNORED
    is_predicting = F.pad(is_target, (0, 1))  # position t predicts the label at t + 1
    chunks = labels[is_target].split(CHUNK)
    is_target = is_target.cpu()
    # Summed on the CPU: Apple's GPUs have no float64.
    nll, kl = torch.zeros(labels.shape, dtype=torch.float64), torch.zeros(labels.shape, dtype=torch.float64)
    is_right = ~is_target
    nlls, kls, hits = [nll.new_zeros(0)], [kl.new_zeros(0)], [is_right.new_zeros(0)]
    references = base(input_ids, is_predicting, CHUNK) if base else repeat(None, len(chunks))
    for truth, logits, reference in zip(chunks, tuned(input_ids, is_predicting, CHUNK), references, strict=True):
        hits.append((logits.argmax(-1) == truth).cpu())
        log_probs = logits.float().log_softmax(-1)  # once, for loss and KL
        nlls.append(-log_probs.gather(1, truth.unsqueeze(1)).squeeze(1).cpu().double())
        if reference is None:
            kls.append(nlls[-1] * 0)
        else:
            kls.append(kl_of_logs(reference.float().log_softmax(-1), log_probs).cpu().double())
    nll[is_target], kl[is_target], is_right[is_target] = torch.cat(nlls), torch.cat(kls), torch.cat(hits)
    columns = (nll.sum(1), is_target.sum(1), is_right.all(dim=1), kl.sum(1))
    return [RowScore(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
