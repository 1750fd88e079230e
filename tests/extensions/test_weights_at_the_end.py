"""What becomes of the weights that training has changed, and which of them may change at all."""

import pytest
import torch
from command_line import TINY_WORLD, refused
from training.small import language_model, rows, train

from truetune.errors import UserError
from truetune.extensions.lines import Lines
from truetune.extensions.seat import Sparse
from truetune.extensions.top_k_reset import TopKReset
from truetune.methods.adaptation import Lora, Trained
from truetune.models.tiny import PretrainingSettings, Tiny
from truetune.models.tokenizers import word_level


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def trained(lm, adaptation=None, say=print):
    start = weights(lm.model)
    train(lm, rows(lm), epochs=3)
    return Trained(lm.model, start, lambda: 0.0, say)


def test_the_largest_changes_of_each_tensor_are_undone():
    lm = language_model()
    after = trained(lm)
    end = weights(lm.model)
    TopKReset(share=0.08).finish(after)
    for name, value in weights(lm.model).items():
        change = (end[name] - after.start[name]).abs().flatten()
        count = round(0.08 * change.numel())
        order = change.argsort(descending=True)
        undone, kept = order[:count], order[count:]
        assert torch.equal(value.flatten()[kept], end[name].flatten()[kept])
        assert torch.equal(value.flatten()[undone], after.start[name].flatten()[undone])


def test_the_change_of_a_layer_is_scaled_by_its_depth():
    settings = PretrainingSettings(1, 1e-3, 0, 0.0, 1.0)
    lm = Tiny(0, 16, 3, 32, 300, settings, intermediate_size=16, heads=2).build(
        word_level([f"w{n}" for n in range(12)]), "digest", "test"
    )
    after = trained(lm)
    end = weights(lm.model)
    Lines(alpha=0.2, beta=0.6).finish(after)
    scales = {"layers.0.": 0.2, "layers.1.": 0.5, "layers.2.": 0.8}
    seen = set()
    for name, value in weights(lm.model).items():
        scale = next((scale for part, scale in scales.items() if part in name), 0.2)
        seen.add(scale)
        torch.testing.assert_close(value, after.start[name] + scale * (end[name] - after.start[name]))
    assert seen == {0.2, 0.5, 0.8}


def test_only_a_share_of_each_tensor_is_trained():
    lm = language_model()
    before = weights(lm.model)
    torch.manual_seed(0)
    sparse = Sparse(share=0.25)
    sparse.prepare(lm.model)
    train(lm, rows(lm), epochs=3, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0))
    after = weights(lm.model)
    moved = torch.cat([(after[name] != before[name]).flatten() for name in before])
    assert 0.1 < float(moved.float().mean()) < 0.3
    sparse.finish(Trained(lm.model, before, lambda: 0.0, print))
    train(lm, rows(lm), epochs=3, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0))
    again = weights(lm.model)
    more = torch.cat([(again[name] != before[name]).flatten() for name in before])
    assert float(more.float().mean()) > 0.5


def test_weight_decay_would_move_the_other_weights():
    message = refused(*TINY_WORLD, "method=seat", "optimizer.weight_decay=0.1")
    assert message.startswith("adaptation.sparse: optimizer.weight_decay=0.1 moves every weight; ")


def test_intruding_directions_are_reduced_as_peft_does_it():
    pytest.importorskip("peft")
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    def adapted(intruders):
        torch.manual_seed(0)
        adaptation = Lora(2, 4, 0.0, None, False, False, intruders)
        model = adaptation.prepare(language_model().model)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=3.0)
        return adaptation, model

    lines = []
    adaptation, model = adapted(0.75)
    ours = adaptation.finish(Trained(model, {}, lambda: 0.0, lines.append)).state_dict()
    _, other = adapted(None)
    reduce_intruder_dimension(other, mitigation_lambda=0.75, logging_sink=None)
    theirs = other.merge_and_unload().state_dict()
    plain, unreduced = adapted(None)
    whole = plain.finish(Trained(unreduced, {}, lambda: 0.0, print)).state_dict()
    assert {*ours} == {*theirs}
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])
    assert any(not torch.allclose(ours[name], whole[name], atol=1e-3) for name in ours)
    assert lines[0].startswith("lora: intruding directions in ")
    assert (plain.keeps_adapter, adaptation.keeps_adapter) == (True, False)


def test_weights_of_four_bits_have_no_directions_to_reduce():
    model = type("Quantised", (), {"hf_quantizer": None})()
    with pytest.raises(UserError, match="leave it out"):
        Lora(2, 4, 0.0, None, False, False, 0.75).prepare(model)
