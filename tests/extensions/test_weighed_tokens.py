"""What is learnt of each token: each objective against its formula, written out token by token."""

import importlib.util
import math

import pytest
import torch
from training.small import bound, language_model, rows, train

from truetune.data.batch import collate
from truetune.extensions.dft import Dft
from truetune.extensions.eaft import Eaft
from truetune.extensions.stm import SelectiveTokens
from truetune.models.frozen import Frozen
from truetune.models.logits import body, head, states
from truetune.training.objectives import Micro, NextToken


def micro_of(lm, *, at_targets=False):
    """Three rows whose weights are 1, 1/2 and 0."""
    batch = collate(rows(lm, ["w1 w2", "w3 w4 w5", "w7"]), 0)
    ids = batch["input_ids"]
    values = states(body(lm.model), ids) if at_targets else lm.model(input_ids=ids, use_cache=False).logits
    weights = torch.tensor([1.0, 0.5, 0.0]).unsqueeze(1).expand_as(ids)
    made = head(lm.model) if at_targets else None
    return Micro(lm.model, values, batch["labels"], ids, batch["attention_mask"], weights, None, made)


def tokens(lm):
    """(p of each token, label, weight) of every target."""
    micro = micro_of(lm)
    for row, place in micro.is_target_BT.nonzero().tolist():
        p = micro.logits_BTV[row, place].detach().softmax(-1)
        yield p, int(micro.labels_BT[row, place + 1]), float(micro.weights_BT[row, place + 1])


def dft(p, label):
    return -float(p[label]) * math.log(float(p[label]))


def eaft(p, label, size=4):
    top = sorted(p.tolist(), reverse=True)[:size]
    shares = [one / sum(top) for one in top]
    entropy = -sum(share * math.log(share) for share in shares)
    return entropy / math.log(size) * -math.log(float(p[label]))


@pytest.fixture
def lm():
    made = language_model()
    made.model.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("at_targets", [False, True])
@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(("objective", "formula"), [(Dft, dft), (lambda **words: Eaft(candidates=4, **words), eaft)])
def test_a_token_counts_as_its_formula_says(lm, objective, formula, chunk, at_targets):
    if chunk and not at_targets:
        pytest.skip("chunks are of states")
    expected = sum(weight * formula(p, label) for p, label, weight in tokens(lm))
    assert float(objective(chunk=chunk)(micro_of(lm, at_targets=at_targets))) == pytest.approx(expected, rel=1e-5)
    assert expected < float(NextToken()(micro_of(lm)))


def test_the_gradient_of_dft_is_that_of_the_probabilities_alone(lm):
    Dft()(micro_of(lm)).backward()
    gradients = [parameter.grad.clone() for parameter in lm.model.parameters()]
    lm.model.zero_grad()
    micro = micro_of(lm)
    chosen = micro.is_target_BT
    p = (
        micro.logits_BTV[:, :-1][chosen]
        .softmax(-1)
        .gather(-1, micro.labels_BT[:, 1:][chosen].unsqueeze(-1))
        .squeeze(-1)
    )
    (-p * micro.weights_BT[:, 1:][chosen]).sum().backward()
    for gradient, parameter in zip(gradients, lm.model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed; the formula is tested above")
def test_dft_is_that_of_trl(lm):
    from trl.trainer.sft_trainer import dft_loss

    micro = micro_of(lm)
    count = micro.is_target_BT.sum()
    ours = Dft()(Micro(micro.model, micro.logits_BTV, *(micro.labels_BT, micro.input_ids_BT), micro.attention_mask_BT,
                       torch.ones_like(micro.weights_BT)))  # fmt: skip
    theirs = dft_loss({"logits": micro.logits_BTV}, micro.labels_BT, num_items_in_batch=count)
    assert float(ours / count) == pytest.approx(float(theirs), rel=1e-5)


def test_eaft_learns_little_where_the_model_is_sure():
    sure, unsure = torch.tensor([[9.0, 0, 0, 0, 0]]), torch.zeros(1, 5)
    label = torch.tensor([1])
    plain = [float(torch.nn.functional.cross_entropy(logits, label)) for logits in (sure, unsure)]
    weighed = [float(Eaft(candidates=5).losses(logits, label)) for logits in (sure, unsure)]
    assert weighed[1] == pytest.approx(plain[1], rel=1e-5)
    assert weighed[0] < 0.01 * plain[0]


def test_stm_leaves_out_what_surprises_the_base(lm):
    base = Frozen(language_model().model)
    micro = micro_of(lm)
    log_p = base.logits(micro.input_ids_BT, micro.attention_mask_BT).log_softmax(-1)
    perplexities, expected = {}, {}
    for row, place in micro.is_target_BT.nonzero().tolist():
        label = micro.labels_BT[row, place + 1]
        perplexities[row, place] = float(log_p[row, place, label].neg().exp())
        nll = -micro.logits_BTV[row, place].log_softmax(-1)[label]
        expected[row, place] = float(nll * micro.weights_BT[row, place + 1])
    for most in (1.001, sorted(perplexities.values())[len(perplexities) // 2], 1e6):
        sought = sum(value for place, value in expected.items() if perplexities[place] <= most * (1 + 1e-6))
        objective = bound(SelectiveTokens(most=most * (1 + 1e-6)), base)
        assert float(objective(micro)) == pytest.approx(sought, rel=1e-5, abs=1e-6)


def test_eaft_learns():
    lm = language_model()
    data = rows(lm)
    before = float(train(language_model(), data, epochs=1).window_loss)
    train(lm, data, epochs=60, objectives=[Eaft()], optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2))
    assert float(train(lm, data, epochs=1).window_loss) < 0.9 * before
