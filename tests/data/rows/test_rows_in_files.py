"""Rows on disk are the rows: in order, chosen, in worker processes, when the disk is full, when the process ends."""

import multiprocessing
import os
import random
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_files import dump, fault, write

from truetune.data.dataset import Example, Turn, examples
from truetune.data.rows import many
from truetune.data.rows.many import ArrowRows, Seen, chosen
from truetune.data.rows.read import read_examples
from truetune.errors import Unwritable, UserError

TURNS = (Turn("system", "Be brief."), Turn("user", "Hi"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rows are many, and are read a few at a time."""
    monkeypatch.setattr(many, "IN_MEMORY", 20)
    monkeypatch.setattr(many, "AT_ONCE", 7)
    monkeypatch.setattr(many, "HASHES", 20)


def made(count):
    return [
        Example(f"r{n}", "é" * n, f" {n}", f"f:{n}", ("a", f"{n}"), (), "c", n / 3, TURNS * (n % 2))
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 19, 20, 100])
def test_what_is_stored_comes_back(count):
    rows, back = made(count), examples(iter(made(count)))
    assert isinstance(back, ArrowRows) == (count >= 20)
    assert list(back) == rows
    assert [back[n] for n in range(-count, count)] == rows * 2
    assert back[:3] == rows[:3]
    assert back[90:] == rows[90:]
    assert back[::-7] == rows[::-7]
    assert all(isinstance(turn, Turn) for row in back for turn in row.turns)
    with pytest.raises(IndexError):
        back[count]


def test_a_choice_is_that_of_the_list():
    rows, order = made(50), list(range(50))
    random.Random(1).shuffle(order)
    some = chosen(examples(rows), order)
    assert list(some) == [rows[n] for n in order]
    assert list(chosen(some, range(10, 50, 3))) == [rows[n] for n in order[10:50:3]]
    assert chosen(rows, [3, 1]) == [rows[3], rows[1]]


def found(rows, answers):
    answers.put([row.completion for row in rows])


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_another_process_reads_the_same(how):
    context, rows = multiprocessing.get_context(how), examples(made(60))
    answers = context.Queue()
    workers = [context.Process(target=found, args=(rows, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert list(rows) == made(60), "read here at the same time"
    assert [answers.get(timeout=60) for _ in workers] == [[row.completion for row in made(60)]] * 2
    for worker in workers:
        worker.join()


def test_a_full_disk_is_one_line_that_names_the_folder(monkeypatch):
    opened = many.Path.open
    monkeypatch.setattr(many.Path, "open", lambda self, mode: opened(many.Path("/dev/full"), mode))
    with pytest.raises(Unwritable) as caught:
        examples(made(100))
    assert str(caught.value).startswith(f"{tempfile.gettempdir()}/rows: cannot be written: No space left on device (")


def test_what_reading_raises_is_raised():
    def broken():
        yield from made(30)
        raise UserError("rows.jsonl:31: no row")

    with pytest.raises(UserError, match=r"^rows\.jsonl:31: no row$"):
        examples(broken())


def test_rows_leave_nothing_behind(tmp_path):
    """Neither in the temporary folder nor in the home, which need not be writable."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "home").mkdir(mode=0o500)
    code = (
        "from truetune.data.dataset import Example, examples\n"
        "from truetune.data.rows import many\n"
        "many.IN_MEMORY = 5\n"
        "rows = examples(Example(str(n), '', 'text', '') for n in range(10))\n"
        "import os, tempfile\n"
        "print(len(rows), len(os.listdir(tempfile.gettempdir())))"
    )
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    surroundings |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("10 1\n", "")
    assert os.listdir(tmp_path / "tmp") == os.listdir(tmp_path / "home") == []


@given(st.lists(st.text(max_size=2), max_size=200), st.text(max_size=2))
def test_texts_that_were_seen_are_known(texts, other):
    seen = Seen(texts)
    assert all(text in seen for text in texts)
    assert (other in seen) == (other in set(texts))


def test_many_texts_are_merged_and_known():
    seen = Seen(f"t{n % 700}" for n in range(2000))
    assert len(seen._sorted) > 600
    assert all(f"t{n}" in seen for n in range(700))
    assert not any(f"t{n}" in seen for n in range(700, 2000))


def test_an_id_that_comes_again_is_named_with_its_first_row_wherever_that_is(tmp_path):
    rows = [{"id": n, "prompt": f"p{n}", "completion": "c"} for n in (*range(90), 3, 88, 90, 3, 91)]
    file = write(tmp_path, dump(*rows))
    assert fault(read_examples, file).startswith(f'{file}:91: the id "3" is that of {file}:4 too')
    reading = read_examples(file, on_bad_row="skip")
    assert [row.id for row in reading.examples] == [str(n) for n in range(92)]
    assert [(place, reason.split(" too")[0]) for place, reason in reading.rows_skipped] == [
        (f"{file}:91", f'the id "3" is that of {file}:4'),
        (f"{file}:92", f'the id "88" is that of {file}:89'),
        (f"{file}:94", f'the id "3" is that of {file}:4'),
    ]
    plain = write(tmp_path, dump(*({"prompt": f"p{n}", "completion": "c"} for n in range(90))), "plain.jsonl")
    assert fault(read_examples, [plain, plain]).startswith(f'{plain}:1: the id "plain:1" is that of {plain}:1 too')
