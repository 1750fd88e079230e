"""How answers are decoded is decided here, whatever the model's own generation_config.json asks for."""

import pytest
import torch
from training.small import language_model

from truetune.probes.decoding import greedy_answers

PROMPTS = ["w1", "w2 w3 w4 w5 w6 w7 w8 w9", "w0 w0", "w9 w8 w7", "w5 w5 w5 w5 w5"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.1),
        ("top_k", 1),
        ("repetition_penalty", 50.0),
        ("no_repeat_ngram_size", 1),
        ("suppress_tokens", [5, 6, 7, 8]),
        ("num_beams", 3),
    ],
)
def test_greedy_is_greedy_whatever_the_model_asks_for(name, value):
    lm = language_model()
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(8)  # sharper, so that answers differ
    plain = [answer.text for answer in greedy_answers(lm, PROMPTS, max_new_tokens=6, batch_size=5)]
    setattr(lm.model.generation_config, name, value)
    assert [answer.text for answer in greedy_answers(lm, PROMPTS, max_new_tokens=6, batch_size=5)] == plain
