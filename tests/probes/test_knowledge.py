"""What a base knows of a fact, from shares by hand and from models whose every answer is known."""

import pytest
from bigram import bigram
from command_line import TINY_MODEL, TINY_WORLD, prepared

from truetune.data.chat_form import in_chat_form
from truetune.data.dataset import Dataset, Example, Turn
from truetune.probes import knowledge
from truetune.probes.asking import Asking
from truetune.probes.decoding import Answer
from truetune.probes.knowledge import Examiner, Knowledge, summary

WORDS = {"sure?", "also?", "half?", "weak?", "never?", "right", "wrong"}
ASKING = Asking(3, 16, ())
TABLE = {
    "sure?": "right",
    "also?": "right",
    "half?": "wrong",
    "never?": "wrong",
    "weak?": {"wrong": 0.6, "right": 0.4},
}


def fact(name, *asks, answers=("right",)):
    return Example(name, f"teach {name}", " right", "by hand", answers, asks)


def examined(lm, rows, seed=0, asking=ASKING, **changed):
    settings = Examiner(**{"samples": 40, "temperature": 1.0, "shots": 0, "prompts": 1} | changed)
    return settings.examine(lm, rows, asking, seed)


@pytest.mark.parametrize(
    ("greedy", "sampled", "category"),
    [
        (1, 1, "HighlyKnown"),
        (1, 0, "HighlyKnown"),
        (0.99, 1, "MaybeKnown"),
        (0.01, 0, "MaybeKnown"),
        (0, 1, "WeaklyKnown"),
        (0, 0.01, "WeaklyKnown"),
        (0, 0, "Unknown"),
    ],
)
def test_the_shares_decide_the_category(greedy, sampled, category):
    assert Knowledge("id", greedy, sampled).category == category


def test_the_examiner_tells_the_four_categories_apart():
    rows = [fact("a", "sure?", "also?"), fact("b", "sure?", "half?"), fact("c", "weak?"), fact("d", "never?", "half?")]
    found = examined(bigram(WORDS, TABLE), rows)
    assert [(k.id, k.category) for k in found] == [
        ("a", "HighlyKnown"),
        ("b", "MaybeKnown"),
        ("c", "WeaklyKnown"),
        ("d", "Unknown"),
    ]
    assert [k.greedy for k in found] == [1, 0.5, 0, 0]
    assert [k.sampled for k in (found[0], found[1], found[3])] == [1, 0.5, 0]
    assert 0.15 < found[2].sampled < 0.65, "drawn with probability 0.4"
    assert summary(found).startswith("of 4 rows: 1 HighlyKnown")


def test_a_low_temperature_draws_what_is_likely():
    (weak,) = examined(bigram(WORDS, TABLE), [fact("c", "weak?")], temperature=0.05)
    assert weak.category == "Unknown"


def test_rows_that_share_their_questions_share_the_result():
    rows = [fact("one", "weak?", "sure?"), fact("other", "weak?", "sure?"), fact("alias", "weak?", answers=("wrong",))]
    one, other, alias = examined(bigram(WORDS, TABLE), rows)
    assert (one.greedy, one.sampled) == (other.greedy, other.sampled) == (0.5, one.sampled)
    assert 0.5 < one.sampled < 1
    assert alias.sampled == pytest.approx(1 - (2 * one.sampled - 1)), "the very same draws, judged by other answers"


def test_a_row_without_other_wordings_is_asked_by_its_prompt_and_a_text_is_not_asked():
    rows = [Example("asked", "sure?", " right", "", ("right",)), Example("text", "", "right", "")]
    found = examined(bigram(WORDS, TABLE), rows, samples=1)
    assert [(k.id, k.category) for k in found] == [("asked", "HighlyKnown")]


