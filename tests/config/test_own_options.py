"""A new option is one class and one YAML, in a package of the user's own that nothing of ours names."""

import json
import os

import pytest
from command_line import CONF, composed, refusal, typed

from truetune.config import compose
from truetune.config import run as build
from truetune.errors import UserError

CLASSES = """
import json
from dataclasses import dataclass
from truetune.data.dataset import Dataset, Example, Question
from truetune.data.values import Count, Positive
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Measurement


@dataclass(frozen=True)
class Halving:
    every: Count

    def __call__(self, progress, lr):
        return lr * 0.5 ** (progress.step // self.every)


@dataclass
class Doubt:
    weight: Positive

    def __call__(self, micro):
        return micro.logits_BTV.pow(2).mean()


@dataclass(frozen=True)
class Counting:
    asking: object
    name: str = "counting"

    def measure(self, subject, data):
        return Measurement({"counting/rows": Estimate(float(len(data.train)), 1)})


@dataclass(frozen=True)
class Twice:
    def __call__(self, rows, context):
        return [*rows, *rows]


@dataclass(frozen=True)
class Everything:
    def prepare(self, model):
        return model.requires_grad_(True)

    def finish(self, trained):
        return trained.model


@dataclass(frozen=True)
class Sums:
    rows: Count

    def load(self):
        rows = [Example(f"sum/{n}", f"{n} + 1 =", f" {n + 1}", "sums") for n in range(self.rows)]
        asked = [Question(f"ask/{n}", f"{n} + 2 =", (str(n + 2),), source="sums") for n in range(6)]
        return Dataset(train=rows, task=asked, validation=rows[:2])
"""
FILES = {
    "schedule/halving": "_target_: own_options.Halving\nevery: 2\n",
    "objective/doubt": "doubt:\n  _target_: own_options.Doubt\n  weight: 0.1\n",
    "probe/counting": "counting:\n  _target_: own_options.Counting\n",
    "method/twice": "# @package _global_\ncuration:\n  twice:\n    _target_: own_options.Twice\n",
    "method/everything": "# @package _global_\nadaptation:\n  everything:\n    _target_: own_options.Everything\n",
    "data/sums": "_target_: own_options.Sums\nrows: 8\n",
}
CHOSEN = (
    *("schedule=halving", "objective=[next_token,doubt]", "probe=[task,counting]", "method=[twice,everything]"),
    *("data=sums", "model=pretrained", "model.name_or_path=model", "measure.points=1", "measure.max_new_tokens=2"),
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "run.threads=1", "loader.batch_size=4"),
)


@pytest.fixture
def own(folder, monkeypatch):
    """The package and its files."""
    (folder / "own_options.py").write_text(CLASSES)
    for name, text in FILES.items():
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def prepared(*words):
    return compose.check(compose.parse(list(words)), CONF)


def test_six_kinds_of_options_from_outside_run_together(own):
    from truetune.models.tiny import PretrainingSettings, Tiny
    from truetune.models.tokenizers import byte_bpe

    tiny = Tiny(0, 16, 1, 64, 300, PretrainingSettings(1, 1e-3, 0, 0.0, 1.0), intermediate_size=16, heads=2)
    lm = tiny.build(byte_bpe(["1 + 1 = 2"] * 50, 300), "", "")
    lm.model.save_pretrained(own / "model")
    lm.tokenizer.save_pretrained(own / "model")
    paths = os.pathsep.join([str(own), os.environ.get("PYTHONPATH", "")])
    result = typed("--config-dir", "conf", *CHOSEN, "hydra.run.dir=run", cwd=own, PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr
    record = json.loads((own / "run" / "run.json").read_text())
    assert record["final"]["counting/rows"]["value"] == 16
    assert record["config"]["schedule"]["_target_"] == "own_options.Halving"


def test_a_value_of_an_own_class_is_checked_by_its_annotation(own):
    words = ("--config-dir", "conf", "schedule=halving")
    with pytest.raises(UserError, match=r"schedule\.every=0: should be greater than or equal to 1"):
        prepared(*words, "schedule.every=0")
    with pytest.raises(UserError, match=r"schedule\.evry: no such key; did you mean schedule\.every"):
        prepared(*words, "+schedule.evry=1")


def test_a_class_that_is_typed_must_be_allowed(own):
    word = "schedule={_target_:own_options.Halving,every:2}"
    typed_class = ("~schedule", "+" + word)
    said = refusal(*typed_class)
    assert said.startswith("schedule._target_=own_options.Halving: not allowed; classes come from truetune, torch")
    assert said.endswith("+allow=[own_options] allows that package")
    prepared(*typed_class, "+allow=[own_options]")
    for word in ("+callbacks.x={_target_:own_options.json.dumps}", "+callbacks.x={_target_:os.system,command:x}"):
        assert "not allowed" in refusal(word, "+allow=[own_options,os]")


def test_what_a_run_folder_recorded_allows_nothing(own):
    """Whoever made the folder has also chosen these words; only what stands behind `resume=` was typed by the user."""
    words = ["~schedule", "+schedule={_target_:own_options.Halving,every:2}", "+allow=[own_options]"]
    searched = ["schedule=halving", f"hydra.searchpath=[file://{own}/conf]"]
    for recorded in (words, searched):
        build.prepare(composed(*recorded))
        with pytest.raises(UserError, match=r"schedule\._target_=own_options\.Halving: not allowed"):
            build.prepare(composed(*recorded, "resume=run"))
    build.prepare(composed(*words[:2], "resume=run", "+allow=[own_options]"))
