"""How far it goes: many rows, long rows, many files, odd names and odd surroundings."""

import json
import os
import pty
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
from command_line import CONF, TINY_RUN, TINY_WORLD, checked, complaint, typed
from data.row_files import limit_lines
from training.small import language_model, loader

from truetune.data.encode import encode
from truetune.data.files import Files
from truetune.data.module import TokenizedData
from truetune.data.rows import many as many_rows
from truetune.data.rows.files import iter_rows
from truetune.data.rows.read import read_examples, read_questions
from truetune.data.rows.row import MAX_LINE_BYTES
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.records.record import read_run

pytestmark = pytest.mark.usefixtures("folder")


def written(path, count, text="x"):
    with path.open("w") as file:
        for n in range(count):
            file.write(json.dumps({"prompt": f"number {n} is", "completion": f" {text}{n}"}) + "\n")
    return path


def peak(work):
    """Bytes that Python held at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_rows_are_read_one_at_a_time(folder):
    few, many = written(folder / "few.jsonl", 500), written(folder / "many.jsonl", 10_000)
    sizes = [peak(lambda path=path: [None for _ in iter_rows(path)]) for path in (few, many)]
    assert sizes[1] < sizes[0] + 10_000 * 16  # the list of nothings alone


@pytest.mark.slow
@pytest.mark.parametrize(("batching", "most"), [({}, 50), ({"group_by_length": True}, 60), ({"packing": True}, 80)])
def test_a_row_more_costs_a_run_little_memory(folder, monkeypatch, batching, most):
    """Orders, lengths and hashes; the row itself is in a mapped file. A million rows: tests/benchmarks/memory.py."""
    monkeypatch.setattr(many_rows, "IN_MEMORY", 100)
    monkeypatch.setattr(many_rows, "HASHES", 2**5)
    encoder, counts = Encoder(language_model().tokenizer), (500, 3000)

    def run(path):
        data = Files(0, str(path), None, None, 50, 20, "{question}", "error").load()
        rows = encode(encoder, data.train, 64, "error").rows
        tokenized = TokenizedData(rows, [], pad=0, seed=0, loader=loader(4, **batching))
        assert "x7" in data.taught
        assert sum(len(batch["ids"]) for batch in tokenized.train_dataloader()) == len(data.train)

    paths = [written(folder / f"{count}.jsonl", count) for count in counts]
    run(paths[0])  # what the first time keeps is not measured
    few, many = (peak(partial(run, path)) for path in paths)
    assert many - few < most * (counts[1] - counts[0]), (few, many)


def test_a_line_without_an_end_is_read_in_bounded_memory(folder, monkeypatch):
    cap, path = 100_000, folder / "long.jsonl"
    limit_lines(monkeypatch, cap)
    with path.open("w") as file:
        file.write('{"prompt": "p", "completion": " c"}\n{"prompt": "')
        for _ in range(50):
            file.write("x" * cap)
        file.write('"}\n{"prompt": "q", "completion": " c"}\n')

    def refused():
        with pytest.raises(UserError, match=rf"long\.jsonl:2: the line is over {cap} bytes"):
            read_examples(path)

    assert peak(refused) < 5 * cap
    reading = read_examples(path, on_bad_row="skip")
    assert [example.prompt for example in reading.examples] == ["p", "q"]
    assert [source for source, _ in reading.rows_skipped] == [f"{path}:2"]


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="long: TRUETUNE_LONG=1")
def test_a_line_of_two_gigabytes_is_one_bad_row(folder):
    path = folder / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "p", "completion": " c"}\n')
        file.truncate(2 * 2**30)  # a hole: no disk is used
        file.seek(0, 2)
        file.write(b'\n{"prompt": "q", "completion": " c"}\n')

    def read():
        reading = read_examples(path, on_bad_row="skip")
        assert [source for source, _ in reading.rows_skipped] == [f"{path}:2"]
        assert [example.source for example in reading.examples] == [f"{path}:1", f"{path}:3"]

    assert peak(read) < 6 * MAX_LINE_BYTES


def test_a_text_of_ten_megabytes_is_a_row_like_any_other(folder):
    (folder / "long.jsonl").write_text(json.dumps({"text": "word " * 2_000_000}) + "\n")
    (example,) = read_examples(folder / "long.jsonl").examples
    assert len(example.completion) == 10_000_000


def test_a_thousand_probe_files_are_one_probe(folder):
    (folder / "probes").mkdir()
    for n in range(1000):
        (folder / "probes" / f"{n:04}.jsonl").write_text(json.dumps({"question": f"What is {n}?", "answers": ["x"]}))
    questions = read_questions(folder / "probes")
    assert len({question.id for question in questions}) == len(questions) == 1000
    assert questions[-1].source.endswith("0999.jsonl:1")


@pytest.mark.parametrize(
    "name", ["a b", "日本 é", "a=b", "a,b", "x" * 200, "it's", "[a]", "$HOME", "a{b}", "100%", "-m"]
)
def test_a_folder_may_have_any_name(folder, name):
    place = folder / name
    place.mkdir()
    written(place / "rows.jsonl", 10)
    quoted = str(place / "rows.jsonl").replace("'", "\\'")
    prepared = checked("data=jsonl", f"data.train_file='{quoted}'", "data.probe_questions=0", "data.validation_rows=0")
    assert prepared.data.train[0].source.startswith(str(place))


@pytest.mark.slow
def test_a_run_in_odd_surroundings_is_a_run(folder):
    """A home that cannot be written, asserts switched off, a Turkish locale, no terminal, odd names, another folder."""
    place = folder / "a b, c=d é"
    place.mkdir()
    (place / "no home").write_text("a file where the home should be")
    surroundings = {
        "HOME": str(place / "no home"),
        "XDG_CACHE_HOME": str(place / "no home"),
        "PYTHONOPTIMIZE": "1",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "TERM": "dumb",
        "COLUMNS": "20",
    }
    done = typed(*TINY_RUN, "hydra.run.dir='run, 1'", cwd=place, **surroundings)
    assert done.returncode == 0, done.stderr
    assert read_run(place / "run, 1")["status"] == "finished"
    assert (place / "run, 1" / "report.html").is_file()
    assert "\x1b" not in done.stderr + done.stdout
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("fine-tuning on") and line.endswith("steps")]


@pytest.mark.slow
def test_a_terminal_hears_what_the_first_seconds_are_for(folder):
    """And no pipe does: there a refusal is one line."""
    here, there = pty.openpty()
    words = [Path(sys.executable).with_name("truetune"), "asking.forms=[x]", *TINY_WORLD]
    done = subprocess.run(words, cwd=folder, stderr=there, stdout=subprocess.DEVNULL, check=False)
    os.close(there)
    loading, error = os.read(here, 1 << 16).decode().splitlines()
    os.close(here)
    assert (done.returncode, loading) == (2, "loading torch, lightning and transformers")
    assert error.startswith("error: asking.forms=['x']")


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8", "POSIX"])
def test_a_refusal_is_the_same_in_every_locale(folder, locale):
    words = ["data=jsonl", "data.train_file='日本.jsonl'"]
    text = complaint(typed(*words, cwd=folder, LC_ALL=locale, PYTHONOPTIMIZE="1", HOME="/nonexistent", TZ="UTC+25"))
    assert "there is no such file" in text


def test_nothing_hangs_on_assert():
    """-O takes asserts out: what they guard in the source must be impossible, never a check of input."""
    code = "import sys; sys.argv = ['truetune', 'optimizer.lr=-1']; from truetune.cli import train; train()"
    found = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: optimizer.lr=-1: ")


def test_an_asked_for_folder_elsewhere_is_found_from_there(folder, monkeypatch):
    """Relative paths are those of the folder in which the command is typed."""
    written(folder / "rows.jsonl", 10)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert checked("data=jsonl", "data.train_file=../rows.jsonl").data.train
    assert CONF.is_absolute()
    assert checked(*TINY_WORLD).data.train
    assert os.listdir() == []
