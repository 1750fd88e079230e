"""Ways to spend less time or memory on the same step: precisions, checkpointing, compilation, the fused optimizer."""

from functools import partial

import pytest
import torch
from command_line import TINY_WORLD, prepared, refused
from lightning.pytorch.plugins import MixedPrecision
from training.small import gradient, language_model, recording, rows, train

import truetune.training.fit
from truetune.data.batch import collate
from truetune.errors import UserError
from truetune.models.logits import forward
from truetune.models.pretrained import Pretrained
from truetune.training.fit import fit, make_trainer
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.schedules import Constant, Steps
from truetune.training.stability import Stability


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("fused", [None, True])
def test_a_fit_of_another_precision_ends_close_to_that_of_full_precision(precision, fused):
    def loss(precision):
        lm = language_model()
        adamw = partial(torch.optim.AdamW, lr=1e-2, fused=fused)
        options = {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0, "precision": precision}
        module = train(lm, rows(lm), batch=3, epochs=4, optimizer=adamw, **options)
        assert all(torch.isfinite(p).all() for p in lm.model.parameters())
        return module.window_loss

    assert loss(precision) == pytest.approx(loss("32-true"), rel=0.02)
    assert loss(precision) < 2.4, "from 2.75"


def test_a_gradient_that_overflows_16_bits_is_left_to_the_scaler(monkeypatch):
    """It leaves the step out and scales the next loss by half: no divergence, and clipping comes after unscaling."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    half = MixedPrecision("16-mixed", "cpu", scaler)  # Lightning would take bf16 on a CPU
    monkeypatch.setattr(truetune.training.fit, "AtomicCheckpointIO", lambda: half)
    lm = language_model()
    adamw = partial(torch.optim.AdamW, lr=1e-2)
    module = train(lm, rows(lm), batch=3, epochs=8, optimizer=adamw, gradient_clip_val=1.0)
    assert scaler.get_scale() < 2.0**24, "nothing overflowed: the test shows nothing"
    assert module.window_loss < 2.4, "from 2.75"


def test_16_bits_on_a_cpu_are_refused_where_lightning_would_take_others():
    with pytest.raises(UserError, match=r"precision=16-mixed: .* type trainer.precision=bf16-mixed"):
        train(language_model(), [], precision="16-mixed")


def test_the_fused_optimizer_cannot_clip_where_gradients_are_scaled_and_that_is_said_before_the_run():
    words = {"optimizer.fused": True, "trainer.precision": "16-mixed"}
    said = refused(*TINY_WORLD, **words)
    assert said.startswith("optimizer.fused=true with trainer.precision=16-mixed cannot clip; ")
    assert prepared(*TINY_WORLD, **words, **{"trainer.gradient_clip_val": None})
    assert prepared(*TINY_WORLD, **{"optimizer.fused": True, "trainer.precision": "bf16-mixed"})


def test_base_and_tuned_model_are_in_one_precision_or_the_run_is_refused(folder):
    own = {"model.name_or_path": str(folder), "data.train_file": str(folder / "rows.jsonl")}
    (folder / "rows.jsonl").write_text("".join(f'{{"question": "w{n}", "answer": "w2"}}\n' for n in range(40)))
    for precision, dtype in [("bf16-true", "bfloat16"), ("16-true", "float16")]:
        words = {**own, "trainer.precision": precision}
        for other in {"float32", "bfloat16", "float16"} - {dtype}:
            said = refused("model=pretrained", "data=jsonl", **words, **{"model.dtype": other})
            assert said.startswith(f"trainer.precision={precision} needs model.dtype={dtype}: ")
            assert said.endswith(f"type model.dtype={dtype}")
        assert prepared("model=pretrained", "data=jsonl", **words, **{"model.dtype": dtype})
    assert refused(*TINY_WORLD, **{"trainer.precision": "bf16-true"}).endswith("type trainer.precision=bf16-mixed")


@pytest.fixture
def folder(tmp_path):
    lm = language_model()
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def calls(model):
    """How often attention is computed in one forward and backward pass."""
    seen = []
    model.model.layers[0].self_attn.register_forward_hook(lambda *_: seen.append(1))
    batch = collate(rows(language_model()), 0)
    forward(model, batch["input_ids"]).sum().backward()
    return len(seen)


def test_checkpointing_computes_again_what_it_does_not_keep_and_changes_no_gradient(folder):
    kept, again = (Pretrained(str(folder), gradient_checkpointing=on).load() for on in (False, True))
    assert (calls(kept.model), calls(again.model)) == (1, 2)
    data = rows(kept)
    for one, other in zip(gradient(kept, data)[1], gradient(again, data)[1], strict=True):
        torch.testing.assert_close(one, other)
    assert again.digest == kept.digest


def test_a_model_that_cannot_be_checkpointed_is_refused(folder, monkeypatch):
    monkeypatch.setattr("transformers.LlamaForCausalLM.supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"model\.gradient_checkpointing=true: .*does not support"):
        Pretrained(str(folder), gradient_checkpointing=True).load()


@pytest.mark.slow
def test_a_compiled_step_is_the_same_step_and_leaves_the_same_names(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    lm, other, seen = language_model(), language_model(), []
    names = set(lm.model.state_dict())
    module = FineTuning(lm.model, [NextToken()], recording(seen), Constant(), Steps(1, 1), compiled=True)
    assert type(module._outputs.args[0]).__name__ == "OptimizedModule"
    loader = torch.utils.data.DataLoader(rows(lm), batch_size=9, collate_fn=partial(collate, pad=0))
    fit(make_trainer({"max_epochs": 1, "accelerator": "cpu"}), module, loader, seed=0)
    torch.testing.assert_close(seen[0][1], list(gradient(other, rows(other))[1]), rtol=1e-4, atol=1e-6)
    assert {name.removeprefix("model.") for name in module.state_dict()} == names


def test_an_overflow_is_no_step_that_is_not_finite(monkeypatch):
    """One that the scaler left out has moved nothing."""
    scaler, said = torch.amp.GradScaler("cpu", init_scale=2.0**24), []
    half = MixedPrecision("16-mixed", "cpu", scaler)
    monkeypatch.setattr(truetune.training.fit, "AtomicCheckpointIO", lambda: half)
    guard = Stability("skip_step", said.append)
    lm = language_model()
    train(lm, rows(lm), batch=3, epochs=8, optimizer=partial(torch.optim.AdamW, lr=1e-2), callbacks=[guard])
    assert scaler.get_scale() < 2.0**24, "nothing overflowed: the test shows nothing"
    assert (said, guard.report.nonfinite_steps) == ([], 0)
