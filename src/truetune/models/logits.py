"""Logits and what is computed from them. Shapes: N target tokens, V vocabulary."""

import torch.nn.functional as F
from torch import Tensor

from truetune.data.tokens import IGNORED

CHUNK = 1024  # logits held at once where no gradient is wanted


def nll_nats(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """-ln p(label) of each row; 0 where nothing is a target."""
    return F.cross_entropy(logits_NV.float(), labels_N, ignore_index=IGNORED, reduction="none")


def kl_nats(p_logits_NV: Tensor, q_logits_NV: Tensor) -> Tensor:
    """KL(p || q) of each row, entropy term included, so that KL(p, p) is 0."""
    p_log_NV, q_log_NV = p_logits_NV.float().log_softmax(-1), q_logits_NV.float().log_softmax(-1)
    return (p_log_NV.exp() * (p_log_NV - q_log_NV)).sum(-1)
