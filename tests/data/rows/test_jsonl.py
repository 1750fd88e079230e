"""Every row is found at its place in the file, and every fault is named with it."""

import json
import os
import tracemalloc

import pytest
from row_files import dump, fault, limit_lines, write

from truetune.data.rows.files import iter_rows
from truetune.data.rows.read import read_examples, read_questions, read_text


def rows_of(file):
    return list(iter_rows(file))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'{"a": 1}\n{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'{"a": 1}\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n', [(1, {"a": 1}), (3, {"a": 2})]),
        (b'\n \t\n{"a": 1}\n\n', [(3, {"a": 1})]),
        ('{"a": "x\u2028y\x85z"}\n'.encode(), [(1, {"a": "x\u2028y\x85z"})]),
        (b'{"a": "\\ud83d\\ude00"}\n', [(1, {"a": "😀"})]),
    ],
)
def test_lines_end_at_newlines_alone_and_keep_their_numbers(tmp_path, content, rows):
    assert rows_of(write(tmp_path, content)) == rows


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b'{"a": 1}\n{"a": }\n{"a": 3}\n', ":2:7: ", "malformed JSON: Expecting value"),
        (b'{"a": 1}\n\n{"a": "tru', ":3:7: ", "last line incomplete (is the file still being written?)"),
        ('{"a": "é'.encode()[:-1], ":1: ", "last line incomplete"),
        (b'{"a": 1}\n[1]\n', ":2: ", "found a list, expected an object"),
        (b'"a"\n', ":1: ", "found text, expected an object"),
        (b"null\n", ":1: ", "found null, expected an object"),
        (b'{"a": NaN}\n', ":1: ", "NaN is not JSON"),
        (b'{"a": -Infinity}\n', ":1: ", "-Infinity is not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}\n', ":1: ", 'field "c" occurs twice'),
        (b'{"a": 1}\n{"a": "caf\xe9"}\n', ":2: ", "byte 0xe9 at byte offset 19 is not UTF-8"),
        (b'\xef\xbb\xbf{"a": "\xff"}\n', ":1: ", "byte 0xff at byte offset 10 is not UTF-8"),
        (b'\xff\xfe{\x00"', ": ", "begins as UTF-16 and does not go on as such"),
        (b'{"a": 1, "b": ["\\ud800"]}\n', ":1: ", 'field "b": lone surrogate \\ud800'),
        (b'{"\\udfff": 1}\n', ":1: ", "lone surrogate \\udfff"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ":1: ", "nested too deeply"),
        (b'{"a": ' + b"1" * 5_000 + b"}\n", ":1: ", "digits"),
        (b'{"a": "x\ty"}\n', ":1:9: ", "Invalid control character"),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path, content, place, words):
    file = write(tmp_path, content)
    text = fault(rows_of, file)
    assert text.startswith(f"{file}{place}")
    assert words in text


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n \n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    file = write(tmp_path, content)
    assert fault(rows_of, file).startswith(f"{file.absolute()}: the file holds")
    assert "the file holds" in fault(read_examples, file, on_bad_row="skip")


def test_a_missing_file_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (rows_of, read_examples, read_questions):
        assert fault(read, "none.jsonl").startswith(f"{tmp_path / 'none.jsonl'}: there is no such file")
    assert "no such file" in fault(read_text, "none.txt")
    assert "cannot be read" in fault(read_examples, "x" * 5_000 + ".jsonl")


def test_a_folder_is_not_a_file(tmp_path):
    assert fault(rows_of, tmp_path) == f"{tmp_path}: this is a folder; name a file in it"
    assert "the folder holds no .jsonl, .json, .csv, .tsv, .parquet, .ndjson or .arrow file" in fault(
        read_examples, tmp_path
    )


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_file_without_permission_is_refused(tmp_path):
    file = write(tmp_path, dump({"text": "x"}))
    file.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read everything
    try:
        text = fault(read_examples, file)
    finally:
        if root:
            os.seteuid(0)
    assert text == f"{file}: no permission to read the file; allow it with chmod u+r"


def test_an_endless_line_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    limit_lines(monkeypatch, 2**20)
    file = write(tmp_path, dump({"text": "before"}))
    with file.open("ab") as out:
        out.truncate(100 * 2**20)
    with file.open("ab") as out:
        out.write(b"\n" + dump({"text": "after"}).encode())
    tracemalloc.start()
    reading = read_examples(file, on_bad_row="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20
    assert [e.completion for e in reading.examples] == ["before", "after"]
    assert fault(rows_of, file).startswith(f"{file}:2: the line is over 1048576 bytes")


def test_byte_offsets_count_what_was_skipped(tmp_path, monkeypatch):
    limit_lines(monkeypatch, 50)
    file = write(tmp_path, b'{"text": "' + b"x" * 100_000 + b'"}\n{"text": "ok"}\n\xff\n')
    reasons = [reason for _, reason in read_examples(file, on_bad_row="skip").rows_skipped]
    assert reasons[1].startswith("byte 0xff at byte offset 100028 is not UTF-8")


def test_a_line_of_exactly_the_limit_is_read(tmp_path, monkeypatch):
    line = dump({"text": "x"})
    file = write(tmp_path, line)
    limit_lines(monkeypatch, len(line))
    assert len(rows_of(file)) == 1
    limit_lines(monkeypatch, len(line) - 1)
    assert "over" in fault(rows_of, file)


def test_a_json_array_is_read_and_its_rows_numbered(tmp_path):
    rows = [{"question": "Who?", "answers": ["Ann"]}, {"question": "Where?", "answers": []}]
    for content in (rows, {"name": "wrapped", "keywords": ["a"], "example": rows}):
        file = write(tmp_path, json.dumps(content, indent=2), "asked.json")
        assert rows_of(file) == [(1, rows[0]), (2, rows[1])]
        first, second = read_questions(file)
        assert (first.id, first.source, first.answers) == ("asked:1", f"{file}:row 1", ("Ann",))
        assert second.answers == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"text": "a"} {"text": "b"}\n', ":1:15: malformed JSON: Extra data; write an array, or one object per line"),
        ('{"text": "a"}\n{"text": "b"\n', ":2:"),
        ('[{"text": "a"},\n]', ":2:1: malformed JSON"),
        ('{"text": "a"}', "one object without a list of objects"),
        ('{"dev": [{"text": "a"}], "test": [{"text": "b"}]}', 'holds the splits "dev", "test", and train is wanted'),
        ('[{"text": "a"}, 3]', ":row 2: found a number, expected an object"),
        ("7", ": found a number, expected an array of objects"),
        ("[]", ": the file holds no rows"),
        ("", ": the file holds no rows"),
        ('[{"text": NaN}]', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (b'[{"text": "\xff"}]', ":1: byte 0xff at byte offset 11 is not UTF-8"),
    ],
)
def test_a_bad_json_array_is_named(tmp_path, content, words):
    file = write(tmp_path, content, "rows.json")
    text = fault(read_examples, file)
    assert text.startswith(f"{file}:")
    assert words in text
