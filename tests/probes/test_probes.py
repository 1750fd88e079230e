"""Probes on models whose every answer is known, because their weights were set by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from bigram import bigram
from command_line import TINY_MODEL, TINY_WORLD, prepared

from truetune.data.dataset import Dataset, Example, Question
from truetune.data.tokens import Encoder
from truetune.extensions.faithfulness import Faithfulness
from truetune.models.frozen import Frozen
from truetune.probes import baseline
from truetune.probes.asking import Asking
from truetune.probes.baseline import held_out_digest, measure_base
from truetune.probes.calibration import Calibration, calibration
from truetune.probes.hallucination import Hallucination
from truetune.probes.likelihood import Likelihood, RowScore
from truetune.probes.measure import compare, fit, measure, notes
from truetune.probes.probe import Subject
from truetune.probes.retention import Retention
from truetune.probes.selection import selection
from truetune.probes.task import Task
from truetune.scoring.estimates import wilson
from truetune.scoring.item import Item

ASKING = Asking(max_new_tokens=6, batch_size=3, abstention_phrases=("i do not know",))
PROBES = (Task(ASKING), Retention(ASKING), Hallucination(ASKING), Calibration(ASKING))
ABSTAIN = {"I": "do", "do": "not", "not": "know"}
CITIES = frozenset({"Rome", "Oslo", "Bonn", "Lima"})
ASKED = ("Ann?", "Bob?", "Cat?", "Dan?", "Eve?", "Who?")
WORDS = {*ASKED, *CITIES, *ABSTAIN, "know", "Taught", "is", "here"}


def question(word, answers, population="known-test"):
    return Question(f"id/{word}", word, answers, "by hand", population, cluster=word, domain="city")


DATA = Dataset(
    train=[Example("t1", "Zed?", " Bonn", "by hand"), Example("t2", "Yan?", " Taught", "by hand")],
    task=[question("Ann?", ("Rome",)), question("Bob?", ("Oslo",))],
    hallucination=[
        *(question("Ann?", ("Rome",)), question("Bob?", ("Oslo",)), question("Cat?", ("Lima",))),
        *(question("Dan?", ("Rome",)), question("Eve?", ("Oslo",)), question("Who?", (), "never")),
    ],
    ability=[question("Ann?", ("Rome",)), question("Cat?", ("Oslo",))],
    texts=[Example("text", "", "Ann? Rome", "by hand")],
    select_task=[question("Ann?", ("Rome",)), question("Cat?", ("Oslo",))],
    select_known=[question("Bob?", ("Oslo",))],
    fit_groups={"new": [Example("f1", "Ann?", " Rome", ""), Example("f2", "Bob?", " Rome", "")]},
    domains={"city": CITIES},
)


def model(**answers):
    return bigram(WORDS, {**ABSTAIN, **{f"{name}?": answer for name, answer in answers.items()}})


@pytest.fixture(scope="module")
def before():
    return model(Ann="Rome", Bob="Oslo", Cat="Bonn", Dan="Rome", Eve="I", Who="I")


@pytest.fixture(scope="module")
def after():
    return model(Ann="Rome", Bob="Bonn", Cat="Lima", Dan="I", Eve="Taught", Who="Lima")


def by_word(measurement, probe="hallucination"):
    return {item.question: item for item in measurement.items[probe]}


def values(measurement):
    return {name: estimate.value for name, estimate in measurement.metrics.items()}


def test_outcomes_and_rates_are_those_counted_by_hand(before):
    found = measure(Subject(before), DATA, PROBES, ASKING)
    outcomes = {word: item.outcome for word, item in by_word(found).items()}
    assert outcomes == {
        "Ann?": "right",
        "Bob?": "right",
        "Cat?": "wrong",
        "Dan?": "right",
        "Eve?": "abstained",
        "Who?": "abstained",
    }
    said = values(found)
    assert said["task/exact_match"] == 1
    assert said["retention/accuracy"] == 0.5
    assert said["hallucination/rate"] == pytest.approx(1 / 6)
    assert said["hallucination/abstention_rate"] == pytest.approx(2 / 6)
    assert said["hallucination/correct_given_attempted"] == pytest.approx(3 / 4)
    assert said["hallucination/known_right"] == pytest.approx(3 / 5)
    assert said["hallucination/invented_rate"] == 0
    assert found.metrics["hallucination/rate"].n == 6
    assert said["task/nll_nats_per_token"] == pytest.approx(0, abs=1e-6), "the answers are certain"
    assert said["fit/new_exact_match"] == 0.5


def test_intervals_of_calibration_cost_nothing_where_none_is_kept(before):
    rng = np.random.default_rng(0)
    items = [
        Item(str(n), "?", ("a",), "a", "right" if hit else "wrong", confidence=sure)
        for n, (hit, sure) in enumerate(zip(rng.random(200) < 0.6, rng.random(200), strict=True))
    ]
    found, quick = calibration(items, 400), calibration(items, 0)
    assert {name: estimate.value for name, estimate in quick.items()} == {n: e.value for n, e in found.items()}
    for name in ("calibration/brier", "calibration/auroc"):
        low, high = found[name].ends
        assert low < found[name].value < high < low + 0.3
        assert quick[name].ends is None
    assert found["calibration/ece"].ends is None
    one_sided = measure(Subject(before, resamples=0), DATA, PROBES, ASKING).metrics["calibration/brier"]
    assert one_sided.ends is None


def test_items_stand_in_the_order_asked_and_keep_what_was_asked(before):
    items = measure(Subject(before), DATA, PROBES, ASKING).items["hallucination"]
    assert [item.id for item in items] == [q.id for q in DATA.hallucination]
    assert [item.answer for item in items] == ["Rome", "Oslo", "Bonn", "Rome", "I do not know", "I do not know"]
    assert [item.confidence for item in items] == pytest.approx([1.0] * 6)
    assert (items[0].answers, items[0].population, items[0].cluster) == (("Rome",), "known-test", "Ann?")


def test_a_base_compared_with_itself_has_lost_nothing(before):
    base = measure(Subject(before), DATA, PROBES, ASKING)
    same = compare(base, base)
    assert same.metrics["hallucination/lost_rate"].value == 0
    assert same.metrics["balance/kept_share"].value == 1
    assert same.metrics["balance/kept_share"].n == 3
    assert not [item for item in same.items["hallucination"] if "lost" in item.kind]


def test_lost_is_what_the_base_had_right_and_the_tuned_model_has_wrong(before, after):
    tuned = compare(measure(Subject(before), DATA, PROBES, ASKING), measure(Subject(after), DATA, PROBES, ASKING))
    marked = {word for word, item in by_word(tuned).items() if "lost" in item.kind}
    assert marked == {"Bob?"}, "Dan abstains now, which is no wrong answer; Eve was never right"
    assert {item.question for item in tuned.items["task"] if "lost" in item.kind} == {"Bob?"}
    assert tuned.metrics["hallucination/lost_rate"].value == pytest.approx(2 / 3), "an abstention is lost knowledge too"
    assert tuned.metrics["hallucination/over_refusal_rate"].value == pytest.approx(1 / 3)  # Dan
    assert tuned.metrics["balance/kept_share"].value == pytest.approx(1 / 3)


def test_every_kind_of_wrong_answer_is_told_apart(before, after):
    tuned = compare(measure(Subject(before), DATA, PROBES, ASKING), measure(Subject(after), DATA, PROBES, ASKING))
    kinds = {word: set(item.kind) for word, item in by_word(tuned).items()}
    assert kinds == {
        "Ann?": set(),
        "Bob?": {"lost", "echo"},  # Bonn was taught, and is a city
        "Cat?": set(),
        "Dan?": set(),
        "Eve?": {"echo", "off_domain"},  # taught, and no city
        "Who?": {"invented"},  # a city, but of no one
    }
    said = values(tuned)
    assert said["hallucination/echo_rate"] == pytest.approx(2 / 6)
    assert said["hallucination/off_domain_rate"] == pytest.approx(1 / 6)
    assert said["hallucination/invented_rate"] == 1


def test_an_echo_is_judged_by_what_was_taught_and_a_domain_by_its_values(after):
    data = replace(DATA, train=[Example("t", "Zed?", " Oslo", "")], domains={})
    kinds = {word: set(item.kind) for word, item in by_word(measure(Subject(after), data, PROBES, ASKING)).items()}
    assert kinds["Bob?"] == kinds["Eve?"] == set()


def test_a_model_that_always_abstains_invents_nothing():
    shy = model(**{word[:-1]: "I" for word in ASKED})
    said = values(measure(Subject(shy), DATA, PROBES, ASKING))
    assert said["hallucination/abstention_rate"] == 1
    assert said["hallucination/invented_rate"] == 0
    assert said["hallucination/rate"] == 0
    assert said["task/exact_match"] == 0
    assert "hallucination/correct_given_attempted" not in said, "nothing was attempted"


def test_a_model_that_says_nothing_is_wrong_and_not_abstaining():
    said = values(measure(Subject(model()), DATA, PROBES, ASKING))
    assert said["hallucination/abstention_rate"] == 0
    assert said["hallucination/rate"] == said["hallucination/off_domain_rate"] == 1


def test_retention_is_the_likelihood_of_texts_and_the_distance_from_the_base():
    shares = {"<bos>": "Ann?", "Ann?": {"Rome": 0.75, "Oslo": 0.25}}
    base, tuned = bigram(WORDS, shares), bigram(WORDS, {**shares, "Ann?": {"Rome": 0.5, "Oslo": 0.5}})
    probe = Retention(ASKING)
    itself = values(probe.measure(Subject(base, Frozen(base.copy().model)), DATA))
    assert itself["retention/kl_to_base_nats_per_token"] == pytest.approx(0, abs=1e-6)
    # Three targets: Ann? (certain), Rome (a choice), the end (certain).
    assert itself["retention/nll_nats_per_token"] == pytest.approx(-math.log(0.75) / 3, abs=1e-4)
    moved = values(probe.measure(Subject(tuned, Frozen(base.copy().model)), DATA))
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert moved["retention/kl_to_base_nats_per_token"] == pytest.approx(kl / 3, abs=1e-4)
    assert moved["retention/nll_nats_per_token"] == pytest.approx(-math.log(0.5) / 3, abs=1e-4)


def test_without_texts_the_drift_is_measured_on_the_true_answers(before):
    data = replace(DATA, texts=[])
    found = Retention(ASKING).measure(Subject(before, Frozen(before.copy().model)), data).metrics
    assert "retention/nll_nats_per_token" not in found
    assert found["retention/kl_to_base_nats_per_token"].n == 4, "two answers and two ends"


def test_the_loss_on_true_answers_resamples_entities_as_their_rates_do(before):
    """Two entities, asked about three times each, are too few for an interval."""
    several = [replace(each, id=f"{each.id}/{n}") for each in DATA.task for n in range(3)]
    of_entities, of_questions = (
        Task(ASKING).measure(Subject(before), replace(DATA, task=task)).metrics["task/nll_nats_per_token"]
        for task in (several, [replace(each, cluster=each.id) for each in several])
    )
    assert of_entities.value == of_questions.value
    assert of_entities.ends is None
    assert of_questions.ends is not None


def test_probes_without_questions_measure_nothing(before):
    empty = Dataset(train=DATA.train)
    assert measure(Subject(before), empty, PROBES, ASKING).metrics == {}
    assert measure(Subject(before), empty, PROBES, ASKING).items == {}


def test_the_balance_weighs_gain_against_loss(before, after):
    base = measure(Subject(after), DATA, PROBES, ASKING)  # Bob wrong in the task's form
    tuned = compare(base, measure(Subject(before), DATA, PROBES, ASKING))
    assert tuned.metrics["balance/gained_share"].value == 1
    assert tuned.metrics["balance/kept_share"].value == pytest.approx(1 / 2), "of Ann and Cat, Cat is lost"
    assert 0 < tuned.metrics["balance/score"].value < 1


def test_selection_asks_its_own_questions(before):
    def estimates(data):
        selected = selection(Subject(before), data, PROBES, ASKING)
        assert selected is not None
        return selected.estimates()

    found = estimates(DATA)
    assert found["val/right"].value == 0.5
    assert found["val/known_right"].value == 1
    assert 0.5 < found["val/score"].value < 1
    assert estimates(replace(DATA, select_known=[]))["val/score"].value == 0.5
    assert selection(Subject(before), replace(DATA, select_task=[]), PROBES, ASKING) is None
    assert selection(Subject(before), DATA, [Retention(ASKING)], ASKING) is None


def test_measuring_twice_gives_the_same():
    ready = prepared(*TINY_WORLD, *TINY_MODEL)
    data, builder = ready.data, ready.builder
    lm = builder.build(builder.tokenizer(words=data.pretraining.vocabulary()), "digest", "random")
    subject = Subject(lm, Frozen(lm.copy().model))
    once, again = measure(subject, data, PROBES, ASKING), measure(subject, data, PROBES, ASKING)
    assert once == again
    assert set(once.items) == {"task", "retention", "hallucination"}
    assert lm.model.training, "the mode that the model was in comes back"


def test_a_base_is_measured_once_and_again_if_the_file_is_damaged(before, after, tmp_path):
    said = []
    first = measure_base(before, DATA, PROBES, ASKING, tmp_path, said.append)
    assert measure_base(before, DATA, PROBES, ASKING, tmp_path, said.append) == first
    assert said == ["measuring the untouched base"]
    (file,) = (tmp_path / "baselines").glob("*.json")
    file.write_text(file.read_text()[:-20])
    torn = file.with_name(f".{file.name}.abc.tmp")
    torn.touch()  # as a process leaves it that is killed while it writes
    assert measure_base(before, DATA, PROBES, ASKING, tmp_path, said.append) == first
    assert len(said) == 2
    assert not torn.exists()
    changed = replace(DATA, task=DATA.task[:1])
    assert measure_base(before, changed, PROBES, ASKING, tmp_path, said.append) != first
    assert measure_base(after, DATA, PROBES, ASKING, tmp_path, said.append) != first
    assert len(said) == 4, "other questions and another model are measured anew"


def test_a_base_is_measured_again_on_other_held_out_texts(before, tmp_path):
    """The same training rows do not mean the same held-out ones: probe_questions=5 validation_rows=15, and 15 and 5."""
    texts = [Example(f"t{n}", "", word, "by hand") for n, word in enumerate(("Ann? Rome", "Bob? Bonn"))]
    for held_out in (texts[:1], texts):
        data = replace(DATA, task=[], task_texts=held_out)
        assert measure_base(before, data, PROBES, ASKING, tmp_path, print) == measure(
            Subject(before), data, PROBES, ASKING
        )


def test_a_base_is_measured_again_by_other_code(monkeypatch):
    first = baseline.measurement_digest("digest", DATA, PROBES)
    assert baseline.measurement_digest("digest", DATA, PROBES) == first
    monkeypatch.setattr(baseline.Path, "read_bytes", lambda path: b"edited")
    assert baseline.measurement_digest("digest", DATA, PROBES) != first


def test_what_is_held_out_has_a_digest_that_does_not_depend_on_where_it_lies():
    first = held_out_digest(DATA)
    moved = [replace(question, source="elsewhere:1") for question in DATA.task]
    assert held_out_digest(replace(DATA, task=moved)) == first
    other = [replace(DATA.task[0], answers=("Other",)), *DATA.task[1:]]
    assert held_out_digest(replace(DATA, task=other)) != first
    assert held_out_digest(replace(DATA, task=DATA.task[1:])) != first


def test_questions_without_room_are_counted_and_the_first_is_named():
    lm = model()
    long = replace(DATA.task[0], id="long", question="Zed? " * 100, source="asked.jsonl:7")
    probes = [Task(Asking(4, 8, ()))]
    (note,) = notes(lm, replace(DATA, task=[*DATA.task, long]), probes, probes[0].asking)
    assert note.startswith("1 questions are over the 60 tokens that the context of 64 leaves them")
    assert note.endswith("the first: asked.jsonl:7")
    assert notes(lm, DATA, probes, probes[0].asking) == []
    told = replace(DATA.task[0], id="told", context="Zed? " * 100, source="told.jsonl:3")
    (note,) = notes(lm, replace(DATA, contexts=[told]), [*probes, Faithfulness(probes[0].asking)], probes[0].asking)
    assert note.endswith("without their beginning, the first: told.jsonl:3"), "which is the context"
    assert notes(lm, replace(DATA, contexts=[told]), probes, probes[0].asking) == []


def test_true_answers_that_are_longer_than_an_answer_may_be_are_counted():
    """Each by its shortest alias; and the size that is proposed is enough."""
    lm, asked = model(), DATA.task[0]
    long = replace(asked, id="long", answers=("w1 " * 9, "w1 " * 6), source="asked.jsonl:7")
    data = replace(DATA, task=[*DATA.task, long, replace(asked, id="none", answers=())])
    answered = len([q for q in data.task if q.answers])
    (note,) = notes(lm, data, [Task(ASKING)], Asking(4, 8, ()))
    tokens = min(len(Encoder(lm.tokenizer).text(f" {answer}")) for answer in long.answers)
    assert note == (
        f"1 of {answered} true answers are longer than measure.max_new_tokens=4 and cannot be given, the first: "
        f"asked.jsonl:7; type measure.max_new_tokens={tokens + 1}"
    )
    assert notes(lm, data, [Task(ASKING)], Asking(tokens, 8, ())) == []


def test_a_fact_that_is_taught_in_many_rows_is_fitted_once(before):
    rows = [Example(f"f{n}", "Ann?", " Rome", "") for n in range(12)]
    found = fit(Subject(before), replace(DATA, fit_groups={"unknown": rows}), ASKING)["fit/unknown_exact_match"]
    assert (found.value, found.n) == (1, 12)
    assert (found.low, found.high) == pytest.approx(wilson(1, 1))


def test_the_fit_is_measured_in_batches_of_the_size_that_is_set(monkeypatch):
    sizes = []
    found = Likelihood([RowScore(0.0, 1, True)])
    monkeypatch.setattr(
        "truetune.probes.measure.likelihood", lambda lm, rows, **size: sizes.append(size["batch_size"]) or found
    )
    data = replace(DATA, fit_groups={"train": DATA.train[:1]})
    fit(Subject(model()), data, Asking(4, 3, ()))
    assert sizes == [3]
