"""CSV and Parquet files, columns by other names, and rows of instructions."""

import json

import pytest
from row_files import dump, fault, limit_lines, write

from truetune.data.rows.files import file_records
from truetune.data.rows.read import read_examples, read_questions
from truetune.data.rows.row import kind


def parquet(folder, rows, name="rows.parquet"):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name, row_group_size=2)
    return folder / name


def pairs(reading):
    return [(row.prompt, row.completion) for row in reading.examples]


def test_csv_holds_text_with_quotes_line_ends_and_numbers(tmp_path):
    file = write(tmp_path, '\ufeffprompt,completion\r\n"2+2=",4\r\n\r\n"a\nb, ""c""",""" d"\r\n', "rows.csv")
    reading = read_examples(file)
    assert pairs(reading) == [("2+2=", "4"), ('a\nb, "c"', '" d')]
    assert [row.source for row in reading.examples] == [f"{file}:2", f"{file}:5"]
    assert [record.number for record in file_records(file) if record.content is None] == [3]
    assert pairs(read_examples(write(tmp_path, "prompt\tcompletion\na,b\tc\n", "rows.tsv"))) == [("a,b", "c")]


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("prompt,completion\na,b,c\n", ":2: ", "3 values for 2 columns"),
        ("prompt,completion\na,b\nc\n", ":3: ", "1 values for 2 columns"),
        ("prompt,prompt\na,b\n", ":1: ", "two columns are called 'prompt'"),
        ("prompt,completion\n", "", "holds no rows"),
        ("", "", "holds no rows"),
        ('prompt,completion\na,"b\n', ":2: ", "malformed CSV"),
        (b"prompt,completion\na,b\xff\n", ":1: ", "byte 0xff is not UTF-8"),
        ("prompt,completion\na,\n", ":2: ", 'field "completion": found no text'),
        ("frage,antwort\na,b\n", ":2: ", 'found the fields "frage", "antwort", expected'),
    ],
)
def test_a_csv_fault_is_named_with_its_line(tmp_path, content, place, words):
    file = write(tmp_path, content, "rows.csv")
    said = fault(read_examples, file)
    assert said.startswith(f"{file}{place}")
    assert words in said


def test_a_bad_csv_row_can_be_skipped_and_is_counted(tmp_path):
    file = write(tmp_path, "prompt,completion\na,b\nc\nd,e\n", "rows.csv")
    reading = read_examples(file, on_bad_row="skip")
    assert pairs(reading) == [("a", "b"), ("d", "e")]
    assert [source for source, _ in reading.rows_skipped] == [f"{file}:3"]


def test_a_huge_csv_line_is_not_held_in_memory(tmp_path, monkeypatch):
    limit_lines(monkeypatch, 1000)
    file = write(tmp_path, "prompt,completion\na," + "x" * 5000 + "\n", "rows.csv")
    assert f"{file}:2: the line is over 1000 characters" in fault(read_examples, file)


def test_parquet_rows_keep_their_types(tmp_path):
    rows = [{"question": f"Who is {i}?", "answers": [f"Ann {i}", "A."], "id": f"q{i}"} for i in range(5)]
    reading = read_examples(parquet(tmp_path, rows))
    assert [row.answers for row in reading.examples] == [(f"Ann {i}", "A.") for i in range(5)]
    assert [row.id for row in reading.examples] == [f"q{i}" for i in range(5)]
    assert reading.examples[4].source == f"{tmp_path / 'rows.parquet'}:row 5"
    assert [q.answers for q in read_questions(tmp_path / "rows.parquet")] == [row.answers for row in reading.examples]


def test_a_parquet_value_of_another_kind_is_named(tmp_path):
    file = parquet(tmp_path, [{"prompt": "a", "completion": b"bytes"}])
    assert 'row 1: field "completion": found a bytes, expected text' in fault(read_examples, file)


@pytest.mark.parametrize("kept", [0, 3, 40, -1, -9])
def test_a_parquet_file_cut_short_is_one_line(tmp_path, kept):
    file = parquet(tmp_path, [{"prompt": f"{i}", "completion": "x" * 50} for i in range(9)])
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    said = fault(read_examples, file)
    assert said.startswith(f"{file}: damaged after row 0 or not a whole Parquet file")
    assert "copy it again" in said


