"""Where a fine-tune has changed a model, against changes made by hand."""

import pytest
import torch
from training.small import language_model

from truetune.models.weight_change import change_by_layer, effective_rank, layer_of


def test_the_effective_rank_counts_directions():
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(8, 8))
    for count in (1, 3, 8):
        assert effective_rank(q[:, :count] @ torch.randn(count, count).qr()[0] @ q[:count]) == pytest.approx(
            count, rel=1e-4
        )
    values = torch.tensor([3.0, 1.0])
    shares = values / values.sum()
    expected = float((-(shares * shares.log()).sum()).exp())
    for matrix in (torch.diag(values), torch.nn.functional.pad(torch.diag(values), (0, 5))):
        assert effective_rank(matrix) == pytest.approx(expected, rel=1e-5)


def test_the_change_is_counted_where_it_was_made():
    model = language_model().model
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    assert {of["relative_norm"] for of in change_by_layer(start, model).values()} == {0.0}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layers.0." in name:
                parameter.mul_(1.25)
    changed = change_by_layer(start, model)
    assert {*changed} == {"before", "0", "behind"}
    assert changed["0"]["relative_norm"] == pytest.approx(0.25, rel=1e-4)
    assert changed["before"] == {"relative_norm": 0.0}
    assert changed["0"]["effective_rank"] > 3


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.12.mlp.up_proj.weight", "12"),
        ("transformer.h.3.attn.c_attn.weight", "3"),
        ("model.embed_tokens.weight", "before"),
        ("transformer.wte.weight", "before"),
        ("lm_head.weight", "behind"),
        ("model.norm.weight", "behind"),
    ],
)
def test_a_parameter_is_of_a_layer(name, layer):
    assert layer_of(name) == layer
