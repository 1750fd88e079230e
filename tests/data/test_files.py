"""A user's own files: what is asked is not trained on, every answer that is right counts, and the notes say it all."""

import unicodedata

import pytest
from row_files import dump, fault, write

from truetune.config import checks
from truetune.data import text as text_source
from truetune.data.files import Files
from truetune.data.questions import Questions
from truetune.data.text import Text
from truetune.scoring.judge import judged

TEMPLATE = "Question: {question}\nAnswer:"


def load(train, **changed):
    options = {"seed": 0, "probe_file": None, "retention_file": None, "probe_questions": 5, "validation_rows": 4}
    options |= {"prompt_template": TEMPLATE, "on_bad_row": "error"} | changed
    return Files(train_file=str(train), **options).load()


def facts(count=30):
    return [
        {"question": f"Who wrote book {i}?", "answers": [f"Ann {i}", f"A. {i}", f"Annie {i}"]} for i in range(count)
    ]


def prompts(rows):
    return {row.prompt for row in rows}


def test_set_aside_questions_keep_every_alias(tmp_path):
    data = load(write(tmp_path, dump(*facts())))
    assert len(data.task) == 5
    for question in data.task:
        number = int(question.id.rpartition(":")[2]) - 1
        assert question.question == f"Question: Who wrote book {number}?\nAnswer:"
        assert question.answers == (f"Ann {number}", f"A. {number}", f"Annie {number}")
        assert question.source.endswith(f":{number + 1}")
    assert data.hallucination == data.task
    assert all(row.completion == f" {row.answers[0]}" for row in data.train)


def test_rows_carry_the_bare_question_for_the_models_own_form(tmp_path):
    told = [{"instruction": f"Name {i}.", "input": "Briefly.", "output": f"N {i}"} for i in range(30)]
    for rows, words in ((facts(), "Who wrote book 3?"), (told, "Name 3.\n\nBriefly.")):
        data = load(write(tmp_path, dump(*rows)))
        carried = {row.prompt: row.words for row in data.train} | {q.question: q.words for q in data.task}
        assert all(prompt == TEMPLATE.replace("{question}", bare) for prompt, bare in carried.items())
        assert words in {*carried.values(), *(q.words for q in data.select_task)}
    plain = load(write(tmp_path, dump(*({"prompt": f"{i}=", "completion": "y"} for i in range(30)))))
    assert {row.words for row in plain.train} == {q.words for q in plain.task} == {""}


def test_training_validation_and_probe_rows_are_disjoint_and_none_is_lost(tmp_path):
    data = load(write(tmp_path, dump(*facts())))
    asked = {question.question for question in data.task}
    train, validation = prompts(data.train), prompts(data.validation)
    assert not asked & train
    assert not asked & validation
    assert not train & validation
    assert [len(asked), len(validation), len(train)] == [5, 4, 21]
    assert {q.question for q in data.select_task} == validation


def test_a_question_asked_twice_is_on_one_side_only(tmp_path):
    rows = facts(20) + [{**row, "answers": ["Someone else"]} for row in facts(20)]
    for seed in range(5):
        data = load(write(tmp_path, dump(*rows)), seed=seed)
        sides = [{q.question for q in data.task}, prompts(data.validation), prompts(data.train)]
        assert sum(map(len, sides)) == len(set().union(*sides)) == 20


@pytest.mark.parametrize(
    "another",
    [lambda text: text.upper().replace(" ", "  "), lambda text: unicodedata.normalize("NFD", text)],
)
def test_case_spacing_and_how_accents_are_written_do_not_make_a_question_another_one(tmp_path, another):
    rows = [{**row, "question": f"Qu\u00e9? {row['question']}"} for row in facts(20)]
    data = load(write(tmp_path, dump(*rows, *({**row, "question": another(row["question"])} for row in rows))))
    sides = ({q.question for q in data.task}, prompts(data.validation), prompts(data.train))
    asked, chosen, trained = (
        {" ".join(unicodedata.normalize("NFC", text).casefold().split()) for text in side} for side in sides
    )
    assert not asked & trained
    assert not (asked | trained) & chosen


