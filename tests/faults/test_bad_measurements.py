"""What no figure can be made from is refused by name, or measured without false claims."""

import math

import numpy as np
import pytest
from command_line import TINY_RUN, config_of, refused

from truetune.config import checks
from truetune.data.dataset import Question
from truetune.errors import UserError
from truetune.extensions.sampling import semantic_entropy
from truetune.probes.measure import compare
from truetune.scoring.answers import exact_match
from truetune.scoring.calibration import auroc
from truetune.scoring.estimates import bootstrap, rate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.judge import judged
from truetune.scoring.lost_and_kept import backward_transfer, kept


def items(*outcomes, prefix=""):
    return [Item(f"{prefix}{n}", "?", ("a",), "a", outcome) for n, outcome in enumerate(outcomes)]


def measurement(rows, probe="hallucination"):
    return Measurement({}, {probe: rows})


PHRASES = config_of()["measure"]["abstention_phrases"]
METHODS = "method=[replay,self_replay,interpolate,dola,ewc,self_distill,r_tuning]"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("curation.replay.ratio", -0.5),
        ("curation.replay.ratio", 0.0),
        ("curation.self_replay.ratio", 1.5),
        ("curation.r_tuning.unsure", "maybe"),
        ("adaptation.interpolate.alphas", [0.5, 1.5]),
        ("data.new_share", 1.5),
        ("decoding.dola.plausible", 1.1),
        ("decoding.dola.layers", "middle"),
        ("probe.selective.wrong_cost", -1.0),
        ("measure.abstention_phrases", ["..."]),
        ("objective.ewc.texts", 0),
        ("objective.self_distill.epochs", 0),
        ("probe.sampling.samples", 0),
        ("probe.sampling.temperature", 0.0),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(key, value):
    assert refused(METHODS, "probe=full", *TINY_RUN, **{key: value}).startswith(key)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_weight_that_means_nothing_is_refused_by_name(weight):
    key = "curation.downweight_unknown.weight"
    assert refused("method=downweight_unknown", *TINY_RUN, **{key: weight}).startswith(key)


def test_two_models_that_answered_other_questions_are_not_compared():
    base = measurement(items("right", "wrong"))
    with pytest.raises(UserError, match="asked different questions: 2 and 2 items, 4 of them in one only"):
        compare(base, measurement(items("right", "wrong", prefix="x")))
    ability = measurement(items("right"), "retention")
    with pytest.raises(UserError, match="asked different questions"):
        compare(ability, measurement(items("right", "right"), "retention"))


def test_an_id_used_twice_is_named():
    twice = [*items("right"), *items("wrong")]
    with pytest.raises(UserError, match="item ids must differ, but 1 are used more than once"):
        kept(twice, twice)


def test_one_question_has_no_false_certainty():
    alone = rate([True])
    assert alone.low is not None
    assert alone.low < 0.3
    assert bootstrap(lambda chosen: 1.0, ["a"], np.random.default_rng(0)).low is None
    assert backward_transfer(items("right"), items("wrong"), np.random.default_rng(0)).low is None


def test_answers_all_of_one_kind():
    assert auroc([0.2, 0.9], [True, True]) is None
    assert math.isnan(kept(items("wrong", "wrong"), items("right", "right")).value), "nothing was known"
    assert "balance/kept_share" not in compare(measurement(items("wrong")), measurement(items("right"))).metrics


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_answer_of_no_words_is_wrong_and_no_abstention(empty):
    assert judged(empty, ("a",), phrases=PHRASES) == judged(empty, (), phrases=PHRASES) == "wrong"
    assert not exact_match(empty, (empty, "the"))
    assert semantic_entropy([empty, empty]) == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("aaaa", "1 probe question can show no change: p would be 1.000"),
        ("abcde", "5 probe questions can show no change: p would be 0.062"),
        ("abcdef", None),
        ("", None),
    ],
)
def test_so_few_questions_that_none_can_show_a_change_are_said(asked, said):
    notes = checks.questions([Question(str(n), "Who?", ("Ann",), "", cluster=name) for n, name in enumerate(asked)])
    assert [note.partition(" if every")[0] for note in notes] == ([said] if said else [])


def test_true_answers_without_a_word_are_said():
    asked = [
        Question(str(n), "O in Morse?", answers, f"f:{n}") for n, answers in enumerate([("O",), ("dash", "---")] * 3)
    ]
    assert checks.questions(asked) == [
        "3 of 6 probe questions have a true answer without a word, which is compared as it stands, the first: "
        '"---", f:1'
    ]


@pytest.mark.parametrize("mark", ["?", "the", "+", "..."])
def test_an_answer_that_normalises_to_nothing_stands_as_it_is(mark):
    assert judged(mark, (mark,), phrases=PHRASES) == "right"
    assert judged(mark, ("a",), phrases=PHRASES) == "wrong"
