"""The starting model: loaded, made, or pre-trained once and found again."""

import io
from dataclasses import replace
from itertools import count

import pytest
import torch
from rich.console import Console
from training.small import TINY, language_model

from truetune.data.dataset import Dataset, Example
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import PretrainingSettings
from truetune.probes.likelihood import likelihood
from truetune.training.pretraining import load_base

BUILDER = replace(TINY, pretraining=PretrainingSettings(40, 1e-2, 2, 0.0, 1.0))
TEXT = Example("t", "", "w1 w2 w3 w4", "here")


class Corpus:
    """One text for ever; `drawn` counts the micro-batches that were made."""

    micro_batches_per_step, description = 2, "one text"

    def __init__(self, content="v1"):
        self.content, self.drawn = content, 0

    def vocabulary(self):
        return [f"w{n}" for n in range(12)]

    def micro_batches(self):
        for _ in count():
            self.drawn += 1
            yield [TEXT]


def quiet_console():
    return Console(file=io.StringIO(), width=200)


def same(one, other):
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_base_is_pre_trained_once_and_read_again(tmp_path):
    corpus, console = Corpus(), quiet_console()
    first = load_base(BUILDER, Dataset([TEXT], pretraining=corpus), tmp_path, console)
    assert corpus.drawn in (80, 81)  # forty steps of two; a loader may look one ahead
    assert "pre-training the base on one text" in console.file.getvalue()
    assert likelihood(first, [TEXT], batch_size=1).metrics("task", [TEXT], 0)["task/nll_nats_per_token"].value < 0.5
    assert first.model.training
    corpus.drawn = 0
    again = load_base(BUILDER, Dataset([TEXT], pretraining=corpus), tmp_path, quiet_console())
    assert corpus.drawn == 0
    assert same(first, again)
    assert (first.digest, first.origin) == (again.digest, again.origin)
    assert first.origin == str(tmp_path / "bases" / first.digest)


def test_another_corpus_or_seed_is_another_base(tmp_path):
    quick = replace(BUILDER, pretraining=PretrainingSettings(1, 1e-2, 0, 0.0, 1.0))
    made = [
        load_base(builder, Dataset([TEXT], pretraining=Corpus(content)), tmp_path, quiet_console())
        for builder, content in [(quick, "v1"), (quick, "v2"), (replace(quick, seed=1), "v1")]
    ]
    assert len({lm.digest for lm in made}) == 3
    assert not same(made[0], made[2])


def test_without_texts_to_read_the_weights_are_random_and_the_seeds(tmp_path):
    data = Dataset([Example("a", "What?", " Nothing at all.", "here")])
    one, two = (load_base(BUILDER, data, tmp_path, quiet_console()) for _ in range(2))
    assert same(one, two)
    assert one.digest == two.digest
    assert "random weights" in one.origin
    other = load_base(BUILDER, Dataset([Example("a", "What?", " Something.", "here")]), tmp_path, quiet_console())
    assert other.digest != one.digest
    assert not (tmp_path / "bases").exists()


def test_a_folder_is_taken_as_it_is(tmp_path):
    lm = language_model()
    lm.model.save_pretrained(tmp_path / "m")
    lm.tokenizer.save_pretrained(tmp_path / "m")
    loaded = load_base(
        Pretrained(str(tmp_path / "m")), Dataset([TEXT], pretraining=Corpus()), tmp_path, quiet_console()
    )
    assert same(loaded, lm)


@pytest.mark.parametrize("change", [{"hidden_size": 32}, {"layers": 2}, {"seed": 5}, {"context_length": 64}])
def test_the_content_hash_sees_every_setting(change):
    assert replace(BUILDER, **change).content("x") != BUILDER.content("x")
    assert BUILDER.content("x") != BUILDER.content("y")
