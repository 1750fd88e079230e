"""`trainer=fsdp`: two processes that share the weights take the steps of one that has them all."""

import os
from functools import partial

import pytest
import torch
from torch.distributed.tensor import DTensor
from training.ranks import two_ranks
from training.small import gradient, rows, train
from transformers import LlamaConfig, LlamaForCausalLM

from truetune.models.language_model import LanguageModel
from truetune.models.sharding import gathered_state
from truetune.models.tokenizers import word_level
from truetune.training.step_log import StepLog

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

WORDS = [f"w{n}" for n in range(12)]
# Rows of many lengths: a mean of the ranks' means would be another loss.
TEXTS = [" ".join(f"w{(7 * n + k) % 12}" for k in range(1 + (5 * n) % 9)) for n in range(24)]
SHARDED = {"strategy": "fsdp", "devices": 2}


def llama(tied=True, width=64):
    tokenizer = word_level(WORDS)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
    )
    return LanguageModel(LlamaForCausalLM(config).train(), tokenizer, "digest", "test")


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-2, eps=1e-4)  # with less it makes much of the last digit of a gradient


def fitted(lm=None, *, prepare=lambda model: model, batch=6, epochs=3, **options):
    """Losses and gradient norms of each step, and the whole weights after the last."""
    lm, history = lm or llama(), []
    lm = LanguageModel(prepare(lm.model), lm.tokenizer, lm.digest, lm.origin)
    ranks = options.get("devices", 1)
    rank = int(os.environ["RANK"]) if ranks > 1 else 0
    data = rows(lm, TEXTS)
    windows = [data[at : at + batch][rank::ranks] for at in range(0, len(data), batch)]
    mine = [row for window in windows for row in window]
    module = train(
        lm,
        mine,
        batch=batch // ranks // options.get("accumulate_grad_batches", 1),
        epochs=epochs,
        optimizer=options.pop("optimizer", adamw),
        callbacks=[*options.pop("callbacks", ()), StepLog(history)],
        **options,
    )
    steps = [entry["metrics"] for entry in history]
    return steps, gathered_state(module.model, keep=True), any(isinstance(p, DTensor) for p in module.parameters())


def of_both(folder, work):
    """What two processes brought, which is the same."""
    one, other = two_ranks(folder, work)
    assert not isinstance(one, str), one
    assert not isinstance(other, str), other
    for name, metrics in zip(("first", "second"), (one, other), strict=True):
        assert metrics[2], f"the weights of the {name} process are whole"
    assert [without_speed(step) for step in one[0]] == [without_speed(step) for step in other[0]]
    return one


def without_speed(step):
    return {name: value for name, value in step.items() if "per_second" not in name}


def assert_alike(one, other, steps=12):
    assert len(one[0]) == len(other[0]) == steps
    for step, same in zip(one[0], other[0], strict=True):
        for name in ("train/loss", "train/grad_norm", "train/update_to_weight_ratio"):
            assert step[name] == pytest.approx(same[name], rel=1e-5, abs=1e-5), name
    assert one[1].keys() == other[1].keys()
    for name, weights in one[1].items():
        where = partial("{}: {}".format, name)
        torch.testing.assert_close(weights, other[1][name], rtol=1e-5, atol=1e-5, msg=where)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"tied": True}, {"tied": False}], ids=["tied", "untied"])
@pytest.mark.parametrize("at_targets", [False, True], ids=["all positions", "at targets"])
def test_two_processes_take_the_steps_of_one(tmp_path, options, at_targets):
    both = of_both(tmp_path, lambda: fitted(llama(**options), at_targets=at_targets, **SHARDED))
    assert_alike(both, fitted(llama(**options)))


def test_windows_of_several_micro_batches_take_the_same_steps(tmp_path):
    both = of_both(tmp_path, lambda: fitted(accumulate_grad_batches=3, epochs=1, **SHARDED))
    assert_alike(both, fitted(epochs=1), steps=4)


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 0.5), ("value", 2e-3)])
def test_gradients_are_clipped_as_by_hand(tmp_path, algorithm, limit):
    """One step of plain gradient descent, with the gradient of all rows at once, clipped without Lightning."""
    options = {"gradient_clip_val": limit, "gradient_clip_algorithm": algorithm, "batch": len(TEXTS), "epochs": 1}
    descent = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=1.0)}
    (step,), weights, _ = of_both(tmp_path, lambda: fitted(**options, **descent, **SHARDED))
    lm = llama()
    _, gradients = gradient(lm, rows(lm, TEXTS))
    values = torch.cat([each.flatten() for each in gradients])
    norm = float(values.double().norm())
    assert norm > 2 * limit
    assert step["train/grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert step["train/clipped_fraction"] == 1
    beyond = float((values.abs() > limit).double().mean())
    assert step["train/clipped_element_fraction"] == pytest.approx(beyond if algorithm == "value" else 0, abs=1e-4)
    assert algorithm == "norm" or 0.01 < beyond < 0.99
    for (name, parameter), each in zip(lm.model.named_parameters(), gradients, strict=True):
        clipped = each.clamp(-limit, limit) if algorithm == "value" else each * (limit / norm)
        torch.testing.assert_close(weights[name], parameter.detach() - clipped, rtol=1e-5, atol=1e-6)


def checkpointing(model):
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def adapter(model):
    from truetune.methods.adaptation import Lora

    torch.manual_seed(2)
    return Lora(4, 8.0, 0.0, None, use_rslora=False, use_dora=False).prepare(model)


@pytest.mark.parametrize("prepare", [checkpointing, adapter, lambda model: checkpointing(adapter(model))])
def test_checkpointed_activations_and_adapters_train_as_in_one_process(tmp_path, prepare):
    both = of_both(tmp_path, lambda: fitted(prepare=prepare, at_targets=True, epochs=1, **SHARDED))
    assert_alike(both, fitted(prepare=prepare, epochs=1), steps=4)


@pytest.mark.slow
def test_bf16_mixed_trains_as_in_one_process(tmp_path):
    both = of_both(tmp_path, lambda: fitted(precision="bf16-mixed", **SHARDED))
    assert all(weights.dtype == torch.float32 for weights in both[1].values())
    losses, whole = ([step["train/loss"] for step in run[0]] for run in (both, fitted(precision="bf16-mixed")))
    assert losses == pytest.approx(whole, rel=5e-3)
    assert losses[-1] < losses[0] - 0.3


def test_one_process_alone_takes_the_same_steps(tmp_path):
    (alone,) = two_ranks(tmp_path, lambda: fitted(strategy="fsdp", devices=1, epochs=1), ranks=1)
    assert alone[2]
    assert_alike(alone, fitted(epochs=1), steps=4)
