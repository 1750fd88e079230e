"""What is asked beside the task: counted by hand on models set by hand, cached apart, and cut to the time there is."""

import json
from dataclasses import replace

import pytest
from bigram import bigram

from truetune.data.dataset import Battery, Dataset, Example, Question
from truetune.probes import baseline
from truetune.probes.asking import Asking
from truetune.probes.baseline import affordable, measure_base
from truetune.probes.elsewhere import Elsewhere
from truetune.probes.measure import compare, follow, measure
from truetune.probes.probe import Subject
from truetune.probes.task import Task

ASKING = Asking(max_new_tokens=6, batch_size=8, abstention_phrases=("i do not know",))
ABSTAIN = {"I": "do", "do": "not", "not": "know"}
PLACES = ("France?", "Norway?", "Peru?", "Atlantis?", "Utopia?", "Shout?", "Count?")
WORDS = {*PLACES, *ABSTAIN, "know", "Paris", "Oslo", "Lima", "HEY", "hey", "Ann?", "Rome"}


def fact(word, *answers):
    return Question(f"fact/{word}", word, answers, "by hand", "fact" if answers else "never", cluster=word)


BATTERY = Battery(
    facts=[fact("France?", "Paris"), fact("Norway?", "Oslo"), fact("Peru?", "Lima")],
    nonexistent=[fact("Atlantis?"), fact("Utopia?")],
    abilities=[
        Question("ability/shout", "Shout?", (), "by hand", "upper", rule="capitals hey"),
        Question("ability/count", "Count?", (), "by hand", "words", rule="words 2"),
    ],
    texts=[Example("text", "", "Peru? Lima", "by hand"), Example("text2", "", "France? Paris", "by hand")],
)
DATA = Dataset(train=[Example("t", "Zed?", " Paris", "by hand")], task=[fact("Ann?", "Rome")], elsewhere=BATTERY)
PROBES = [Task(ASKING), Elsewhere(ASKING)]


def model(**answers):
    return bigram(WORDS, {**ABSTAIN, **{f"{name}?": answer for name, answer in answers.items()}})


@pytest.fixture(scope="module")
def base():
    return model(
        France="Paris", Norway="Oslo", Peru="Oslo", Atlantis="I", Utopia="I", Shout="HEY", Count="I", Ann="Rome"
    )


@pytest.fixture(scope="module")
def tuned():
    return model(France="Paris", Norway="I", Peru="Lima", Atlantis="Paris", Utopia="I", Shout="hey", Count="I")


def values(measurement):
    return {name.removeprefix("elsewhere/"): each.value for name, each in measurement.metrics.items() if "else" in name}


def test_rates_are_those_counted_by_hand(base, tuned):
    first = measure(Subject(base), DATA, PROBES, ASKING)
    assert values(first)["known_right"] == pytest.approx(2 / 3)
    assert values(first)["made_up_rate"] == 0
    assert values(first)["ability"] == 0.5
    assert values(first)["kl_to_base_nats_per_token"] == 0
    assert "lost_rate" not in values(first)
    then = compare(first, measure(Subject(tuned), DATA, PROBES, ASKING))
    assert {name: values(then)[name] for name in ("known_right", "lost_rate", "made_up_rate", "ability")} == {
        "known_right": pytest.approx(2 / 3),
        "lost_rate": 0.5,
        "made_up_rate": 0.5,
        "ability": 0.0,
    }
    assert (then.metrics["elsewhere/lost_rate"].n, then.metrics["elsewhere/known_right"].n) == (2, 3)
    assert values(then)["nll_nats_per_token"] < values(first)["nll_nats_per_token"], "Lima has been learnt"
    kinds = {item.id: item.kind for item in then.items["elsewhere"]}
    assert kinds["fact/Atlantis?"] == ("invented",), "an answer of the training rows is no echo here"
    assert kinds["ability/shout"] == ("lost",)


def test_nothing_is_measured_without_a_battery(base):
    assert measure(Subject(base), replace(DATA, elsewhere=None), PROBES, ASKING).items.keys() == {"task"}


def test_it_is_not_asked_while_training(base, tuned):
    first = measure(Subject(base), DATA, PROBES, ASKING)
    point = follow(Subject(tuned), DATA, PROBES, ASKING, first, full=True)
    assert "task/exact_match" in point
    assert not [name for name in point if name.startswith("elsewhere/")]


def test_other_rows_ask_the_base_nothing_again(base, tmp_path, monkeypatch):
    lines: list[str] = []
    first = measure_base(base, DATA, PROBES, ASKING, tmp_path, lines.append)
    assert lines == ["measuring the untouched base", "measuring the untouched base elsewhere"]
    assert set(first.items) == {"task", "elsewhere"}
    other = replace(DATA, train=[Example("u", "Yan?", " Oslo", "by hand")], task=[fact("Utopia?", "Oslo")])
    again = measure_base(base, other, PROBES, ASKING, tmp_path, lines.append)
    assert lines[2:] == ["measuring the untouched base"]
    assert again.items["elsewhere"] == first.items["elsewhere"]
    measure_base(base, replace(DATA, elsewhere=BATTERY.first(0.5)), PROBES, ASKING, tmp_path, lines.append)
    assert lines[3:] == ["measuring the untouched base elsewhere"]


def clock(seconds_a_question):
    """A probe that takes so long a question, as far as the clock in the module can tell."""
    now = [0.0]

    class Slow(Elsewhere):
        def measure(self, subject, data):
            now[0] += seconds_a_question * data.elsewhere.size
            return super().measure(subject, data)

    return Slow(ASKING), lambda: now[0]


@pytest.mark.parametrize(("seconds", "size"), [(2000.0, 100), (1300.0, 50), (500.0, 25), (1.0, 7)])
def test_it_is_cut_to_the_seconds_that_there_are_and_that_is_kept(base, tmp_path, monkeypatch, seconds, size):
    facts = [replace(BATTERY.facts[0], id=f"fact/{number}") for number in range(100)]
    data = replace(DATA, elsewhere=Battery(facts=facts, seconds=seconds))
    probe, now = clock(10.0)
    monkeypatch.setattr(baseline.time, "perf_counter", now)
    cut, notes = affordable(base, data, [probe], ASKING, tmp_path, lambda line: None)
    assert len(cut.elsewhere.facts) == size
    assert len(notes) == (size < 100)
    if notes:
        assert f"{size} of its 100 questions and texts are asked, for all would take about 2000 s" in notes[0]
    monkeypatch.setattr(baseline.time, "perf_counter", lambda: pytest.fail("timed again"))
    assert affordable(base, data, [probe], ASKING, tmp_path, lambda line: None)[0].elsewhere == cut.elsewhere


def test_a_damaged_file_of_the_time_is_measured_again(base, tmp_path):
    data = replace(DATA, elsewhere=replace(BATTERY, facts=BATTERY.facts * 20, seconds=1e9))
    assert affordable(base, data, PROBES, ASKING, tmp_path, lambda line: None) == (data, [])
    (path,) = (tmp_path / "baselines").glob("*.seconds.json")
    assert json.loads(path.read_text())["seconds"] > 0
    path.write_text("{")
    assert affordable(base, data, PROBES, ASKING, tmp_path, lambda line: None) == (data, [])
    assert json.loads(path.read_text())["seconds"] > 0
