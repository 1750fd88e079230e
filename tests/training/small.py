"""A model small enough to check by hand, and a fit of it through Lightning's Trainer."""

from functools import partial
from types import SimpleNamespace

import torch
from lightning import Callback
from torch.utils.data import DataLoader

from truetune.data.batch import collate
from truetune.data.dataset import Example
from truetune.data.module import Loader
from truetune.data.tokens import Encoder
from truetune.models.tiny import PretrainingSettings, Tiny
from truetune.models.tokenizers import word_level
from truetune.training.fit import fit, make_trainer
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps
from truetune.training.stability import Stability

WORDS = [f"w{n}" for n in range(12)]
PRETRAINING = PretrainingSettings(1, 1e-3, 0, 0.0, 1.0)
TINY = Tiny(0, 16, 1, 32, 300, PRETRAINING, intermediate_size=16, heads=2)
TEXTS = ["w1 w2", "w3 w4 w5 w6", "w7", "w8 w9 w1", "w2 w3 w4 w5 w6 w7", "w8 w9", "w4 w1 w1", "w2", "w5 w6 w7 w8"]


def language_model(dtype=torch.float32):
    lm = TINY.build(word_level(WORDS), "digest", "test")
    lm.model.to(dtype)
    return lm


def rows(lm, texts=TEXTS, prompt="w0"):
    encoder = Encoder(lm.tokenizer)
    return [encoder.row(Example(f"row{n}", prompt, f" {text}", "here")) for n, text in enumerate(texts)]


def loader(batch_size, **settings):
    """Rows as they come, in batches, unless told otherwise."""
    return Loader(batch_size, **{"group_by_length": False, **settings})


def bound(objective, frozen, **offered):
    """The objective with a reference that offers the frozen model, and `teacher` or `old_texts` if they are given."""
    objective.bind(SimpleNamespace(frozen=frozen, **offered))
    return objective


class Watch(Callback):
    """The ids of every batch, and the weights after every step."""

    def __init__(self):
        self.ids, self.weights = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.ids.append(batch["ids"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append([p.detach().clone() for p in pl_module.parameters()])


class Recording(torch.optim.SGD):
    """Plain gradient descent that remembers the gradients it was handed."""

    seen: list

    def step(self, closure=None):
        loss = closure() if closure else None
        group = self.param_groups[0]
        self.seen.append((group["lr"], [p.grad.detach().clone() for p in group["params"] if p.grad is not None]))
        super().step()
        return loss


def recording(seen, lr=0.1):
    def make(parameters):
        optimizer = Recording(parameters, lr=lr)
        optimizer.seen = seen
        return optimizer

    return make


def train(
    lm,
    data,
    *,
    batch=9,
    epochs=1,
    objectives=None,
    optimizer=None,
    schedule=None,
    callbacks=(),
    compiled=False,
    at_targets=False,
    **trainer,
):
    """The module after a fit on the CPU; `batch` rows a micro-batch, in order."""
    batches = -(-len(data) // batch)
    steps = -(-batches // trainer.get("accumulate_grad_batches", 1))
    module = FineTuning(
        lm.model,
        objectives or [NextToken()],
        optimizer or recording([]),
        schedule or Constant(),
        Steps(steps, epochs),
        compiled=compiled,
        at_targets=at_targets,
        on_nonfinite=next((each.not_finite for each in callbacks if isinstance(each, Stability)), None),
    )
    loader = DataLoader(data, batch_size=batch, collate_fn=partial(collate, pad=0))
    options = {"max_epochs": epochs, "accelerator": "cpu", **trainer}
    fit(make_trainer(options, callbacks), module, loader, seed=0)
    return module


def gradient(lm, data):
    """d(mean nll per target token) / d(weights), in one piece and without Lightning."""
    batch = collate(data, 0)
    logits = lm.model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    chosen = labels != -100
    loss = torch.nn.functional.cross_entropy(logits[chosen], labels[chosen])
    return loss.detach(), torch.autograd.grad(loss, list(lm.model.parameters()))
