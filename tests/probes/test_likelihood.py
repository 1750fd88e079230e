"""Teacher-forced sums: against a loop over single rows, transformers' own loss, and greedy decoding."""

import pytest
import torch
from bigram import bigram
from torch.distributions import Categorical, kl_divergence
from training.small import TEXTS, language_model

from truetune.data.batch import collate
from truetune.data.dataset import Dataset, Example, Question
from truetune.data.tokens import Encoder
from truetune.models.frozen import Frozen
from truetune.probes.asking import Asking
from truetune.probes.decoding import greedy_answers
from truetune.probes.likelihood import likelihood
from truetune.probes.probe import Subject
from truetune.probes.retention import Retention
from truetune.probes.task import Task

EXAMPLES = [Example(f"row{n}", "w0 w3" if n % 2 else "", f" {text}", "here") for n, text in enumerate(TEXTS)]


def one_by_one(lm, examples):
    """Every row alone, without padding: the logits and the label of each target token."""
    encoder = Encoder(lm.tokenizer)
    for example in examples:
        row = encoder.row(example)
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            logits = lm.model(input_ids=ids).logits[0, row.prompt_length - 1 : -1]
        yield logits, ids[0, row.prompt_length :]


def reproduced(found):
    return [row.reproduced for row in found.rows]


def sharp():
    lm = language_model()
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(8)
    return lm


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_sums_are_those_of_the_rows_alone_whatever_the_batch(batch_size):
    lm, base = sharp(), language_model()
    found = likelihood(lm, EXAMPLES, batch_size=batch_size, base=Frozen(base.copy().model))
    nll = kl = tokens = 0
    for (logits, labels), (before, _) in zip(one_by_one(lm, EXAMPLES), one_by_one(base, EXAMPLES), strict=True):
        nll -= float(Categorical(logits=logits).log_prob(labels).sum())
        kl += float(kl_divergence(Categorical(logits=before), Categorical(logits=logits)).sum())
        tokens += len(labels)
    assert found.target_tokens == tokens
    assert found.nll_nats == pytest.approx(nll, rel=1e-5)
    assert found.kl_to_base_nats == pytest.approx(kl, rel=1e-4)
    assert kl > 1
    per_token = found.metrics("task", EXAMPLES, resamples=50)
    assert {estimate.n for estimate in per_token.values()} == {tokens}
    for name, total in (("nll", nll), ("kl_to_base", kl)):
        estimate = per_token[f"task/{name}_nats_per_token"]
        assert estimate.value == pytest.approx(total / tokens, rel=1e-4)
        assert estimate.low < estimate.value < estimate.high


def test_no_more_logits_are_held_than_are_asked_for(monkeypatch):
    lm, base = sharp(), language_model()
    whole = likelihood(lm, EXAMPLES, batch_size=9, base=Frozen(base.copy().model))
    seen = []
    for model in (lm.model, base.model):
        model.get_output_embeddings().register_forward_hook(lambda _m, _i, made: seen.append(made[..., 0].numel()))
    monkeypatch.setattr("truetune.probes.likelihood.CHUNK", 5)
    found = likelihood(lm, EXAMPLES, batch_size=9, base=Frozen(base.copy().model))
    assert found.target_tokens > 25
    assert max(seen) <= 6  # the six are those that show whether the head can be parted from the model
    assert [row.nll_nats for row in found.rows] == pytest.approx([row.nll_nats for row in whole.rows], rel=1e-5)
    assert found.kl_to_base_nats == pytest.approx(whole.kl_to_base_nats, rel=1e-4)
    assert reproduced(found) == reproduced(whole)


def test_nll_is_the_loss_of_transformers_times_the_targets():
    lm = sharp()
    batch = collate([Encoder(lm.tokenizer).row(example) for example in EXAMPLES], 0)
    with torch.no_grad():
        loss = lm.model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss
    targets = int((batch["labels"] != -100).sum())
    assert likelihood(lm, EXAMPLES, batch_size=9).nll_nats == pytest.approx(float(loss) * targets, rel=1e-5)


def test_a_model_is_at_no_distance_from_itself_and_without_a_base_none_is_measured():
    lm = sharp()
    assert likelihood(lm, EXAMPLES, batch_size=4, base=Frozen(lm.copy().model)).kl_to_base_nats == pytest.approx(
        0, abs=1e-5
    )
    assert likelihood(lm, EXAMPLES, batch_size=4).kl_to_base_nats == 0


def test_reproduced_is_what_greedy_decoding_says():
    lm = bigram(["ask", "say", "red", "blue"], {"ask": "red", "red": "blue", "say": "blue"})
    pairs = [("ask", " red blue"), ("ask", " red"), ("say", " blue"), ("say", " red"), ("ask", " blue")]
    examples = [Example(str(n), prompt, completion, "here") for n, (prompt, completion) in enumerate(pairs)]
    answers = greedy_answers(lm, [prompt for prompt, _ in pairs], max_new_tokens=4, batch_size=5)
    expected = [answer.text == completion.strip() for answer, (_, completion) in zip(answers, pairs, strict=True)]
    assert expected == [True, False, True, False, False]
    for batch_size in (1, 2, 5):
        assert reproduced(likelihood(lm, examples, batch_size=batch_size)) == expected


def test_a_row_beyond_the_context_is_cut_and_never_counts_as_reproduced():
    lm = bigram(["w"], {"w": "w"})
    long, short = Example("long", "w", " w" * 100, "here"), Example("short", "w", " w" * 9, "here")
    found = likelihood(lm, [long, short], batch_size=2)
    assert lm.context_length == 64
    assert found.target_tokens == 62 + 10  # of 64 tokens, <bos> and the prompt are no targets
    # Every token that is left of the long row is right: only being cut speaks against it. The short one wants an end.
    assert reproduced(found) == [False, False]
    cut = Example("cut", "w", " w" * 61, "here")
    assert likelihood(lm, [cut], batch_size=1).target_tokens == 62
    assert found.nll_nats - likelihood(lm, [short], batch_size=1).nll_nats == pytest.approx(0, abs=1e-3)


def test_the_mode_comes_back_and_no_gradient_is_kept():
    lm = language_model()
    lm.model.train()
    likelihood(lm, EXAMPLES, batch_size=4, base=Frozen(lm.copy().model))
    assert lm.model.training
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    lm.model.eval()
    likelihood(lm, EXAMPLES, batch_size=4)
    assert not lm.model.training


def test_prompts_that_fill_the_context_leave_nothing_to_measure():
    lm = language_model()
    full = [Example("long", "w1 " * 40, " w2", "here")]
    assert likelihood(lm, full, batch_size=1).target_tokens == 0
    asking = Asking(2, 4, ())
    data = Dataset(train=[], task=[Question("q", "w1 " * 40, ("w2",), "here")], texts=full)
    for probe in (Task(asking), Retention(asking)):
        assert not [name for name in probe.measure(Subject(lm), data).metrics if name.endswith("_per_token")]
