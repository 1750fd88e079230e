"""Rows become examples and questions, are skipped with a reason, or are refused with their place in the file."""

import json
from pathlib import Path

import pytest
from row_files import dump, fault, write

from truetune.data.dataset import Example, Question
from truetune.data.rows.files import file_records
from truetune.data.rows.forms import fill
from truetune.data.rows.read import read_examples, read_questions, read_text

REAL = Path(__file__).parents[4] / "shared" / "data"
needs_real_files = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not on this machine")


@pytest.mark.parametrize(
    ("row", "form", "prompt", "completion"),
    [
        ({"text": " as it is\n"}, "text", "", " as it is\n"),
        ({"prompt": "2+2=", "completion": "4"}, "prompt/completion", "2+2=", "4"),
        ({"question": "Who?", "answers": ["Ann", "A."]}, "question/answers", "Question: Who?\nAnswer:", " Ann"),
        ({"question": "Who?", "answer": " Ann "}, "question/answers", "Question: Who?\nAnswer:", " Ann"),
        (
            {"question": "6*7?", "answer": "6*7 = <<6*7=42>>42\n#### 42"},
            "question/answers",
            "Question: 6*7?\nAnswer:",
            " 6*7 = <<6*7=42>>42\n#### 42",
        ),
    ],
)
def test_the_first_row_decides_the_format(tmp_path, row, form, prompt, completion):
    file = write(tmp_path, dump(row))
    reading = read_examples(file)
    assert (reading.format, reading.rows_read, reading.rows_skipped) == (form, 1, [])
    assert [(e.id, e.prompt, e.completion, e.source) for e in reading.examples] == [
        ("rows:1", prompt, completion, f"{file}:1")
    ]


def test_an_example_keeps_every_answer_that_would_be_right(tmp_path):
    file = write(tmp_path, dump({"question": "Who?", "answers": ["Ann", "A."]}))
    assert read_examples(file).examples[0].answers == ("Ann", "A.")


def test_one_space_parts_prompt_and_answer(tmp_path):
    file = write(tmp_path, dump({"question": "Who?", "answers": "Ann"}))
    for template in ("{question} ->", "{question}\n", "{question} "):
        example = read_examples(file, prompt_template=template).examples[0]
        seam = (example.prompt + example.completion).removesuffix("Ann").removeprefix("Who?").removeprefix(" ->")
        assert seam in (" ", "\n")


def test_a_template_may_hold_other_braces_but_must_ask():
    assert fill('{"q": "{question}", "a":', "{question}?") == '{"q": "{question}?", "a":'
    assert "must contain {question}" in fault(fill, "Answer:", "Who?")
    assert "must contain {question}" in fault(read_examples, "unread.jsonl", prompt_template="")


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ({"text": "x"}, 'found the fields "text", expected "prompt" and "completion" as in the rows before'),
        ({"prompt": "x"}, 'found the fields "prompt", expected'),
        ({}, "found the fields none, expected"),
        ({"prompt": "x", "completion": None}, 'field "completion": found null, expected text'),
        ({"prompt": "x", "completion": 4}, 'field "completion": found a number, expected text'),
        ({"prompt": 3, "completion": "y"}, 'field "prompt": found a number, expected text'),
        ({"prompt": "x", "completion": " \n"}, 'field "completion": found no text'),
        ({"prompt": "", "completion": "y"}, 'field "prompt": found no text'),
    ],
)
def test_a_bad_row_stops_or_is_counted(tmp_path, later, words):
    good = {"prompt": "a", "completion": "b"}
    file = write(tmp_path, dump(good) + "\n" + dump(later, good))
    text = fault(read_examples, file)
    assert text.startswith(f"{file}:3: {words}")
    reading = read_examples(file, on_bad_row="skip")
    assert [example.id for example in reading.examples] == ["rows:1", "rows:4"]
    assert reading.rows_read == 2
    assert [record.number for record in file_records(file) if record.content is None] == [2]
    assert reading.rows_skipped == [(f"{file}:3", text.removeprefix(f"{file}:3: "))]


