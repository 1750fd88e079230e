"""MC1 and MC2 against the model's own log-likelihoods, computed one answer at a time."""

import math

import pytest
import torch
from training.small import language_model

from truetune.data.dataset import Dataset, Question
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.extensions.multiple_choice import MultipleChoice, choices
from truetune.probes.asking import Asking
from truetune.probes.likelihood import Likelihood, RowScore
from truetune.probes.measure import notes
from truetune.probes.probe import Subject

QUESTIONS = [
    Question("a", "w0 w1", ("w2", "w3 w4"), "here", wrong=("w5", "w6 w7 w8")),
    Question("b", "w3", ("w1 w1",), "here", wrong=("w9",)),
    Question("no alternatives", "w3", ("w1",), "here"),
]
PROBE = MultipleChoice(Asking(4, 3, ()))


def log_likelihood(lm, question, answer):
    encoder = Encoder(lm.tokenizer)
    prompt, rest = encoder.prompt(question), encoder.text(f" {answer}")
    with torch.no_grad():
        logs = lm.model.eval()(torch.tensor([[*prompt, *rest]])).logits[0].log_softmax(-1)
    return sum(float(logs[len(prompt) + place - 1, token]) for place, token in enumerate(rest)), len(rest)


def test_each_answer_counts_with_its_own_likelihood():
    lm = language_model()
    found = PROBE.measure(Subject(lm), Dataset(train=[], hallucination=QUESTIONS))
    mc1, per_token, mc2 = [], [], []
    for asked in QUESTIONS[:2]:
        true, wrong = (
            [log_likelihood(lm, asked.question, text) for text in texts] for texts in (asked.answers, asked.wrong)
        )
        mc1.append(true[0][0] > max(log for log, _ in wrong))
        per_token.append(true[0][0] / true[0][1] > max(log / n for log, n in wrong))
        weights = [[math.exp(log) for log, _ in side] for side in (true, wrong)]
        mc2.append(sum(weights[0]) / (sum(weights[0]) + sum(weights[1])))
    values = {name: estimate.value for name, estimate in found.metrics.items()}
    assert values["multiple_choice/mc1"] == sum(mc1) / 2
    assert values["multiple_choice/mc1_per_token"] == sum(per_token) / 2
    assert values["multiple_choice/mc2"] == pytest.approx(sum(mc2) / 2, rel=1e-5)
    assert [item.id for item in found.items["multiple_choice"]] == ["a", "b"]
    assert all(estimate.n == 2 for estimate in found.metrics.values())


def test_the_letter_of_a_listed_choice_is_no_answer_of_its_own():
    listed = Question("c", "w0\nA. w2\nB. w3", ("w3", "B"), "here", wrong=("w2",))
    assert [row.completion for row in choices(listed)] == [" w3", " w2"]
    found = PROBE.measure(Subject(language_model()), Dataset(train=[], hallucination=[listed]))
    assert found.items["multiple_choice"][0].answer in ("w3", "w2")


@pytest.mark.parametrize("shift", [0, -1000], ids=["as they are", "no underflow"])
@pytest.mark.parametrize(("probabilities", "mc1"), [((0.4, 0.2, 0.3, 0.1), 1), ((0.2, 0.4, 0.3, 0.1), 0)])
def test_hand_computed(monkeypatch, shift, probabilities, mc1):
    """The other true answer is no part of MC1."""
    rows = [RowScore(-math.log(p) - shift, 1, False) for p in probabilities]
    monkeypatch.setattr("truetune.extensions.multiple_choice.likelihood", lambda *_, **__: Likelihood(rows))
    found = PROBE.measure(Subject(language_model()), Dataset(train=[], hallucination=QUESTIONS[:1])).metrics
    assert found["multiple_choice/mc1"].value == found["multiple_choice/mc1_per_token"].value == mc1
    assert found["multiple_choice/mc2"].value == pytest.approx(0.6)


def test_without_alternatives_nothing_is_measured():
    assert not PROBE.measure(Subject(language_model()), Dataset(train=[], hallucination=QUESTIONS[2:])).metrics


def test_a_question_that_is_too_long_loses_its_beginning_for_every_choice_alike():
    lm = language_model()
    words = " ".join(f"w{k % 10}" for k in range(200))
    long = Question("long", words, ("w2",), "asked.jsonl:7", wrong=("w5", "w6 w7 w8"))
    room = lm.context_length - len(Encoder(lm.tokenizer).prefix)
    found = PROBE.measure(Subject(lm), Dataset(train=[], hallucination=[long])).items["multiple_choice"][0]
    scores = [
        log_likelihood(lm, " ".join(words.split()[-room + len(text.split()) :]), text)[0]
        for text in ("w2", *long.wrong)
    ]
    best = max(range(3), key=lambda index: scores[index])
    assert found.answer == ("w2", *long.wrong)[best]
    assert found.confidence == pytest.approx(math.exp(scores[best]) / sum(map(math.exp, scores)), abs=1e-5)
    (note,) = notes(lm, Dataset(train=[], hallucination=[*QUESTIONS, long]), [PROBE], PROBE.asking)
    assert note.startswith(f"3 of 9 choices do not fit in the context of {lm.context_length} after their whole")
    assert note.endswith("asked.jsonl:7")


def test_a_choice_that_fills_the_context_is_named():
    choice = " ".join(["w1"] * 200)
    asked = Question("a", "w0", (choice,), "asked.jsonl:3", wrong=("w5",))
    with pytest.raises(UserError, match=r"asked.jsonl:3: a choice has 200 tokens, and the context of \d+ holds no"):
        PROBE.measure(Subject(language_model()), Dataset(train=[], hallucination=[asked]))
