"""Which weights move, and how far."""

from dataclasses import replace

import pytest
import torch
from training.small import language_model, rows, train

from truetune.data.batch import collate
from truetune.errors import UserError
from truetune.methods.adaptation import Freeze, Interpolate, Lora, Trained


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

    kept = {}
    Interpolate([0.0, 0.25, 0.5, 1.0]).finish(Trained(lm.model, start, score, lambda _: None, kept.__setitem__))
    assert kept["interpolation"]["alpha"] == [0.0, 0.25, 0.5, 1.0]
    assert (
        max(kept["interpolation"]["val/score"]) == kept["interpolation"]["val/score"][[0.0, 0.25, 0.5, 1.0].index(best)]
    )
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


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_the_line_are_the_models_themselves(alpha):
    lm = language_model()
    start = weights(lm.model)
    train(lm, rows(lm))
    end = weights(lm.model)
    done = Interpolate([alpha]).finish(Trained(lm.model, start, lambda: 0.0, lambda _: None))
    expected = end if alpha else start
    assert all(torch.equal(value, expected[name]) for name, value in weights(done).items())
    assert not all(torch.equal(start[name], end[name]) for name in start)


def test_every_point_is_scored_where_it_stands_and_said():
    lm, said, seen = language_model(), [], []
    start = weights(lm.model)
    train(lm, rows(lm))
    end = weights(lm.model)
    name = next(iter(start))

    def score():
        seen.append(weights(lm.model)[name])
        return [0.2, 0.7, 0.1][len(seen) - 1]

    Interpolate([0.0, 0.5, 1.0]).finish(Trained(lm.model, start, score, said.append))
    torch.testing.assert_close(seen, [torch.lerp(start[name], end[name], alpha) for alpha in (0.0, 0.5, 1.0)])
    torch.testing.assert_close(weights(lm.model)[name], seen[1])
    assert len(said) == 1
    assert "0: 0.200, 0.5: 0.700, 1: 0.100; 0.5 is kept" in said[0]


@pytest.mark.parametrize(("rslora", "dora"), [(False, False), (True, False), (False, True)])
def test_a_trained_adapter_merges_to_a_plain_model_of_the_same_answers(rslora, dora):
    pytest.importorskip("peft")
    lm = language_model()
    base, kind = weights(lm.model), type(lm.model)
    adaptation = Lora(2, 4, 0.0, ["q_proj", "down_proj"], rslora, dora)
    adapted = replace(lm, model=adaptation.prepare(lm.model))
    train(adapted, rows(lm), batch=3, epochs=3)
    batch = collate(rows(lm), 0)["input_ids"]
    adapted.model.eval()
    with torch.no_grad():
        before = adapted.model(input_ids=batch).logits
        merged = adaptation.finish(Trained(adapted.model, {}, lambda: 0.0, print))
        torch.testing.assert_close(merged(input_ids=batch).logits, before, rtol=1e-4, atol=1e-5)
    assert type(merged) is kind
    moved = {name for name, value in weights(merged).items() if not torch.equal(value, base[name])}
    assert {name.split(".")[-2] for name in moved} == {"q_proj", "down_proj"}
