"""Which weights move, and how far."""

import pytest
import torch
from training.small import language_model, rows, train

from truetune.data.tokens import collate
from truetune.errors import UserError
from truetune.models.adaptation import Freeze, Interpolate, Lora, Trained


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_frozen_parameters_stay_and_the_others_move():
    lm = language_model()
    before = weights(Freeze(["*embed_tokens*"]).prepare(lm.model))
    train(lm, rows(lm))
    moved = {name for name, value in weights(lm.model).items() if not torch.equal(value, before[name])}
    assert moved
    assert not any("embed_tokens" in name for name in moved)
    done = Freeze(["*"]).finish(Trained(lm.model, before, lambda: 0.0, print))
    assert all(p.requires_grad for p in done.parameters())


@pytest.mark.parametrize(("pattern", "said"), [("nope*", "matches no parameter"), ("*", "freezes every parameter")])
def test_a_pattern_that_freezes_nothing_or_all_is_refused(pattern, said):
    with pytest.raises(UserError, match=said):
        Freeze([pattern]).prepare(language_model().model)


@pytest.mark.parametrize("best", [0.0, 0.25, 1.0])
def test_interpolation_keeps_the_best_scored_point_of_the_line(best):
    lm = language_model()
    start = weights(lm.model)
    train(lm, rows(lm))
    end = weights(lm.model)
    expected = {name: start[name] + best * (end[name] - start[name]) for name in start}

    def score():
        return -sum(float((p.detach() - expected[name]).norm()) for name, p in lm.model.named_parameters())

    Interpolate([0.0, 0.25, 0.5, 1.0]).finish(Trained(lm.model, start, score, lambda _: None))
    torch.testing.assert_close(weights(lm.model), expected)


def test_lora_trains_few_weights_and_merges_them():
    pytest.importorskip("peft")
    lm = language_model()
    model = Lora(2, 4, 0.0, None, False, False).prepare(lm.model)
    assert all("lora" in name for name, p in model.named_parameters() if p.requires_grad)
    batch = collate(rows(lm), 0)["input_ids"]
    before = model(input_ids=batch).logits.detach()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted = model(input_ids=batch).logits.detach()
    assert not torch.allclose(before, adapted)
    merged = Lora(2, 4, 0.0, None, False, False).finish(Trained(model, {}, lambda: 0.0, print))
    torch.testing.assert_close(merged(input_ids=batch).logits, adapted, rtol=1e-4, atol=1e-4)


def test_lora_names_the_layers_that_exist():
    pytest.importorskip("peft")
    with pytest.raises(UserError, match="q_proj"):
        Lora(2, 4, 0.0, ["nope"], False, False).prepare(language_model().model)
