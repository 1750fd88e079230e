"""trainer.precision=auto: 16 bits for a large pretrained model where they are fast, and nowhere else."""

import pytest
import torch
from command_line import TINY_WORLD, config_of
from training.small import language_model

import truetune.models.language_model as models
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import Tiny


@pytest.fixture
def folder(tmp_path):
    language_model().model.save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_large_model_is_trained_in_bfloat16_where_that_is_fast(folder, monkeypatch):
    monkeypatch.setattr(models, "LARGE", 1)
    for fast in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(models, "fast_dtype", lambda accelerator, fast=fast: fast)
        expected = "bf16-mixed" if fast == torch.bfloat16 else "32-true"
        assert Pretrained(folder).fast_precision("auto") == expected
        assert Pretrained("someone/some-model").fast_precision("auto") == expected
        assert Pretrained(folder, dtype="bfloat16").fast_precision("auto") == "32-true"


def test_a_small_model_and_our_own_are_trained_as_they_are(folder, monkeypatch):
    monkeypatch.setattr(models, "fast_dtype", lambda accelerator: torch.bfloat16)
    assert Pretrained(folder).fast_precision("auto") == "32-true"
    assert not hasattr(Tiny, "fast_precision")


def test_it_is_the_default_and_recorded_as_typed():
    assert config_of(*TINY_WORLD)["trainer"]["precision"] == "auto"