def test_malformed_lines_are_skipped_with_their_column(tmp_path):
    file = write(tmp_path, '{"text": "a"}\n{"text": \n{"text": "b"}\n{"te')
    reading = read_examples(file, on_bad_row="skip")
    assert [example.completion for example in reading.examples] == ["a", "b"]
    assert [source for source, _ in reading.rows_skipped] == [f"{file}:2", f"{file}:4"]
    assert reading.rows_skipped[0][1] == "column 10: malformed JSON: Expecting value"


def test_a_file_of_bad_rows_alone_is_refused_even_when_skipping(tmp_path):
    file = write(tmp_path, dump({"note": 1}, {"note": 2}))
    text = fault(read_examples, file, on_bad_row="skip")
    assert text.startswith(f'{file}: no row can be used; the first fault is {file}:1: found the fields "note"')


def test_unknown_fields_are_named_without_filling_the_screen(tmp_path):
    text = fault(read_examples, write(tmp_path, dump({f"field\n{i}" * 30: i for i in range(100)})))
    assert "and 92 more" in text
    assert len(text) < 1_000


def test_an_id_is_the_rows_own_or_its_place(tmp_path):
    ids = ["a", 7, "", None, True, 1.5, " "]
    file = write(tmp_path, dump(*({"id": i, "text": "x"} for i in ids)))
    found = [example.id for example in read_examples(file).examples]
    assert found == ["a", "7", "rows:3", "rows:4", "rows:5", "rows:6", "rows:7"]


def test_an_id_given_twice_names_both_lines(tmp_path):
    row = {"id": "a", "question": "Who?", "answers": ["Ann"]}
    file = write(tmp_path, dump(row, {**row, "id": "b"}, row))
    for read in (read_examples, read_questions):
        assert fault(read, file).startswith(f'{file}:3: the id "a" is that of {file}:1 too')
    assert read_examples(file, on_bad_row="skip").rows_read == 2


def test_several_files_and_folders_are_read_in_order(tmp_path):
    write(tmp_path, dump({"text": "2"}), "b.jsonl")
    write(tmp_path, json.dumps([{"prompt": "p", "completion": "1"}]), "a.json")
    write(tmp_path, "not data", "notes.md")
    write(tmp_path, "hidden", ".c.jsonl")
    poem = write(tmp_path, b"\xef\xbb\xbfone\r\n\r\ntwo", "poem.txt")
    reading = read_examples([tmp_path, poem])
    assert [example.id for example in reading.examples] == ["a:1", "b:1", "poem"]
    assert reading.examples[2] == Example("poem", "", "one\n\ntwo", str(poem))
    assert (reading.format, reading.rows_read) == ("prompt/completion, text", 3)
    assert 'the id "b:1" is that of' in fault(read_examples, [tmp_path, tmp_path / "b.jsonl"])


