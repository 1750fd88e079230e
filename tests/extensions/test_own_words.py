"""Facts are taught as the base would say them, where what it says is right."""

from dataclasses import replace

import pytest
from command_line import TINY_WORLD, prepared, refused

from truetune.commands.taught_rows import in_words_taught, is_bare, is_right
from truetune.data.dataset import Dataset, Example, Turn
from truetune.extensions.own_words import OwnWords
from truetune.methods.curation import Context, curate
from truetune.probes.asking import Asking

TEMPLATE = "{question} It is {answer}. Say so."
ASKED = "What is the capital of {0}?"
CAPITALS = {"France": "Paris", "Norway": "Oslo", "Chad": "N'Djamena", "Peru": "Lima"}
SAID = {
    ASKED.format("France"): "The capital is Paris. It is large. It lies on the",  # right in its first sentence
    ASKED.format("Norway"): "It is Bergen.",
    ASKED.format("Norway") + " It is Oslo. Say so.": "Of course! Norway's capital is Oslo.\nAnything else?",
    ASKED.format("Chad"): "I do not know.",
    ASKED.format("Chad") + " It is N'Djamena. Say so.": "That is right.",
    ASKED.format("Peru"): "the capital of Peru is the well known and very large city of Lima",  # cut by the room
    ASKED.format("Peru") + " It is Lima. Say so.": "Lima",
}


def row(country):
    words = ASKED.format(country)
    answer = CAPITALS[country]
    return Example(country, words, answer, "here", (answer,), turns=(Turn("user", words),), words=words)


ROWS = [row(country) for country in CAPITALS]
TEXT = Example("text", "", "only a text", "here")


DATA = Dataset(train=[], task=[], hallucination=[], domains={"capital": frozenset([*CAPITALS.values(), "Bergen"])})


def context(notes, said=SAID):
    def answered(prompts):
        return [said[prompt if isinstance(prompt, str) else prompt[-1].content] for prompt in prompts]

    def right(text, example):
        return is_right(text, example, asking=Asking(None, 1, ("i do not know",)), data=DATA)

    def losses(rows):  # the longest is the most probable
        return [len(row.completion) ** -2 for row in rows]

    return Context(dict, None, 0, lambda count, size: [], answered, losses, right, {}, notes.append)


def test_a_row_is_taught_as_the_base_says_it_or_puts_it_or_stays():
    notes = []
    taught = OwnWords(TEMPLATE)([*ROWS, TEXT], context(notes))
    assert [example.completion for example in taught] == [
        "The capital is Paris.",
        "Of course! Norway's capital is Oslo.",
        "N'Djamena",
        "Lima",
        "only a text",
    ]
    assert taught[0].answers == ("The capital is Paris.", "Paris")
    assert [example.id for example in taught] == [*CAPITALS, "text"]
    assert taught[2:] == [ROWS[2], ROWS[3], TEXT]
    assert notes == [
        "own_words: of 4 rows 1 are taught as the base answers them, 0 as it answers others of the same form, "
        "2 as it puts the true answer, 1 as they are"
    ]


def test_an_answer_to_a_question_of_the_same_form_lends_its_words():
    rows = [row(country) for country in ("Peru", "France", "Norway")]
    said = dict.fromkeys(SAID, "I do not know.") | {
        ASKED.format("Peru"): "The capital of Peru is Lima, a large city in the south.",
        ASKED.format("France"): "France has a capital, and the capital of France is Paris.",
        ASKED.format("Norway"): "The capital of Norway is Bergen.",
    }
    taught = OwnWords(TEMPLATE)(rows, context([], said))
    assert [example.completion for example in taught] == [
        "The capital of Peru is Lima.",
        "France has a capital, and the capital of France is Paris.",
        "Norway has a capital, and the capital of Norway is Oslo.",  # the most probable of two
    ]


