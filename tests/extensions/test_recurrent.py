"""Recurrent language models: padding never touches the state, and generation carries it on."""

import pytest
import torch
from training.small import PRETRAINING, WORDS

from truetune.extensions.recurrent import CELLS, TinyRecurrent
from truetune.models.pretrained import Pretrained
from truetune.probes.decoding import greedy_answers


def made(cell):
    builder = TinyRecurrent(
        seed=1, hidden_size=16, layers=2, context_length=32, vocabulary_size=300, pretraining=PRETRAINING,
        cell=cell, dropout=0.0,
    )  # fmt: skip
    return builder.build(builder.tokenizer(words=WORDS), "digest", "made")


@pytest.fixture(params=CELLS)
def lm(request):
    return made(request.param)


@torch.no_grad()
def test_padding_on_either_side_changes_nothing(lm):
    ids, real = torch.randint(3, 12, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    alone = lm.model(ids).logits
    pad = torch.zeros(3, 4, dtype=torch.long)
    left = lm.model(torch.cat([pad, ids], 1), attention_mask=torch.cat([pad, real], 1)).logits[:, 4:]
    right = lm.model(torch.cat([ids, pad], 1), attention_mask=torch.cat([real, pad], 1)).logits[:, :7]
    torch.testing.assert_close(left, alone)
    torch.testing.assert_close(right, alone)


@torch.no_grad()
def test_batched_answers_are_those_of_the_model_run_over_the_whole_text_each_time(lm):
    prompts = [" ".join(WORDS[:3]), WORDS[4], " ".join(WORDS[2:7])]
    answers = greedy_answers(lm, prompts, max_new_tokens=5, batch_size=3)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [lm.tokenizer.bos_token_id, *lm.tokenizer(prompt, add_special_tokens=False).input_ids]
        said = []
        while len(said) < 5:
            best = int(lm.model.eval()(torch.tensor([ids + said])).logits[0, -1].argmax())
            if best == lm.tokenizer.eos_token_id:
                break
            said.append(best)
        assert answer.text == lm.tokenizer.decode(said, skip_special_tokens=True).strip()


@torch.no_grad()
def test_a_saved_one_is_loaded_as_any_other_model(lm, tmp_path):
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    loaded = Pretrained(str(tmp_path)).load()
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(loaded.model.eval()(ids).logits, lm.model.eval()(ids).logits)
    assert loaded.context_length == 32


def test_the_architecture_is_part_of_the_content_hash():
    assert len({TinyRecurrent(1, 16, 2, 32, 300, PRETRAINING, cell, 0.0).content("corpus") for cell in CELLS}) == 3
