"""Where models are when they are asked: on the Trainer's device, before the fit and after it. No GPU is needed."""

import io
from types import SimpleNamespace

import pytest
import torch
import transformers
from command_line import TINY_RUN, composed
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from training.small import language_model, rows

import truetune.commands.session
import truetune.commands.train
from truetune.commands.measure import load
from truetune.config import run as build
from truetune.data.batch import collate
from truetune.extensions.ewc import fisher
from truetune.models.frozen import Frozen
from truetune.models.language_model import fastest
from truetune.training.fit import make_trainer
from truetune.training.module import FineTuning

GPU = torch.device("cuda", 3)


@pytest.fixture
def events(monkeypatch):
    """What is asked of a model's place, in order; nothing is moved, as there is nowhere to move to."""
    seen = []
    monkeypatch.setattr(transformers.PreTrainedModel, "to", lambda model, to, *_: seen.append(to) or model)
    return seen


def finished(folder, *words):
    cfg = composed(*TINY_RUN, f"paths.cache_dir={folder / 'cache'}", *words)
    cfg.paths.output_dir = str(folder / "run")
    job = build.build(cfg, build.prepare(cfg), folder / "run")
    return truetune.commands.train.train(job, Console(file=io.StringIO()))


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The run's Trainer says that it is on a GPU, and trains here."""
    make, train = truetune.commands.train.make_trainer, truetune.commands.train.fit
    monkeypatch.setattr(truetune.commands.train, "make_trainer", lambda *a: OnAGpu(make(*a)))
    monkeypatch.setattr(truetune.commands.train, "fit", lambda placed, *a, **k: train(placed.trainer, *a, **k))


class OnAGpu:
    strategy = SimpleNamespace(root_device=GPU)

    def __init__(self, trainer):
        vars(self)["trainer"] = trainer

    def __getattr__(self, name):
        return getattr(self.trainer, name)

    def __setattr__(self, name, value):
        setattr(self.trainer, name, value)


def test_a_run_asks_the_base_and_the_tuned_model_where_it_trains(tmp_path, monkeypatch, events, on_a_gpu):
    def noting(name, called):
        return lambda *a, **k: events.append(name) or called(*a, **k)

    session = truetune.commands.session
    monkeypatch.setattr(session, "measure_base", noting("base", session.measure_base))
    monkeypatch.setattr(truetune.commands.train, "measure", noting("tuned", truetune.commands.train.measure))
    monkeypatch.setattr(FineTuning, "cpu", noting("end of fit", FineTuning.cpu))
    finished(tmp_path, "method=interpolate")
    before, asked = events[: events.index("base")], events[: events.index("tuned")]
    assert before[-1] == GPU
    assert asked[len(asked) - asked[::-1].index("end of fit")] == GPU, "before the scores that alpha is chosen by"


@pytest.mark.parametrize(("method", "rests"), [("plain", True), ("l2_sp", False)])
def test_the_base_is_held_once_and_on_the_gpu_only_while_it_is_asked(
    tmp_path, monkeypatch, events, on_a_gpu, method, rests
):
    made, asked = [], []
    load, measure = truetune.commands.train.load_base, truetune.commands.train.measure
    monkeypatch.setattr(truetune.commands.train, "load_base", lambda *a: made.append(load(*a)) or made[0])
    monkeypatch.setattr(
        truetune.commands.train, "measure", lambda subject, *a: asked.append(subject) or measure(subject, *a)
    )
    monkeypatch.setattr(FineTuning, "on_fit_start", lambda module: events.append("fit"), raising=False)
    finished(tmp_path, f"method={method}", "trainer.accelerator=cpu")
    assert asked[0].base._model is made[0].model
    _, at = (place for place, event in enumerate(events) if event == "fit")  # the first one made the base
    assert ("cpu" in events[:at]) == rests == ("cpu" in events[at:]), "before the fit, and after each measurement"


def test_the_device_is_the_trainers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # a Trainer of rank 1 sets it for all loggers of the process

    def device(**trainer):
        return make_trainer(trainer).strategy.root_device

    assert device(accelerator="gpu", devices=2, strategy="ddp") == torch.device("cuda", 1)
    assert device(accelerator="cpu", devices=1) == torch.device("cpu")
    assert (fastest(), fastest("gpu"), fastest("cpu")) == (*[torch.device("cuda")] * 2, torch.device("cpu"))


def test_an_audit_asks_on_a_gpu(monkeypatch, events):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    load(SimpleNamespace(load=lambda say: language_model()), print)
    assert events[-1] == torch.device("cuda")


def test_texts_go_to_the_model_that_fisher_information_is_taken_of():
    lm, seen = language_model(), []
    lm.model.to("meta").register_forward_pre_hook(
        lambda model, args, given: seen.append(given["input_ids"].device.type), with_kwargs=True
    )
    with pytest.raises((NotImplementedError, RuntimeError)):  # where a number is wanted: meta tensors hold none
        fisher(Frozen(lm.model), [collate(rows(lm)[:1], 0)])
    assert seen == ["meta"]