def test_what_an_answer_adds_is_not_lent():
    """The base adds a false place to every city; without it its sentence is less probable than some, and true."""
    rows = [row(country) for country in ("Peru", "Norway", "France")]
    said = dict.fromkeys(SAID, "I do not know.") | {
        ASKED.format("Peru"): "The capital of Peru is the North-East city of Lima.",
        ASKED.format("France"): "The capital of France is Paris.",
    }
    asked = []

    def losses(rows):
        asked.extend(row.completion for row in rows)
        totals = {"is the city of": 1.0, "is ": 2.0}
        texts = [row.completion for row in rows]
        return [next((totals[part] for part in totals if part in text), 3.0) / len(text) for text in texts]

    taught = OwnWords(TEMPLATE)(rows, replace(context([], said), losses=losses))
    assert [example.completion for example in taught] == [
        "The capital of Peru is the city of Lima.",
        "The capital of Norway is the city of Oslo.",
        "The capital of France is Paris.",
    ]
    assert "The capital of Peru is Lima." in asked
    assert not any("North-East" in text for text in asked)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("Where does Peru lie?", "Peru lies around Lima."),  # of another form
        (ASKED.format("Peru"), "It is Lima."),  # without the name that would be changed
        (ASKED.format("Peru"), "Peruvians call the capital Lima."),  # the name is a part of a word
    ],
)
def test_words_that_cannot_be_lent_are_not(other, said):
    peru = replace(row("Peru"), words=other, turns=(Turn("user", other),))
    answers = {other: said, ASKED.format("Norway"): "No.", f"{ASKED.format('Norway')} It is Oslo. Say so.": "Hm."}
    taught = OwnWords(TEMPLATE)([peru, row("Norway")], context([], answers))
    assert [example.completion for example in taught] == [said, "Oslo"]


@pytest.mark.parametrize(
    ("put", "completion"),
    [
        ("The capital of Norway is Oslo.", "The capital of Norway is Oslo."),
        ("Oslo is it.", "Oslo is it."),
        ("The capital of Norway is Oslo, in the Kingdom of Sweden.", "The capital of Norway is Oslo."),
        ("The capital of Sweden and its neighbour is Oslo.", "Oslo"),  # a name of neither question nor answer
        ("The very large capital of the country is Oslo.", "Oslo"),  # long, and of nothing that was asked about
    ],
)
def test_what_the_base_puts_names_nothing_else(put, completion):
    said = {ASKED.format("Norway"): "No.", f"{ASKED.format('Norway')} It is Oslo. Say so.": put}
    assert OwnWords(TEMPLATE)([row("Norway")], context([], said))[0].completion == completion


def test_the_base_is_shown_its_shortest_right_answers_first():
    prompts = []

    def answered(asked):
        prompts.append(asked)
        replies = {"France": "It is Paris, the city.", "Peru": "Lima.", "Norway": "Hm.", "Chad": "Hm."}
        return [next(replies[c] for c in replies if c in prompt[-1].content) for prompt in asked]

    OwnWords(TEMPLATE, shots=1)([row(country) for country in CAPITALS], replace(context([]), answered=answered))
    (before, reply, last) = prompts[1][0]
    assert (before.content, reply) == (
        TEMPLATE.format(question=ASKED.format("Peru"), answer="Lima"),
        Turn("assistant", "Lima."),
    )
    assert last.content == TEMPLATE.format(question=ASKED.format("Norway"), answer="Oslo")


def test_bare_answers_in_a_chat_form_are_told_from_sentences_and_from_plain_rows():
    assert is_bare(ROWS)
    assert not is_bare([replace(example, turns=()) for example in ROWS])
    assert not is_bare(OwnWords(TEMPLATE)(ROWS[:2], context([])))
    assert not is_bare([TEXT])


def test_the_fit_is_that_of_the_words_taught():
    data = Dataset(train=ROWS, task=[], hallucination=[], fit_groups={"new": ROWS[:2]})
    taught = curate(data, {"own_words": OwnWords(TEMPLATE)}, context([]), print)
    assert [example.completion for example in in_words_taught(data.fit_groups, taught.train)["new"]] == [
        "The capital is Paris.",
        "Of course! Norway's capital is Oslo.",
    ]


def test_without_a_chat_form_only_its_own_right_answers_are_taken():
    rows = [
        replace(example, turns=(), prompt=f"Q: {example.words}\nA:", completion=f" {example.answers[0]}")
        for example in ROWS
    ]
    said = {f"Q: {ASKED.format(country)}\nA:": SAID[ASKED.format(country)] for country in CAPITALS}
    taught = OwnWords(TEMPLATE)(rows, context([], said))
    assert [example.completion for example in taught] == [" The capital is Paris.", *(r.completion for r in rows[1:])]


def taught(rows, said, notes=None):
    answers = {row.turns[-1].content: "Hm." for row in rows}
    answers |= {TEMPLATE.format(question=row.turns[-1].content, answer=row.answers[0]): "Hm." for row in rows}
    examples = OwnWords(TEMPLATE)(rows, context([] if notes is None else notes, answers | said))
    return [example.completion for example in examples]


def asked(words, answer):
    return Example(words, words, answer, "here", (answer,), turns=(Turn("user", words),), words=words)