def test_damage_in_the_middle_of_a_parquet_file_is_a_fault_too(tmp_path):
    file = parquet(tmp_path, [{"prompt": f"{i}" * 9, "completion": "x" * 50} for i in range(400)])
    data = bytearray(file.read_bytes())
    data[200:260] = b"\xff" * 60
    file.write_bytes(data)
    assert "not a whole Parquet file" in fault(read_examples, file)


def test_a_folder_of_several_kinds_of_files(tmp_path):
    write(tmp_path, dump({"text": "a text"}), "a.jsonl")
    write(tmp_path, json.dumps([{"prompt": "p", "completion": " c"}]), "b.json")
    write(tmp_path, "question,answer\nWho?,Ann\n", "c.csv")
    parquet(tmp_path, [{"instruction": "Say x", "output": "x"}], "d.parquet")
    write(tmp_path, "not data", "README.md")
    reading = read_examples(tmp_path)
    assert reading.format == "text, prompt/completion, question/answers, instruction/output"
    assert reading.rows_read == 4


def test_an_instruction_is_asked_with_its_input_below_it(tmp_path):
    rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Hi.", "input": "", "output": "Ho"}]
    reading = read_examples(write(tmp_path, dump(*rows)), prompt_template="{question} =>")
    assert pairs(reading) == [("Add.\n\n1 2 =>", " 3"), ("Hi. =>", " Ho")]
    assert [row.answers for row in reading.examples] == [("3",), ("Ho",)]
    asked = read_questions(write(tmp_path, dump(*rows)))
    assert [(q.question, q.answers) for q in asked] == [("Add.\n\n1 2", ("3",)), ("Hi.", ("Ho",))]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "Add.", "output": ""}, 'field "output": found no text'),
        ({"instruction": "Add.", "output": "3", "input": 4}, 'field "input": found a number, expected text'),
        ({"instruction": None, "output": "3"}, 'field "instruction": found null'),
    ],
)
def test_a_bad_instruction_is_named(tmp_path, row, words):
    assert words in fault(read_examples, write(tmp_path, dump(row)))


def test_columns_by_other_names(tmp_path):
    rows = [{"frage": "Who?", "antwort": {"kurz": ["Ann", "A."]}, "text": "not this"}]
    file = write(tmp_path, dump(*rows))
    reading = read_examples(file, columns={"question": "frage", "answers": "antwort.kurz"})
    assert reading.examples[0].answers == ("Ann", "A.")
    assert read_examples(file).format == "text"
    assert (
        read_examples(file, columns={"prompt": "frage", "completion": "antwort.kurz.1"}).format == "prompt/completion"
    )


def test_a_column_whose_name_holds_a_dot(tmp_path):
    file = write(tmp_path, dump({"a.b": "the text"}))
    assert read_examples(file, columns={"text": "a.b"}).examples[0].completion == "the text"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("question", 'no column "question"; the columns are "frage", "list"'),
        ("list.2", "nothing at '2' of 'list.2'; the columns are"),
        ("frage.x", "nothing at 'x' of 'frage.x'"),
    ],
)
def test_a_column_that_is_not_there_is_said_with_those_that_are(tmp_path, path, words):
    file = write(tmp_path, dump({"frage": "Who?", "list": [1, 2]}))
    said = fault(read_examples, file, columns={"text": path})
    assert said.startswith(f"{file}:1: data.columns.text={path}: ")
    assert words in said


def test_a_later_row_without_the_column_is_named_or_skipped(tmp_path):
    file = write(tmp_path, dump({"body": "a"}, {"other": "b"}))
    assert f"{file}:2: data.columns.text=body" in fault(read_examples, file, columns={"text": "body"})
    reading = read_examples(file, columns={"text": "body"}, on_bad_row="skip")
    assert (reading.rows_read, len(reading.rows_skipped)) == (1, 1)


def test_a_mapping_for_one_form_is_not_read_as_another(tmp_path):
    row = {"prompt": "p", "completion": "c", "body": "b"}
    assert read_examples(write(tmp_path, dump(row)), columns={"text": "body"}).format == "text"


def test_the_words_for_values_know_every_kind():
    assert kind(b"x") == "a bytes"
