"""No content of a file makes the readers lose a row, miscount a line or fail with anything but a UserError.

`TRUETUNE_FUZZ=10000 pytest tests/data/test_readers_fuzz.py` is the long form.
"""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_files import dump, fault, limit_lines, write

from truetune.data.rows.files import file_records, iter_rows
from truetune.data.rows.read import read_examples, read_questions
from truetune.errors import UserError

fuzzed = settings(
    max_examples=int(os.environ.get("TRUETUNE_FUZZ", "200")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def refused(read, *arguments, **options) -> str | None:
    try:
        read(*arguments, **options)
    except UserError as error:
        return str(error)
    return None


@pytest.fixture
def short_lines(monkeypatch):
    limit_lines(monkeypatch, 200)


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)
fields = ["id", "text", "prompt", "completion", "question", "answers", "answer", "aliases", "answerable", "other"]
loose_rows = st.dictionaries(st.sampled_from(fields), st.text(max_size=4) | st.lists(text, max_size=2) | values)
structured = st.lists(
    loose_rows.map(lambda row: json.dumps(row).encode())
    | st.builds(lambda t: json.dumps({"text": t}).encode(), text)
    | st.sampled_from([b"", b" \r", b"{", b"[]", b'{"text": "\\ud800"}', b"\xff", b'{"text": "' + b"x" * 300 + b'"}']),
    max_size=8,
).map(b"\n".join)
file_bytes = structured | st.binary(max_size=60) | st.builds(lambda a, b: a + b, structured, st.binary(max_size=6))


@fuzzed
@given(file_bytes, st.sampled_from([".jsonl", ".json", ".txt"]))
def test_no_bytes_raise_anything_but_a_user_error(tmp_path, short_lines, content, ending):
    file = write(tmp_path, content, f"fuzz{ending}")
    for read, options in ((read_examples, {}), (read_examples, {"on_bad_row": "skip"}), (read_questions, {})):
        refusal = refused(read, file, **options)
        assert refusal is None or refusal.startswith(str(file))
        assert "\n" not in (refusal or "")


@fuzzed
@given(file_bytes)
def test_every_line_is_read_skipped_or_blank(tmp_path, short_lines, content):
    file = write(tmp_path, dump({"id": "first", "text": "first"}).encode() + content, "fuzz.jsonl")
    reading = read_examples(file, on_bad_row="skip")
    lines = 1 + content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    blank = sum(record.content is None for record in file_records(file))
    assert reading.rows_read + len(reading.rows_skipped) + blank == lines
    assert reading.rows_read == len(reading.examples)


@fuzzed
@given(st.lists(st.dictionaries(text, values | st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_what_is_dumped_is_read_back(tmp_path, rows):
    for ascii_only in (True, False):
        lines = "\r\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
        assert [row for _, row in iter_rows(write(tmp_path, lines))] == rows
        array = write(tmp_path, json.dumps(rows, ensure_ascii=ascii_only), "rows.json")
        assert [row for _, row in iter_rows(array)] == rows


@fuzzed
@given(st.lists(st.tuples(text, text), min_size=1, max_size=5))
def test_prompts_and_completions_are_read_back(tmp_path, pairs):
    file = write(tmp_path, dump(*({"prompt": p, "completion": c} for p, c in pairs)))
    assert [(e.prompt, e.completion) for e in read_examples(file).examples] == pairs


@fuzzed
@given(st.lists(st.sampled_from(["", "  ", dump({"text": "ok"}).strip()]), max_size=10))
def test_the_first_bad_line_is_the_one_named(tmp_path, before):
    file = write(tmp_path, "\n".join([*before, '{"text": 1}', '{"text": 2}', ""]))
    assert fault(read_examples, file).startswith(f"{file}:{len(before) + 1}: ")
