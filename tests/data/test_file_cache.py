"""What is read from the cache is what reading would give, and nothing else is: rows, tokens, and all that was said."""

import json
import random
from array import array
from dataclasses import replace

import pytest
from row_files import dump, write

from truetune.data import file_cache, tokens
from truetune.data.chat_form import in_chat_form
from truetune.data.dataset import Example
from truetune.data.encode import digest, encode
from truetune.data.files import Files
from truetune.data.rows import many
from truetune.data.rows.many import ArrowRows, attributes, changed, chosen, lengths
from truetune.data.tokens import Encoder
from truetune.errors import UserError
from truetune.models.tokenizers import word_level

WORDS = ["Who", "wrote", "book", "Ann", *map(str, range(60))]
OPTIONS = {"probe_file": None, "retention_file": None, "probe_questions": 5, "validation_rows": 4}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rows are many, read a few at a time, and any file is worth keeping."""
    monkeypatch.setattr(many, "IN_MEMORY", 10)
    monkeypatch.setattr(many, "AT_ONCE", 7)
    monkeypatch.setattr(file_cache, "WORTH_KEEPING", 0)


@pytest.fixture
def file(tmp_path):
    rows = [{"question": f"Who wrote book {n} {'book ' * (n % 3)}?", "answers": [f"Ann {n}", "Ann"]} for n in range(60)]
    return write(tmp_path, dump(*rows, {"question": "Who wrote book 3 ?", "answers": ["Ann 3"]}))


def source(file, **more):
    template = "Question: {question}\nAnswer:"
    options = OPTIONS | {"seed": 0, "prompt_template": template, "on_bad_row": "error"} | more
    return Files(train_file=str(file), **options)


def load(file, tmp_path, **more):
    return file_cache.kept(source(file, **more), tmp_path / "cache")


def entries(tmp_path, what="data"):
    return sorted(path for path in (tmp_path / "cache" / what).glob("[!.]*") if path.is_dir())


def never(*_):
    raise AssertionError("read again")


def same(one, other):
    assert list(one.train) == list(other.train)
    for name, value in vars(one).items():
        wanted = vars(other)[name]
        assert name == "train" or value == wanted or list(value) == list(wanted)


def test_what_was_read_before_is_the_same_and_not_read_again(file, tmp_path, monkeypatch):
    more = {
        "validation_rows": 0,
        "mixture": [{"file": str(write(tmp_path, dump({"text": "a b"}), "m.jsonl")), "weight": 0.1}],
    }
    for options in ({}, more, {"chat_template": None, "form": "chat"}):
        read = source(file, **options).load()
        first = load(file, tmp_path, **options)
        with monkeypatch.context() as patched:
            patched.setattr(Files, "load", never)
            again = load(file, tmp_path, **options)
        for data in (first, again):
            assert isinstance(data.train, ArrowRows)
            same(data, read)


def test_other_rows_settings_or_code_are_read_anew(file, tmp_path, monkeypatch):
    load(file, tmp_path)
    assert len(entries(tmp_path)) == 1
    load(file, tmp_path, seed=1)
    file.write_text(file.read_text().replace("Ann 7", "Ann 8"))
    rows = load(file, tmp_path).train
    assert "Ann 7" not in {row.answers[0] for row in rows}
    monkeypatch.setattr(file_cache, "code", lambda: "another version")
    load(file, tmp_path)
    assert len(entries(tmp_path)) == 4


def test_a_folder_is_the_files_in_it(file, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    file.rename(folder / "one.jsonl")
    before = len(load(folder, tmp_path).train)
    write(folder, dump(*({"question": f"Who wrote {n} ?", "answers": ["Ann"]} for n in range(9))), "two.jsonl")
    assert len(load(folder, tmp_path).train) >= before + 4


def test_a_damaged_entry_is_noticed_and_said(file, tmp_path, capsys):
    read = load(file, tmp_path)
    rows, (entry,) = list(read.train), entries(tmp_path)
    table = entry / "train.arrow"
    table.write_bytes(table.read_bytes().replace(b"Ann 9", b"Ann 8"))
    again = load(file, tmp_path)
    said = capsys.readouterr().err
    assert said == f"the cached folder {entry} is damaged (train.arrow has changed); making it again\n"
    assert again.notes == read.notes
    assert list(again.train) == rows


def test_small_files_and_faults_leave_nothing(file, tmp_path, monkeypatch):
    bad = write(tmp_path, '{"prompt": "a", "completion": "b"}\n{\n', "bad.jsonl")
    with pytest.raises(UserError, match=r"bad\.jsonl:2"):
        load(bad, tmp_path)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(file_cache, "WORTH_KEEPING", 1 << 20)
    load(file, tmp_path)
    assert entries(tmp_path) == []


def test_tokens_are_kept_with_what_there_is_to_say(file, tmp_path, monkeypatch):
    rows = load(file, tmp_path).train
    limits = (300, "skip", 11)
    plain = encode(Encoder(word_level(WORDS)), rows, *limits)
    first = encode(Encoder(word_level(WORDS)), rows, *limits, cache=tmp_path / "cache")
    monkeypatch.setattr(Encoder, "row", never)
    again = encode(Encoder(word_level(WORDS)), rows, *limits, cache=tmp_path / "cache")
    assert 0 < len(plain.rows) < len(rows)
    assert "examples left out for being over 11 tokens" in plain.notes[0]
    for encoded in (first, again):
        assert isinstance(encoded.rows, ArrowRows)
        assert list(encoded.rows) == list(plain.rows)
        assert (encoded.notes, encoded.digest) == (plain.notes, digest(plain.rows))


def test_other_rows_tokenizers_and_limits_have_tokens_of_their_own(file, tmp_path):
    rows = load(file, tmp_path).train
    other = word_level([*WORDS, "more"])
    templated = word_level(WORDS)
    templated.chat_template = "{{ messages }}"
    in_turns = changed(rows, lambda row: row)
    for tokenizer, examples, limits in (
        (word_level(WORDS), rows, (300, "error")),
        (other, rows, (300, "error")),
        (templated, rows, (300, "error")),
        (word_level(WORDS), chosen(rows, range(20)), (300, "error")),
        (word_level(WORDS), in_turns, (300, "error")),
        (word_level(WORDS), rows, (200, "error")),
        (word_level(WORDS), rows, (300, "truncate")),
    ):
        before = len(entries(tmp_path, "tokens"))
        for _ in range(2):
            encode(Encoder(tokenizer), examples, *limits, cache=tmp_path / "cache")
            assert len(entries(tmp_path, "tokens")) == before + 1


def test_damaged_tokens_are_noticed_and_said(file, tmp_path):
    rows, said = load(file, tmp_path).train, []
    first = encode(Encoder(word_level(WORDS)), rows, 300, "error", cache=tmp_path / "cache")
    (entry,) = entries(tmp_path, "tokens")
    rest = json.loads((entry / "rest.json").read_text())
    (entry / "rest.json").write_text(json.dumps(rest | {"notes": ["another"]}))
    again = encode(Encoder(word_level(WORDS)), rows, 300, "error", cache=tmp_path / "cache", say=said.append)
    assert said == [f"the cached folder {entry} is damaged (rest.json has changed); making it again"]
    assert (list(again.rows), again.notes) == (list(first.rows), [])


def test_a_list_and_what_cannot_be_encoded_are_not_kept(file, tmp_path):
    rows = load(file, tmp_path).train
    encode(Encoder(word_level(WORDS)), list(rows), 300, "error", cache=tmp_path / "cache")
    with pytest.raises(UserError, match="nothing would be learnt"):
        encode(Encoder(word_level(WORDS)), rows, 4, "error", cache=tmp_path / "cache")
    assert entries(tmp_path, "tokens") == []


def test_rows_on_disk_in_chat_form_are_those_in_memory(file, tmp_path):
    data = load(file, tmp_path)
    on_disk = in_chat_form(data, rows=True, questions=False).train
    in_memory = in_chat_form(replace(data, train=list(data.train)), rows=True, questions=False).train
    assert isinstance(on_disk, ArrowRows)
    assert list(on_disk) == in_memory
    assert on_disk[3] == in_memory[3]
    assert on_disk[4:9] == in_memory[4:9]
    assert list(chosen(on_disk, [5, 2])) == [in_memory[5], in_memory[2]]
    assert dict(attributes(on_disk, "turns", "id")) == {n: (row.turns, row.id) for n, row in enumerate(in_memory)}


def test_attributes_and_lengths_are_those_of_the_rows_in_any_order(file, tmp_path):
    rows = load(file, tmp_path).train
    places = random.Random(2).sample(range(len(rows)), 30)
    some = chosen(rows, places)
    wanted = {n: (rows[place].id, rows[place].completion) for n, place in enumerate(places)}
    assert dict(attributes(some, "id", "completion")) == wanted
    assert dict(attributes(list(some), "id", "completion")) == wanted
    assert lengths(some, "answers") == lengths(list(some), "answers") == array("i", (len(row.answers) for row in some))


def test_many_texts_and_validation_rows_stay_on_disk(file, tmp_path):
    texts = write(tmp_path, dump(*({"text": f"text {n}"} for n in range(30))), "texts.jsonl")
    others = write(tmp_path, dump(*({"text": f"other {n}"} for n in range(30))), "others.jsonl")
    more = {"retention_file": str(texts), "validation_file": str(others)}
    read = source(file, **more).load()
    for data in (load(file, tmp_path, **more), load(file, tmp_path, **more)):
        for name in ("texts", "validation"):
            assert isinstance(getattr(data, name), ArrowRows)
            assert list(getattr(data, name)) == list(getattr(read, name))


def test_a_cache_that_cannot_be_written_is_done_without_and_one_that_is_whole_is_used(file, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file where a folder should be")
    rows = load(file, tmp_path).train
    encoded = encode(Encoder(word_level(WORDS)), rows, 300, "error", cache=tmp_path / "cache", say=print)
    said = capsys.readouterr()
    assert "the rows are read without being kept" in said.err
    assert "the tokens are made without being kept" in said.out
    assert (len(rows), len(encoded.rows)) == (len(source(file).load().train),) * 2
    (tmp_path / "cache").unlink()
    load(file, tmp_path)
    (lock,) = (tmp_path / "cache" / "data").glob(".*.lock")
    lock.unlink()
    load(file, tmp_path)
    assert not lock.exists(), "a whole entry is read without a lock"


def test_what_cannot_be_hashed_is_read_as_ever(file, tmp_path, monkeypatch):
    monkeypatch.setattr(file_cache, "file_digest", lambda path: (_ for _ in ()).throw(PermissionError(path)))
    same(source(file).load(), load(file, tmp_path))
    assert entries(tmp_path) == []


def test_a_folder_whose_name_no_table_can_hold_is_read_as_ever(file, tmp_path, monkeypatch):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    file.rename(folder / "rows.jsonl")
    monkeypatch.setattr(many, "IN_MEMORY", 100)
    same(source(folder).load(), load(folder, tmp_path))
    assert entries(tmp_path) == []


def test_a_subclass_may_read_anything_and_is_not_kept(file, tmp_path):
    class Own(Files):
        pass

    file_cache.kept(Own(**vars(source(file))), tmp_path / "cache")
    assert entries(tmp_path) == []


def test_a_template_writes_special_tokens_so_they_decide_the_tokens(file):
    one, other = word_level(WORDS), word_level(WORDS)
    other.bos_token = "Ann"
    assert Encoder(one).content != Encoder(other).content


def test_long_rows_are_cut_into_tokens_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(tokens, "CHARACTERS", 10)
    rows = [Example(f"{n}", "", "Ann " * n, "") for n in (1, 1, 9, 1, 2)]
    sizes = [len(block) for block in tokens._cut_together(rows)]
    assert sizes == [2, 1, 1, 1]
    assert [row for _, row in Encoder(word_level(WORDS)).rows(rows)] == [
        Encoder(word_level(WORDS)).row(r) for r in rows
    ]