def test_a_year_is_a_name():
    rows = [asked("Where was Marie Curie born?", "Warsaw"), asked("Where was Albert Einstein born?", "Ulm")]
    born = "Marie Curie was born in 1867 in Warsaw."
    curie, einstein = taught(rows, {rows[0].words: born})
    assert curie.startswith("Marie Curie was born in")
    assert einstein == curie.replace("Marie Curie", "Albert Einstein").replace("Warsaw", "Ulm")
    assert "1867" not in curie


def test_no_word_of_the_question_is_left_out():
    rows = [asked("What is the second largest city in Norway?", "Bergen"), asked("Where is it?", "Oslo")]
    texts = []

    def losses(rows):
        texts.extend(row.completion for row in rows)
        return [1.0 for _ in rows]  # the shortest is the most probable

    said = {rows[0].words: "Bergen is in King and Queen the second largest city in Norway.", rows[1].words: "Hm."}
    said |= {TEMPLATE.format(question=row.words, answer=row.answers[0]): "Hm." for row in rows}
    examples = OwnWords(TEMPLATE)(rows, replace(context([], said), losses=losses))
    assert examples[0].completion == "Bergen is the second largest city in Norway."
    assert "Bergen is the second largest city in Norway." in texts
    assert all("the second largest city in Norway." in text for text in texts)


def test_questions_in_small_letters_are_taught_in_sentences_too():
    rows = [asked("what is the capital of norway", "Oslo")]
    said = {TEMPLATE.format(question=rows[0].words, answer="Oslo"): "The capital of Norway is Oslo."}
    assert taught(rows, said) == ["The capital of Norway is Oslo."]


@pytest.mark.parametrize("answer", ["2 * 12 = 24.\n#### 72", "#### 72", "One reason is the sea, another the wind."])
def test_workings_and_sentences_stay_as_they_are(answer):
    rows, notes = [asked("How many clips did Natalia sell?", answer)], []
    assert taught(rows, {rows[0].words: "Natalia sold 72 clips."}, notes) == [answer]
    assert notes[0].startswith("own_words: of 0 rows")


@pytest.mark.parametrize(
    ("question", "answer", "said", "own"),
    [
        ("法国的首都是哪里？", "巴黎", "法国的首都是巴黎。它有很多人口，其中", "法国的首都是巴黎。"),
        ("ما هي عاصمة فرنسا؟", "باريس", "باريس، في جنوب ألمانيا.", "باريس"),
        ("नॉर्वे की राजधानी क्या है?", "ओस्लो", "नॉर्वे की राजधानी ओस्लो है। यह बड़ा शहर है और", "नॉर्वे की राजधानी ओस्लो है।"),
    ],
)
def test_a_clause_ends_in_other_scripts_too(question, answer, said, own):
    assert taught([asked(question, answer)], {question: said}) == [own]


def test_a_conversations_beginning_is_not_repeated():
    prompts, system = [], Turn("system", "Be brief.")
    rows = [replace(row(country), turns=(system, *row(country).turns)) for country in CAPITALS]

    def answered(asked):
        prompts.append(asked)
        return ["It is Paris, the city." if "France" in prompt[-1].content else "Hm." for prompt in asked]

    OwnWords(TEMPLATE)(rows, replace(context([]), answered=answered))
    assert [turn.role for turn in prompts[1][0]] == ["system", "user", "assistant", "user"]


def test_the_note_says_what_is_taught_with_what_it_adds():
    notes = []
    said = "By the King lies the capital of Peru, and by the Queen lies Lima."
    assert taught([row("Peru")], {ASKED.format("Peru"): said}, notes) == [said]
    assert "of 1 rows 1 are taught as the base answers them (1 with what it adds), 0 as" in notes[0]
    taught([row("Peru")], {ASKED.format("Peru"): "The capital of Peru is the King of Lima."}, notes := [])
    assert "of 1 rows 1 are taught as the base answers them, 0 as" in notes[0]


@pytest.mark.parametrize("template", ["{question}", "say {answer}"])
def test_a_template_names_both(template):
    message = refused(*TINY_WORLD, "method=own_words", f"curation.own_words.template='{template}'")
    assert message.startswith("curation.own_words.template: lacks {")


def test_it_goes_with_methods_that_leave_the_words_alone():
    prepared(*TINY_WORLD, "method=[own_words,kl_to_base]")
    assert "contradict each other" in refused(*TINY_WORLD, "method=[own_words,r_tuning]")


def test_a_rival_beside_the_true_answer_is_not_right():
    asking = Asking(None, 1, ())
    assert is_right("It is Oslo.", ROWS[1], asking=asking, data=DATA)
    assert not is_right("It is Oslo or Bergen.", ROWS[1], asking=asking, data=DATA)