def test_a_text_that_comes_twice_is_on_one_side_only_and_that_is_said(tmp_path):
    rows = [{"text": f"This is text {i % 20}."} for i in range(40)]
    data = load(write(tmp_path, dump(*rows)))
    sides = [{row.completion for row in part} for part in (data.task_texts, data.validation, data.train)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 20
    left = 40 - sum(map(len, (data.task_texts, data.validation, data.train)))
    said = [note for note in data.notes if note.endswith("repeat a row set aside: left out of training")]
    assert sum(int(note.split()[0]) for note in said) == left > 0


def test_a_probe_question_that_comes_twice_counts_once(tmp_path):
    """It gets one answer: twelve copies are no twelve observations. Contexts make other questions of it."""
    same = [{"question": "Who else?", "answers": ["y"], "context": f"{n}"} for n in range(12)]
    probe = write(tmp_path, dump(*same, {"question": "Who?", "answers": ["y"]}), "probe.jsonl")
    train = write(tmp_path, dump(*facts()))
    for data in (load(train, probe_file=str(probe)), Questions(str(probe), None, TEMPLATE).load()):
        for part in (data.task, data.hallucination):
            assert len({question.cluster or question.id for question in part}) == 2
            assert len({question.id for question in part}) == 13
        assert len({question.cluster or question.id for question in data.contexts}) == 12
        ids = [question.id for question in (*data.hallucination, *data.contexts)]
        assert len(set(ids)) == len(ids), "asked below its context it is another question: a report shows both"
        assert checks.questions(data.task)[0].startswith("2 probe questions can show no change")


def test_the_seed_decides_the_split(tmp_path):
    file = write(tmp_path, dump(*facts()))
    assert load(file).task == load(file).task
    assert {q.id for q in load(file).task} != {q.id for q in load(file, seed=1).task}


def test_at_most_a_fifth_is_set_aside(tmp_path):
    data = load(write(tmp_path, dump(*facts(10))), probe_questions=200, validation_rows=64)
    assert (len(data.task), len(data.validation), len(data.train)) == (2, 1, 7)


def test_rows_that_ask_a_probe_question_are_left_out_and_that_is_said(tmp_path):
    file = write(tmp_path, dump(*facts()))
    asked = [{"question": "WHO  wrote book 3?", "answers": ["x"]}, {"question": "Who wrote book 7?", "answers": []}]
    probe = write(tmp_path, dump(*asked, {"question": "Who else?", "answers": ["y"]}), "probe.jsonl")
    data = load(file, probe_file=str(probe))
    assert [q.answers for q in data.task] == [("x",), (), ("y",)]
    kept = prompts(data.train) | prompts(data.validation)
    assert kept == {TEMPLATE.format(question=f"Who wrote book {i}?") for i in range(30) if i not in (3, 7)}
    assert f"2 training rows ask a question of {probe}: left out of training" in data.notes


def test_without_overlap_nothing_is_left_out_or_said(tmp_path):
    probe = write(tmp_path, dump({"question": "Who else?", "answers": ["y"]}), "probe.jsonl")
    data = load(write(tmp_path, dump(*facts())), probe_file=str(probe))
    assert len(data.train) + len(data.validation) == 30
    assert not [note for note in data.notes if "left out" in note]
    assert not [note for note in data.notes if "set aside" in note]


@pytest.mark.parametrize(
    ("rows", "form"),
    [
        (facts(), "question/answers"),
        ([{"prompt": f"Say {i}:", "completion": f" {i}"} for i in range(30)], "prompt/completion"),
        ([{"text": f"This is text {i}."} for i in range(30)], "text"),
    ],
)
def test_the_notes_say_the_format_and_what_was_set_aside(tmp_path, rows, form):
    file = write(tmp_path, dump(*rows))
    notes = load(file).notes
    assert notes[0] == f"{file}: 30 rows, recognised as {form}"
    assert notes[1].startswith(f"5 rows of {file} set aside as the probe")


def test_prompt_and_completion_are_taken_as_they_stand(tmp_path):
    rows = [{"prompt": f"Say {i}:", "completion": f"  {i}!"} for i in range(30)]
    data = load(write(tmp_path, dump(*rows)))
    for row in data.train:
        number = row.prompt.removeprefix("Say ").removesuffix(":")
        assert (row.completion, row.answers) == (f"  {number}!", (f"{number}!",))
    assert all(question.answers == (f"{question.question[4:-1]}!",) for question in data.task)


def test_texts_ask_nothing_but_are_held_out(tmp_path):
    data = load(write(tmp_path, dump(*[{"text": f"This is text {i}."} for i in range(30)])))
    assert not data.task
    assert not data.hallucination
    assert not data.select_task
    held = {row.completion for row in (*data.task_texts, *data.validation)}
    trained = {row.completion for row in data.train}
    assert (len(data.task_texts), len(held), len(trained)) == (5, 9, 21)
    assert not held & trained
    assert prompts(data.train) == {""}


def test_a_retention_file_is_read_and_not_trained_on(tmp_path):
    kept = write(tmp_path, dump({"text": "Keep this."}, {"text": "And this."}), "kept.jsonl")
    data = load(write(tmp_path, dump(*facts())), retention_file=str(kept))
    assert [row.completion for row in data.texts] == ["Keep this.", "And this."]
    assert not {"Keep this.", "And this."} & {row.completion for row in data.train}
    old = write(tmp_path, dump(*[{"text": f"Old {i}."} for i in range(20)]), "old.jsonl")
    some = write(tmp_path, dump({"text": "old  3."}, {"text": "Old 7."}), "some.jsonl")
    mixed = load(tmp_path / "rows.jsonl", retention_file=str(some), mixture=[{"file": str(old), "weight": 2.0}])
    assert not {"Old 3.", "Old 7."} & {row.completion for row in mixed.train}
    assert f"2 rows of {old} are held out: not mixed in" in mixed.notes
    taught = load(old, retention_file=str(some), probe_questions=0, validation_rows=0)
    assert {row.completion for row in taught.train} == {f"Old {i}." for i in range(20)} - {"Old 3.", "Old 7."}
    assert f"2 training rows repeat a text of {some}: left out of training" in taught.notes


def test_skipped_rows_are_counted_with_the_first_place(tmp_path):
    file = write(tmp_path, dump(facts()[0]) + "{broken\n[1]\n" + dump(*facts()[1:]))
    notes = load(file, on_bad_row="skip").notes
    assert notes[0] == f"{file}: 30 rows, recognised as question/answers"
    assert notes[1].startswith(f"2 rows skipped, the first: {file}:2:")
    assert f"{file}:2:" in fault(load, file)


def test_too_few_rows_to_train_on_are_said(tmp_path):
    same = write(tmp_path, dump(*[{"question": "Who?", "answers": ["Ann"]}] * 10))
    text = fault(load, same)
    assert text.startswith(f"{same}: no row is left to train on")
    assert "data.probe_questions" in text
    text = fault(load, same, probe_file=str(same))
    assert text.startswith(f"{same}: no row is left to train on; 10 training rows ask a question of {same}: left out")
    assert "data.probe_questions" not in text, "a probe file takes what it asks, whatever that key says"


def paragraphs(count):
    return "\n\n".join(f"Paragraph {i} " + "word " * 40 for i in range(count))


def test_held_out_segments_of_a_text_are_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(text_source, "SEGMENT", 500)
    text = paragraphs(60)
    file = write(tmp_path, text, "book.txt")
    data = Text(seed=0, train_file=str(file), held_out_share=0.25).load()
    held = [*data.validation, *data.task_texts]
    rows = [*data.train, *held]
    assert len({row.id for row in rows}) == len(rows) == 20
    assert (len(held), len(data.validation), len(data.task_texts)) == (5, 2, 3)
    trained = "".join(row.completion for row in data.train)
    for row in held:
        assert not [line for line in row.completion.split("\n\n") if line.strip() and line in trained]
    ordered = sorted(rows, key=lambda row: int(row.id.rpartition("/")[2]))
    assert "".join(row.completion for row in ordered).rstrip() == text.rstrip()
    assert data.notes == [f"{file}: plain text, 15 segments to train on, 5 held out"]
    assert {row.prompt for row in rows} == {""}


def test_the_seed_decides_which_segments_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr(text_source, "SEGMENT", 500)
    file = write(tmp_path, paragraphs(60), "book.txt")
    held = [[row.id for row in Text(seed, str(file), 0.25).load().task_texts] for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_a_text_of_which_nothing_is_left_to_train_on_is_refused(tmp_path, monkeypatch):
    file = write(tmp_path, "Short.", "book.txt")
    assert fault(Text(0, str(file), 0.1).load).startswith(f"{file}: 1 segment of text is too little")
    monkeypatch.setattr(text_source, "SEGMENT", 500)
    book = write(tmp_path, paragraphs(60), "long.txt")
    assert fault(Text(0, str(book), 0.99).load) == "data.held_out_share=0.99: all 20 segments are held out"


@pytest.mark.parametrize("own", [False, True])
def test_worked_answers_are_learnt_whole_and_judged_on_their_last_number(tmp_path, own):
    rows = [{"question": f"How many is {i} and 2?", "answer": f"{i} + 2 = {i + 2}\n#### {i + 2}"} for i in range(30)]
    probe = str(write(tmp_path, dump({"question": "And 3?", "answer": "1 + 2 = 3\n#### 3"}), "probe.jsonl"))
    data = load(write(tmp_path, dump(*rows)), probe_file=probe if own else None)
    asked = data.task[0]
    number = asked.answers[0].rpartition("#### ")[2]
    assert (
        f"{len(data.task)} of {len(data.task)} probe questions are judged on the number behind #### alone" in data.notes
    )
    assert judged(f"Together they are {number}.", asked.answers) == "right"
    assert judged(f"{asked.answers[0]}5", asked.answers) == "wrong"
    assert all("\n#### " in row.completion for row in data.train)
