"""Lightning's Trainer clips, and what is logged is what clipping did: against gradients computed without it."""

import pytest
import torch
from training.small import Recording, gradient, language_model, recording, rows, train

from truetune.training.clipping import gradient_statistics, update_ratio


def norm(gradients):
    return torch.sqrt(sum(g.pow(2).sum() for g in gradients))


@pytest.fixture
def setting():
    lm = language_model()
    data = rows(lm)
    return lm, data, gradient(lm, data)[1]


def test_without_clipping_the_optimizer_gets_the_gradient_itself(setting):
    lm, data, expected = setting
    seen = []
    module = train(lm, data, optimizer=recording(seen))
    torch.testing.assert_close(seen[0][1], list(expected), rtol=1e-4, atol=1e-6)
    assert module.gradients.norm == pytest.approx(float(norm(expected)), rel=1e-4)
    assert not module.gradients.clipped


def test_by_norm_the_whole_gradient_is_rescaled(setting):
    lm, data, expected = setting
    limit, seen = 0.5 * float(norm(expected)), []
    module = train(lm, data, optimizer=recording(seen), gradient_clip_val=limit, gradient_clip_algorithm="norm")
    torch.testing.assert_close(seen[0][1], [g * 0.5 for g in expected], rtol=1e-3, atol=1e-6)
    assert module.gradients.norm == pytest.approx(float(norm(expected)), rel=1e-4)  # before clipping
    assert module.gradients.clipped


def test_a_norm_below_the_limit_changes_nothing(setting):
    lm, data, expected = setting
    seen = []
    module = train(lm, data, optimizer=recording(seen), gradient_clip_val=1e6, gradient_clip_algorithm="norm")
    torch.testing.assert_close(seen[0][1], list(expected), rtol=1e-4, atol=1e-6)
    assert not module.gradients.clipped


def test_by_value_every_element_is_clamped(setting):
    lm, data, expected = setting
    everything = torch.cat([g.flatten() for g in expected])
    limit, seen = float(everything.abs().quantile(0.9)), []
    module = train(lm, data, optimizer=recording(seen), gradient_clip_val=limit, gradient_clip_algorithm="value")
    torch.testing.assert_close(seen[0][1], [g.clamp(-limit, limit) for g in expected], rtol=1e-4, atol=1e-6)
    assert module.gradients.clipped_elements == pytest.approx(0.1, abs=0.01)


def test_statistics_of_hand_made_gradients():
    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([3.0, -4.0, 0.0, 0.0])
    assert gradient_statistics([parameter], None, "norm").norm == 5.0
    assert gradient_statistics([parameter], 4.9, "norm").clipped
    assert not gradient_statistics([parameter], 5.1, "norm").clipped
    assert gradient_statistics([parameter], 3.5, "value").clipped_elements == 0.25


def test_update_ratio_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    before = [parameter.detach().clone()]
    parameter.grad = torch.tensor([1.0, 0.0])
    optimizer = Recording([parameter], lr=0.5)
    optimizer.seen = []
    optimizer.step()
    assert update_ratio([parameter], before) == pytest.approx(0.5 / 5.0)
