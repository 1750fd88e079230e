"""Items out of memory are the items: in order, in views, in worker processes, and when the disk is full."""

import multiprocessing
import random
import tempfile
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_files import dump, fault, write

from truetune.data.dataset import Example, Turn
from truetune.data.dataset import stored as examples
from truetune.data.rows import stored
from truetune.data.rows.read import read_examples
from truetune.data.rows.stored import Chosen, Seen
from truetune.errors import Unwritable

TURNS = (Turn("system", "Be brief."), Turn("user", "Hi"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of a few rows, so that most are in the file."""
    monkeypatch.setattr(stored, "IN_MEMORY", 500)
    monkeypatch.setattr(stored, "HASHES", 20)


def made(count):
    return [
        Example(f"r{n}", "é" * n, f" {n}", f"f:{n}", ("a", f"{n}"), (), "c", n / 3, TURNS * (n % 2))
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 100])
def test_what_is_stored_comes_back(count):
    rows, back = made(count), examples(made(count))
    assert list(back) == rows
    assert [back[n] for n in range(-count, count)] == rows * 2
    assert back[:3] == rows[:3]
    assert back[90:] == rows[90:]
    assert back[::-7] == rows[::-7]
    assert all(isinstance(turn, Turn) for row in back for turn in row.turns)
    with pytest.raises(IndexError):
        back[count]


def test_a_row_is_added_after_some_were_read():
    back = examples(made(30))
    assert back[3] == made(4)[3]
    for row in made(60)[30:]:
        back.append(row)
        assert back[-1] == row
    assert list(back) == made(60)


def test_a_choice_is_that_of_the_list():
    rows, order = made(50), list(range(50))
    random.Random(1).shuffle(order)
    chosen = Chosen(examples(rows), stored.array("I", order))
    assert list(chosen) == [rows[n] for n in order]
    odd = chosen.where(lambda row: int(row.completion) % 2 == 1, start=10)
    assert list(odd) == [rows[n] for n in order[10:] if n % 2]
    assert list(odd.where(lambda row: row.weight < 9)) == [rows[n] for n in order[10:] if n % 2 and n / 3 < 9]


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
    monkeypatch.setattr(stored.tempfile, "TemporaryFile", partial(open, "/dev/full", "w+b"))
    with pytest.raises(Unwritable) as caught:
        examples(made(100))
    assert str(caught.value).startswith(f"{tempfile.gettempdir()}/rows: cannot be written: No space left on device (")


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
