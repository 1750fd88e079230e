"""The untouched starting model: loaded, or pre-trained once and cached by content hash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from truetune.data.dataset import Dataset, OldTexts
from truetune.data.module import PretrainingStream
from truetune.data.tokens import Encoder
from truetune.errors import speaker
from truetune.models.language_model import LanguageModel
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import Embedded
from truetune.records.files import cached
from truetune.training.fit import fit, make_trainer
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.progress import ProgressLine
from truetune.training.schedules import Cosine, Steps


def load_base(builder: Embedded | Pretrained, data: Dataset, cache: Path, console: Console) -> LanguageModel:
    """A model that is loaded, or a tiny one that is made and pre-trained on the source's texts if it has any."""
    if isinstance(builder, Pretrained):
        return builder.load(speaker(console))
    corpus = data.pretraining
    if corpus is None:
        content, separator = sha256(), ""
        for example in data.train:
            content.update(f"{separator}{example.prompt}{example.completion}".encode())
            separator = "\n"
        texts = (f"{example.prompt}{example.completion}" for example in data.train)
        digest, source = builder.content(content.hexdigest()), "random weights (model=tiny without pre-training)"
        return builder.build(builder.tokenizer(texts=texts), digest, source)
    # The code that makes the texts and the weights is part of the content hash: an edit never reuses a stale base.
    package = Path(__file__).parents[1]
    files = sorted([*(package / "data").glob("*world.py"), package / "models" / "tiny.py", Path(__file__)])
    code = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    digest, say = builder.content(f"{corpus.content}-{code}"), speaker(console)
    folder = cached(cache / "bases" / digest, partial(_pretrain, builder, corpus, digest, console), say)
    say(f"base: {folder}")
    return from_cache(folder)


def from_cache(folder: Path) -> LanguageModel:
    """A pre-trained base from its folder, whose name is its digest."""
    return replace(Pretrained(str(folder)).load(), digest=folder.name)


def _pretrain(builder: Embedded, corpus: OldTexts, digest: str, console: Console, folder: Path) -> None:
    settings = builder.pretraining
    lm = builder.build(builder.tokenizer(words=corpus.vocabulary()), digest, str(folder))
    stream = PretrainingStream(corpus, Encoder(lm.tokenizer), settings.steps)
    module = FineTuning(
        lm.model,
        [NextToken()],
        partial(_adamw, lr=settings.lr, weight_decay=settings.weight_decay),
        Cosine(lr_end=0.05 * settings.lr, warmup_steps=settings.warmup_steps),
        Steps(settings.steps, epochs=1),
    )
    arguments = {
        "max_epochs": 1,
        "accumulate_grad_batches": corpus.micro_batches_per_step,
        "gradient_clip_val": settings.gradient_clip_val,
        "devices": 1,
    }
    progress = ProgressLine(console, f"pre-training the base on {corpus.description}", settings.steps)
    fit(make_trainer(arguments, [progress]), module, DataLoader(stream, batch_size=None), seed=builder.seed)
    lm.model.cpu().save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)


def _adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW without decay on gains: only matrices are pulled to zero."""
    weights = list(parameters)
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
