"""Objectives satisfy their definitions."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from training.small import bound, language_model, rows

from truetune.data.batch import collate
from truetune.methods.keep_close import KlToBase, L2Sp, pull
from truetune.models.frozen import Frozen
from truetune.models.logits import kl_nats
from truetune.training.objectives import Micro, NextToken


def micro(lm, data, weight=1.0):
    batch = collate(data, 0)
    logits = lm.model(input_ids=batch["input_ids"], use_cache=False).logits
    return Micro(lm.model, logits, batch["labels"], batch["input_ids"], batch["attention_mask"], batch["weights"])


def test_nll_of_three_tokens_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]]))
    labels = torch.tensor([[-100, 1, 2]])
    one = Micro(torch.nn.Identity(), logits, labels, labels, labels, torch.ones(1, 3))
    # Position 0 predicts token 1, position 1 predicts token 2; the last position predicts nothing.
    assert float(NextToken()(one)) == pytest.approx(-torch.log(torch.tensor(0.25 * 0.1)).item())
    assert int(one.target_tokens) == 2


def test_nll_equals_that_of_transformers():
    lm = language_model()
    data = rows(lm)
    batch = collate(data, 0)
    own = NextToken()(micro(lm, data))
    theirs = lm.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    assert float(own) == pytest.approx(float(theirs) * int((batch["labels"] != -100).sum()), rel=1e-5)


def test_neither_prompt_nor_padding_is_learnt():
    lm = language_model()
    data = rows(lm, ["w1 w2", "w3 w4 w5 w6"])
    batch = collate(data, 0)
    targets = [[int(t) for t in row if t != -100] for row in batch["labels"]]
    assert targets == [row.input_ids[row.prompt_length :] for row in data]
    alone = sum(float(NextToken()(micro(lm, [row]))) for row in data)
    assert float(NextToken()(micro(lm, data))) == pytest.approx(alone, rel=1e-5)


def test_what_stands_at_other_positions_changes_neither_loss_nor_gradient():
    lm = language_model()
    one = micro(lm, rows(lm))
    assert not one.is_target_BT[:, 0].any(), "the prompt's positions are among the others"
    logits = one.logits_BTV.detach().clone().requires_grad_()
    before = NextToken()(replace(one, logits_BTV=logits))
    (gradient,) = torch.autograd.grad(before, logits)
    assert (gradient[:, :-1][one.is_target_BT].abs().sum(-1) > 0).all()
    assert torch.equal(gradient[:, :-1][~one.is_target_BT], torch.zeros_like(gradient[:, :-1][~one.is_target_BT]))
    moved = logits.detach().clone()
    moved[:, :-1][~one.is_target_BT] += 1e4
    moved[:, -1] -= 1e4
    assert torch.equal(NextToken()(replace(one, logits_BTV=moved)), before.detach())


@pytest.mark.parametrize("pad", [0, 2, 7])
def test_the_pad_token_does_not_matter_even_if_it_is_the_end_token(pad):
    lm = language_model()
    assert lm.tokenizer.eos_token_id == 2
    batch = collate(rows(lm), pad)
    ends = [row[row != -100][-1].item() for row in batch["labels"]]
    assert ends == [2] * len(ends), "the end is learnt"

    def found(batch):
        logits = lm.model(input_ids=batch["input_ids"], use_cache=False).logits
        one = Micro(lm.model, logits, batch["labels"], batch["input_ids"], batch["attention_mask"], batch["weights"])
        loss = NextToken()(one)
        return loss.detach(), torch.autograd.grad(loss, list(lm.model.parameters()))

    torch.testing.assert_close(found(batch), found(collate(rows(lm), 1)))


def test_kl_is_that_of_torch_and_zero_for_equals():
    p, q = torch.randn(50, 7), torch.randn(50, 7)
    torch.testing.assert_close(kl_nats(p, q), kl_divergence(Categorical(logits=p), Categorical(logits=q)))
    assert float(kl_nats(p, p).abs().max()) < 1e-6
    assert float(kl_nats(p, q).min()) >= 0


def test_kl_to_base_starts_at_zero_and_looks_at_targets_alone():
    lm = language_model()
    reference = Frozen(lm.copy().model)
    objective = bound(KlToBase(weight=1.0), reference)
    assert float(objective(micro(lm, rows(lm)))) == pytest.approx(0, abs=1e-5)
    one = micro(lm, rows(lm))
    moved = one.logits_BTV.detach().clone()
    moved[:, :-1][~one.is_target_BT] += torch.randn_like(moved[:, :-1][~one.is_target_BT])
    masked = Micro(lm.model, moved, one.labels_BT, one.input_ids_BT, one.attention_mask_BT, one.weights_BT)
    assert float(objective(masked)) == pytest.approx(0, abs=1e-5)
    assert float(bound(KlToBase(weight=1.0, positions="all"), reference)(masked)) > 0.01


def test_l2_sp_by_hand():
    lm = language_model()
    objective = bound(L2Sp(weight=2.0), Frozen(lm.copy().model))
    with torch.no_grad():
        next(iter(lm.model.parameters())).add_(0.1)
    one = micro(lm, rows(lm))
    moved = next(iter(lm.model.parameters())).numel() * 0.01
    assert float(objective(one) / one.target_tokens) == pytest.approx(moved / 2, rel=1e-4)


def test_the_gradient_of_l2_sp_is_the_way_back_to_the_base():
    lm = language_model()
    reference = Frozen(lm.copy().model)
    start = [value.clone() for value in reference.parameters().values()]
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(torch.randn_like(parameter))
    one = micro(lm, rows(lm))
    gradients = torch.autograd.grad(bound(L2Sp(1.0), reference)(one) / one.target_tokens, list(lm.model.parameters()))
    torch.testing.assert_close(
        list(gradients), [p.detach() - s for p, s in zip(lm.model.parameters(), start, strict=True)]
    )


def test_l2_sp_pulls_trained_weights_alone():
    lm = language_model()
    first, *others = lm.model.parameters()
    for parameter in others:
        parameter.requires_grad_(False)
    objective = bound(L2Sp(1.0), Frozen(lm.copy().model))
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(1.0)
    one = micro(lm, rows(lm))
    assert float(objective(one) / one.target_tokens) == pytest.approx(first.numel() / 2)


def test_start_and_importance_are_moved_to_the_model_once():
    lm = language_model()
    lm.model.to("meta")
    start, importance = (dict(language_model().model.named_parameters()) for _ in range(2))
    one, seen = Micro(lm.model, *[torch.zeros(1, 2, device="meta")] * 5), []
    for _ in range(2):
        pull(one, start, importance)
        seen.append([*start.values(), *importance.values()])
    assert {value.device.type for value in seen[0]} == {"meta"}
    assert all(first is second for first, second in zip(*seen, strict=True))


def test_the_reference_is_frozen_and_nobodys_parameter():
    lm = language_model()
    reference = Frozen(lm.copy().model)
    module = torch.nn.Module()
    module.model, module.reference = lm.model, reference
    assert all(name.startswith("model.") for name in module.state_dict())
    before = {name: value.clone() for name, value in reference.parameters().items()}
    NextToken()(micro(lm, rows(lm))).backward()
    assert all(value.grad is None for value in reference.parameters().values())
    with torch.no_grad():
        next(iter(lm.model.parameters())).add_(1.0)
    assert all(torch.equal(before[name], value) for name, value in reference.parameters().items())
