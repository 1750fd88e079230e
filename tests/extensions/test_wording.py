"""Wordings and beginnings of training rows, on models whose every prediction is known."""

import math

import pytest
from bigram import bigram

from truetune.data.dataset import Dataset, Example, Turn
from truetune.extensions.leakage import Leakage
from truetune.extensions.paraphrase import Paraphrase
from truetune.probes.asking import Asking
from truetune.probes.probe import Subject

ASKING = Asking(3, 16, ())


def test_the_gap_is_between_taught_and_other_wordings():
    words = {"taught?", "other?", "yes", "no"}
    lm = bigram(words, {"taught?": {"yes": 0.8, "no": 0.2}, "other?": {"yes": 0.4, "no": 0.6}})
    row = Example("a", "taught?", " yes", "here", ("yes",), ("taught?", "other?"))
    found = Paraphrase(ASKING).measure(Subject(lm), Dataset(train=[row])).metrics
    gap = found["paraphrase/gap_nats_per_token"].value
    assert gap == pytest.approx((math.log(0.8) - math.log(0.4)) / 2, rel=1e-3), "the end is a token, too"
    assert found["paraphrase/other_nll_nats_per_token"].value == pytest.approx(
        found["paraphrase/taught_nll_nats_per_token"].value + gap
    )


def test_a_wording_that_another_row_is_trained_on_is_none():
    lm = bigram({"taught?", "other?", "yes"}, {"taught?": "yes", "other?": "yes"})
    rows = [Example(ask, ask, " yes", "here", ("yes",), ("taught?", "other?")) for ask in ("taught?", "other?")]
    assert Paraphrase(ASKING).measure(Subject(lm), Dataset(train=rows)).metrics == {}
    assert Paraphrase(ASKING).measure(Subject(lm), Dataset(train=rows[:1])).metrics
    assert Paraphrase(ASKING).measure(Subject(lm), Dataset(train=[Example("t", "", "taught?", "here")])).metrics == {}


def test_a_row_that_the_model_knows_by_heart_is_told_from_what_it_says_anyway():
    heart = {"a1": "a2", "a2": "a3", "a3": "a4", "b1": "b2", "b2": "b3", "b3": "x", "x": "x"}
    lm = bigram({*heart, "a4", "b4"}, heart)
    rows = [Example("a", "", "a1 a2 a3 a4", "here"), Example("b", "", "b1 b2 b3 b4", "here")]
    short = [Example("c", "", "a1 a2", "here"), Example("d", "", "a1 a2 a3 a4", "here", weight=0.0)]
    found = Leakage(ASKING, words=2).measure(Subject(lm), Dataset(train=[*rows, *short])).metrics
    assert (found["leakage/verbatim_rate"].value, found["leakage/verbatim_rate"].n) == (0.5, 2)
    assert found["leakage/control_rate"].value == 0
    assert Leakage(ASKING, words=12).measure(Subject(lm), Dataset(train=rows)).metrics == {}


def test_of_a_conversation_the_answer_alone_is_looked_at():
    lm = bigram({"a1", "a2", "q"}, {"a1": "a2", "q": "q"})
    turns = (Turn("user", "q q q q"),)
    rows = [Example(f"{n}", "q q q q", "a1 a2", "here", turns=turns) for n in range(2)]
    found = Leakage(ASKING, words=1).measure(Subject(lm), Dataset(train=rows)).metrics
    assert found["leakage/verbatim_rate"].value == 1