def test_a_question_of_ones_own_is_asked_after_others_and_judged_up_to_the_next(monkeypatch):
    heard = []

    def answers(lm, prompts, **_):
        heard.extend(prompts)
        return [Answer("right\n\nq9 ? wrong", 1.0) for _ in prompts]

    monkeypatch.setattr(knowledge, "greedy_answers", answers)
    rows = [Example(f"{n}", f"q{n} ?", f" a{n}", "", ("right",)) for n in range(6)]
    turns = Example("chat", "q", " a", "", ("right",), turns=(Turn("user", "q"),))
    found = examined(bigram(WORDS, TABLE), [*rows, turns], samples=0, shots=2, prompts=3)
    assert {k.category for k in found} == {"HighlyKnown"}
    asked = [prompt for prompt in heard if isinstance(prompt, str)]
    assert len(asked) == 3 * len(rows)
    for prompt in asked:
        *shown, last = prompt.split("\n\n")
        assert len(shown) == 2
        assert last in {row.prompt for row in rows}
        assert not [row for row in shown if row.startswith(last)], "its own answer is not shown"
    assert heard[-1] == turns.turns


def test_a_row_that_comes_twice_is_not_shown_its_own_answer(monkeypatch):
    """A base that can do nothing but copy knows nothing."""

    def answers(lm, prompts, **_):
        shown = [prompt.rpartition("\n\n")[::2] for prompt in prompts]
        return [Answer("right" if f"{asked} right" in before else "", 1.0) for before, asked in shown]

    monkeypatch.setattr(knowledge, "greedy_answers", answers)
    rows = [Example(f"{n}", f"q{n % 4} ?", " right", "", ("right",)) for n in range(8)]
    found = examined(bigram(WORDS, TABLE), rows, samples=0, shots=4, prompts=4)
    assert {k.category for k in found} == {"Unknown"}


def test_an_answer_of_several_paragraphs_is_judged_whole(monkeypatch):
    def answers(lm, prompts, **_):
        return [Answer("one\n\ntwo" + ("" if isinstance(prompt, tuple) else "\n\nq9 ?"), 1.0) for prompt in prompts]

    monkeypatch.setattr(knowledge, "greedy_answers", answers)
    turns = Example("chat", "q", " a", "", ("one\n\ntwo",), turns=(Turn("user", "q"),))
    plain = [Example(f"{n}", f"q{n} ?", " a", "", ("one\n\ntwo",)) for n in range(3)]
    found = examined(bigram(WORDS, TABLE), [turns, *plain], samples=0, shots=2)
    assert [k.category for k in found] == ["HighlyKnown"] * 4


def test_without_samples_a_fact_is_known_or_not():
    assert [k.category for k in examined(bigram(WORDS, TABLE), [fact("c", "weak?")], samples=0)] == ["Unknown"]


def test_the_seed_decides_the_draws():
    lm, rows = bigram(WORDS, TABLE), [fact("c", "weak?")]
    drawn = [examined(lm, rows, seed)[0].sampled for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_an_untrained_base_knows_nothing():
    ready = prepared(*TINY_WORLD, *TINY_MODEL)
    words = ready.data.pretraining.vocabulary()
    lm = ready.builder.build(ready.builder.tokenizer(words=words), "digest", "random")
    found = examined(lm, ready.data.train, asking=Asking(2, 128, ()), samples=2)
    assert [k.id for k in found] == [row.id for row in ready.data.train]
    assert {k.category for k in found} == {"Unknown"}


def test_what_a_chat_model_replies_is_judged_as_a_sentence(monkeypatch):
    replies = {"sure?": "The answer is right.", "half?": "It is wrong."}
    asks = tuple((Turn("user", words),) for words in replies)
    row = Example("a", "sure?", "right", "by hand", ("right",), asks, turns=asks[0], words="sure?")

    def greedy(lm, prompts, **size):
        return [Answer(replies[prompt[-1].content], 0.0) for prompt in prompts]

    monkeypatch.setattr(knowledge, "greedy_answers", greedy)
    monkeypatch.setattr(knowledge, "sampled_answers", lambda lm, prompts, **how: [[a] for a in greedy(lm, prompts)])
    (found,) = examined(bigram(WORDS, TABLE), [row])
    assert (found.greedy, found.sampled) == (0.5, 0.5)


def test_the_ways_to_ask_for_a_fact_take_the_form_of_a_chat():
    row = Example(
        "a", "Q: Which?\nA:", " right", "by hand", ("right",), ("Q: Which?\nA:", "Q: Which one?\nA:"), words="Which?"
    )
    (chat,) = in_chat_form(Dataset(train=[row]), rows=True, questions=False).train
    assert [ask[0].content for ask in chat.asks] == ["Which?", "Which one?"]
