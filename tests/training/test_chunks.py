"""The loss made piece by piece, or at the targets only: the same loss and gradient, and never all logits."""

from dataclasses import replace

import pytest
import torch
from training.small import bound, gradient, language_model, recording, rows, train
from transformers import Gemma2Config, Gemma2ForCausalLM

from truetune.data.batch import collate, collate_packed
from truetune.data.packing import pack
from truetune.errors import UserError
from truetune.methods.adaptation import Lora
from truetune.methods.keep_close import KlToBase, L2Sp
from truetune.models.frozen import Frozen
from truetune.models.logits import body, forward, head, parts_into_head, states
from truetune.training.objectives import NextToken


def step(lm, chunk, data=None, **options):
    seen = []
    data = data or rows(lm)
    module = train(lm, data, objectives=[NextToken(chunk=chunk)], optimizer=recording(seen), **options)
    return module.window_loss, seen[0][1]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("batch", [2, 9])
def test_loss_and_gradient_are_those_of_all_logits_at_once(chunk, batch):
    weighted = [replace(row, weight=0.5 + index % 2) for index, row in enumerate(rows(language_model()))]
    options = {"batch": batch, "accumulate_grad_batches": 5}
    expected = step(language_model(), None, weighted, **options)
    torch.testing.assert_close(step(language_model(), chunk, weighted, **options), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_without_targets_adds_nothing():
    lm = language_model()
    silent = [replace(row, prompt_length=len(row.input_ids)) for row in rows(lm)[:3]]
    data = [*silent, *rows(lm)[3:6]]
    options = {"batch": 3, "accumulate_grad_batches": 2}
    torch.testing.assert_close(step(lm, 2, data, **options), step(language_model(), None, data, **options))


def test_no_more_logits_are_held_than_were_asked_for(monkeypatch):
    lm, sizes = language_model(), []
    lm.model.lm_head.register_forward_hook(lambda module, inputs, logits: sizes.append(logits.numel() // 16))
    step(lm, 4, batch=9)
    # The first two passes are the check's.
    assert max(sizes[2:]) == 4
    assert len(sizes[2:]) == 2 * -(-sum(row.target_tokens for row in rows(lm)) // 4), "each again for its gradient"


def test_logits_at_the_targets_only_give_the_loss_and_gradient_of_all():
    lm, sizes, seen = language_model(), [], []
    loss, expected = gradient(lm, rows(lm))
    lm.model.lm_head.register_forward_hook(lambda module, inputs, logits: sizes.append(logits.numel() // 16))
    module = train(lm, rows(lm), at_targets=True, optimizer=recording(seen), gradient_clip_val=None)
    assert sizes[2:] == [sum(row.target_tokens for row in rows(lm))]  # the first two passes are the check's
    torch.testing.assert_close(torch.tensor(module.window_loss, dtype=loss.dtype), loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(seen[0][1], list(expected), rtol=1e-6, atol=1e-6)


def test_what_needs_all_logits_gets_them():
    lm, shapes = language_model(), []
    objectives = [NextToken(), bound(KlToBase(1.0), Frozen(lm.copy().model))]
    lm.model.lm_head.register_forward_hook(lambda module, inputs, logits: shapes.append(logits.ndim))
    train(lm, rows(lm), objectives=objectives, at_targets=True)
    assert shapes == [3]


@pytest.mark.slow
def test_a_compiled_body_gives_the_same_step():
    options = {"objectives": [NextToken(chunk=3)], "batch": 9}
    seen, compiled = [], []
    train(language_model(), rows(language_model()), optimizer=recording(seen), **options)
    train(language_model(), rows(language_model()), optimizer=recording(compiled), compiled=True, **options)
    torch.testing.assert_close(compiled[0][1], seen[0][1], rtol=1e-4, atol=1e-5)


def test_packed_rows_and_adapters():
    lm = language_model()
    for batch in (collate(rows(lm), 0), collate_packed(pack(rows(lm)), 0)):
        arguments = (batch["input_ids"], batch.get("position_ids"))
        parted = head(lm.model)(states(body(lm.model), *arguments))
        torch.testing.assert_close(parted, forward(lm.model, *arguments))
    pytest.importorskip("peft")
    adapted = Lora(2, 4, 0.0, None, False, False).prepare(lm.model)
    assert parts_into_head(adapted)
    loss, gradients = step(replace(lm, model=adapted), 3)
    assert loss > 0
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_a_model_that_caps_its_logits_is_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma2Config(vocab_size=32, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.05, **sizes)
    lm = replace(language_model(), model=Gemma2ForCausalLM(config))
    with pytest.raises(UserError, match=r"objective\.next_token\.chunk: Gemma2ForCausalLM does more than"):
        train(lm, rows(lm), objectives=[NextToken(chunk=4)])
    assert train(lm, rows(lm), at_targets=True).window_loss > 0


def test_what_needs_all_logits_is_refused_beside_it():
    lm = language_model()
    base = Frozen(lm.copy().model)
    with pytest.raises(UserError, match="KlToBase needs all logits at once"):
        train(lm, rows(lm), objectives=[NextToken(chunk=4), bound(KlToBase(1.0), base)])
    train(lm, rows(lm), objectives=[NextToken(chunk=4), bound(L2Sp(1.0), base)])


def test_the_interpolation_of_a_model_in_half_precision():
    from truetune.methods.adaptation import Interpolate, Trained

    lm = language_model()
    start = {name: value.detach().clone() for name, value in lm.model.named_parameters()}
    lm.model.to(torch.bfloat16)
    done = Interpolate([0.5]).finish(Trained(lm.model, start, lambda: 0.0, lambda _: None))
    assert done.dtype == torch.bfloat16
