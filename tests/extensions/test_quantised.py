"""Weights of 4 bits: configured as asked, refused where they cannot be, trained through low-rank updates."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from command_line import TINY_WORLD, complaint, config_of, refused, typed
from training.small import PRETRAINING, WORDS, rows, train

from truetune.config.instantiation import make
from truetune.errors import UserError
from truetune.extensions import quantised
from truetune.extensions.quantised import Quantised
from truetune.methods.adaptation import Lora, Trained
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import Tiny
from truetune.models.tokenizers import word_level

WORDS_FOR_IT = ("model=qlora", "method=lora", *TINY_WORLD)


@pytest.fixture
def folder(tmp_path):
    tiny = Tiny(0, 64, 1, 32, 300, PRETRAINING, intermediate_size=64, heads=2)
    lm = tiny.build(word_level(WORDS), "digest", "test")
    lm.model.save_pretrained(tmp_path / "m")
    lm.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def found(monkeypatch, *, packages=True, cuda=False):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if packages else None)
    monkeypatch.setattr(quantised, "has_cuda", lambda: cuda)


def test_a_machine_without_a_device_or_the_packages_is_told_so(folder, monkeypatch):
    found(monkeypatch)
    with pytest.raises(UserError, match=r"model=qlora: .* need a CUDA device, .* type model=pretrained method=lora$"):
        quantised.check_machine()
    found(monkeypatch, packages=False, cuda=True)
    with pytest.raises(UserError, match=r"needs the package bitsandbytes; type: pip install 'truetune\[qlora\]'"):
        quantised.check_machine()
    found(monkeypatch, cuda=True)
    quantised.check_machine()


@pytest.mark.slow
def test_the_command_is_refused_in_one_line(folder, tmp_path):
    if quantised.has_cuda():
        pytest.skip("this machine has a CUDA device")
    said = complaint(typed(*WORDS_FOR_IT, f"model.name_or_path={folder}", cwd=tmp_path))
    assert said.startswith("model=qlora")
    assert not (tmp_path / "logs").exists()


def test_nothing_but_low_rank_updates_can_train_beside_them(folder):
    said = refused("model=qlora", f"model.name_or_path={folder}", *TINY_WORLD)
    assert said == "model=qlora: weights of 4 bits cannot be trained themselves; add method=lora"


def test_the_configuration_reaches_the_library(folder, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.50")
    words = (*WORDS_FOR_IT, f"model.name_or_path={folder}", "model.quant_type=fp4", "model.double_quant=false")
    asked = make(config_of(*words)["model"], "model")
    assert asked == Quantised(str(folder), quant_type="fp4", double_quant=False)
    (config,) = asked._storage().values()
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "fp4")
    assert not config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_model_of_4_bits_trains_merges_and_loads_again(folder, tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    monkeypatch.setattr(quantised, "has_cuda", lambda: True)  # the library computes on a CPU, too
    lm = Quantised(str(folder)).load()
    assert type(lm.model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    assert lm.digest != Pretrained(str(folder), dtype="bfloat16").load().digest
    lora = Lora(4, 8, 0.0, None, False, False)
    adapted = replace(lm.copy(), model=lora.prepare(lm.copy().model))
    losses = [
        train(adapted, rows(adapted), at_targets=True, epochs=epochs, optimizer=partial(torch.optim.AdamW, lr=1e-2))
        for epochs in (1, 20)
    ]
    assert losses[1].window_loss < losses[0].window_loss - 0.2
    ids = torch.arange(3, 9).unsqueeze(0)
    trained = adapted.model.eval()(ids).logits.float()
    merged = lora.finish(Trained(adapted.model, {}, lambda: 0.0, print))
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    said = merged.eval()(ids).logits
    torch.testing.assert_close(said.float(), trained, rtol=0, atol=0.02)  # weights and sums of 8 bits, no longer of 4
    merged.save_pretrained(tmp_path / "out")
    lm.tokenizer.save_pretrained(tmp_path / "out")
    again = Pretrained(str(tmp_path / "out"), dtype="bfloat16").load().model
    torch.testing.assert_close(again.eval()(ids).logits, said, rtol=0, atol=1e-5)