def test_what_is_not_data_is_refused(tmp_path):
    write(tmp_path, "a,b", "rows.xlsx")
    said = fault(read_examples, tmp_path / "rows.xlsx")
    assert "the name ends in '.xlsx', expected .jsonl, .json, .csv, .tsv, .parquet, .ndjson, .arrow or .txt" in said
    assert "no data file is named" in fault(read_examples, [])
    assert "holds no text" in fault(read_examples, write(tmp_path, " \n", "blank.txt"))
    broken = write(tmp_path, b"\xef\xbb\xbfok\nno\xff", "broken.txt")
    assert fault(read_text, broken).startswith(f"{broken}:2: byte 0xff at byte offset 8 is not UTF-8")


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"answers": ["Ann", "A.", "Ann "]}, ("Ann", "A.")),
        ({"answer": "Ann", "answers": ["A."], "aliases": ["Annie", "A."]}, ("Ann", "A.", "Annie")),
        ({"answer": None, "aliases": "Annie"}, ("Annie",)),
        ({"answers": []}, ()),
        ({"answers": None, "answerable": False}, ()),
        ({"answerable": False}, ()),
        ({"answers": ["Ann"], "answerable": True}, ("Ann",)),
    ],
)
def test_answers_and_aliases_are_merged(tmp_path, row, answers):
    file = write(tmp_path, dump({"question": "Who?", "cluster": "firm", "population": "new", **row}))
    assert read_questions(file) == [Question("rows:1", "Who?", answers, f"{file}:1", "new", "firm", words="Who?")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Who?"}, 'or "question" and "answers" (or "answer", "aliases"), or "text"'),
        ({"question": "Who?", "answers": None}, 'field "answers": found no answer'),
        ({"question": "Who?", "answers": [], "answerable": True}, 'field "answers": found no answer'),
        ({"question": "Who?", "answers": ["x"], "answerable": False}, "found false and an answer"),
        ({"question": "Who?", "answers": ["x"], "answerable": "perhaps"}, 'found "perhaps", expected true or false'),
        ({"question": "Who?", "answers": ["x", ""]}, 'field "answers": found no text'),
        ({"question": "Who?", "answers": [None]}, 'field "answers": found no answer'),
        ({"question": "Who?", "answers": "no", "answerable": "no"}, "found false and an answer"),
        ({"question": "Who?", "answer": {"words": "x"}}, 'field "answer": found an object, expected text'),
        ({"question": " ", "answers": ["x"]}, 'field "question": found no text'),
        ({"question": None, "answers": ["x"]}, 'field "question": found null, expected text'),
        ({"text": "It rains."}, "a text asks nothing"),
    ],
)
def test_a_question_that_cannot_be_judged_is_refused(tmp_path, row, words):
    file = write(tmp_path, dump(row))
    text = fault(read_questions, file)
    assert text.startswith(f"{file}:1: ")
    assert words in text


def test_a_question_without_an_answer_teaches_nothing(tmp_path):
    file = write(tmp_path, dump({"question": "Who?", "answers": []}))
    assert "no answer to learn" in fault(read_examples, file)


def test_a_prompt_is_asked_as_it_stands_and_a_question_in_the_template(tmp_path):
    prompted = write(tmp_path, dump({"prompt": "2+2=", "completion": " 4\n"}), "a.jsonl")
    asked = write(tmp_path, dump({"question": "Who?", "answers": ["Ann"]}), "b.jsonl")
    one, two = read_questions([prompted, asked], prompt_template="Q: {question}")
    assert (one.question, one.answers) == ("2+2=", ("4",))
    assert two.question == "Q: Who?"
    assert "a text asks nothing" in fault(read_questions, tmp_path / "poem.txt")


@needs_real_files
@pytest.mark.parametrize(
    ("name", "rows", "form"),
    [
        ("gsm8k_test.jsonl", 1_319, "question/answers"),
        ("nq_open_dev.jsonl", 3_610, "question/answers"),
        ("tiny_shakespeare.txt", 1, "text"),
        ("entity_questions_test/P17.test.json", 1_000, "question/answers"),
    ],
)
def test_real_files_are_read_whole(name, rows, form):
    reading = read_examples(REAL / name)
    assert (reading.rows_read, reading.format, reading.rows_skipped) == (rows, form, [])


@needs_real_files
def test_real_probe_files_keep_their_unanswerable_questions():
    asked = read_questions(REAL / "self_aware.json")
    assert (len(asked), sum(not q.answers for q in asked)) == (3_369, 1_032)
    assert len({q.id for q in read_questions(REAL / "entity_questions_test")}) > 20_000
    assert 'field "answers": found no answer' not in fault(read_examples, REAL / "self_aware.json")


@needs_real_files
def test_a_real_file_of_another_format_is_refused_with_the_fields_it_has():
    assert '"instruction"' in fault(read_examples, REAL / "alpaca_seed_tasks.jsonl")


@pytest.mark.parametrize("output", ['["a", "b"]', '{"name": "x", "age": 3}', "{12,2}, {7,3,4}", "[1, 2]"])
def test_an_output_that_is_json_is_learnt_as_it_stands(tmp_path, output):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Write it.", "output": output}) + "\n")
    (row,) = read_examples(path).examples
    assert row.completion.strip() == output
    assert row.answers == (output,)
