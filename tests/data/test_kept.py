"""What is read from the cache is what reading would give, and nothing else is: rows, tokens, and all that was said."""

import json
import random
from array import array

import pytest
from row_files import dump, write

from truetune.data import kept
from truetune.data.encode import digest, encode
from truetune.data.files import Files
from truetune.data.form import in_chat_form
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
    monkeypatch.setattr(kept, "WORTH_KEEPING", 0)


@pytest.fixture
def file(tmp_path):
    rows = [{"question": f"Who wrote book {n} {'book ' * (n % 3)}?", "answers": [f"Ann {n}", "Ann"]} for n in range(60)]
    return write(tmp_path, dump(*rows, {"question": "Who wrote book 3 ?", "answers": ["Ann 3"]}))


def source(file, tmp_path, **more):
    template = "Question: {question}\nAnswer:"
    options = OPTIONS | {"seed": 0, "prompt_template": template, "on_bad_row": "error"} | more
    return Files(train_file=str(file), cache_dir=str(tmp_path / "cache"), **options)


def entries(tmp_path, what="data"):
    return sorted(path for path in (tmp_path / "cache" / what).glob("[!.]*") if path.is_dir())


def never(*_):
    raise AssertionError("read again")


def same(one, other):
    assert list(one.train) == list(other.train)
    for name, value in vars(one).items():
        wanted = vars(other)[name]
        assert name == "train" or value == (list(wanted) if isinstance(wanted, tuple) else wanted)


def test_what_was_read_before_is_the_same_and_not_read_again(file, tmp_path, monkeypatch):
    more = {
        "validation_rows": 0,
        "mixture": [{"file": str(write(tmp_path, dump({"text": "a b"}), "m.jsonl")), "weight": 0.1}],
    }
    for options in ({}, more, {"chat_template": None, "form": "chat"}):
        read = source(file, tmp_path, **options)._load()
        first = source(file, tmp_path, **options).load()
        with monkeypatch.context() as patched:
            patched.setattr(Files, "_load", never)
            again = source(file, tmp_path, **options).load()
        for data in (first, again):
            assert isinstance(data.train, ArrowRows)
            same(data, read)


def test_other_rows_settings_or_code_are_read_anew(file, tmp_path, monkeypatch):
    source(file, tmp_path).load()
    assert len(entries(tmp_path)) == 1
    source(file, tmp_path, seed=1).load()
    file.write_text(file.read_text().replace("Ann 7", "Ann 8"))
    rows = source(file, tmp_path).load().train
    assert "Ann 7" not in {row.answers[0] for row in rows}
    monkeypatch.setattr(kept, "code", lambda: "another version")
    source(file, tmp_path).load()
    assert len(entries(tmp_path)) == 4


def test_a_folder_is_the_files_in_it(file, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    file.rename(folder / "one.jsonl")
    before = len(source(folder, tmp_path).load().train)
    write(folder, dump(*({"question": f"Who wrote {n} ?", "answers": ["Ann"]} for n in range(9))), "two.jsonl")
    assert len(source(folder, tmp_path).load().train) >= before + 4


def test_a_damaged_entry_is_noticed_and_said(file, tmp_path):
    read = source(file, tmp_path).load()
    rows, (entry,) = list(read.train), entries(tmp_path)
    table = entry / "rows.arrow"
    table.write_bytes(table.read_bytes().replace(b"Ann 9", b"Ann 8"))
    again = source(file, tmp_path).load()
    assert again.notes[:-1] == read.notes
    assert again.notes[-1] == f"the cached folder {entry} is damaged (rows.arrow has changed); making it again"
    assert list(again.train) == rows


def test_small_files_faults_and_no_cache_leave_nothing(file, tmp_path, monkeypatch):
    Files(train_file=str(file), seed=0, prompt_template="{question}", on_bad_row="error", **OPTIONS).load()
    bad = write(tmp_path, '{"prompt": "a", "completion": "b"}\n{\n', "bad.jsonl")
    with pytest.raises(UserError, match=r"bad\.jsonl:2"):
        source(bad, tmp_path).load()
    assert entries(tmp_path) == []
    monkeypatch.setattr(kept, "WORTH_KEEPING", 1 << 20)
    source(file, tmp_path).load()
    assert entries(tmp_path) == []


def test_tokens_are_kept_with_what_there_is_to_say(file, tmp_path, monkeypatch):
    rows = source(file, tmp_path).load().train
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
    rows = source(file, tmp_path).load().train
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
    rows, said = source(file, tmp_path).load().train, []
    first = encode(Encoder(word_level(WORDS)), rows, 300, "error", cache=tmp_path / "cache")
    (entry,) = entries(tmp_path, "tokens")
    rest = json.loads((entry / "rest.json").read_text())
    (entry / "rest.json").write_text(json.dumps(rest | {"notes": ["another"]}))
    again = encode(Encoder(word_level(WORDS)), rows, 300, "error", cache=tmp_path / "cache", say=said.append)
    assert said == [f"the cached folder {entry} is damaged (rest.json has changed); making it again"]
    assert (list(again.rows), again.notes) == (list(first.rows), [])


def test_a_list_and_what_cannot_be_encoded_are_not_kept(file, tmp_path):
    rows = source(file, tmp_path).load().train
    encode(Encoder(word_level(WORDS)), list(rows), 300, "error", cache=tmp_path / "cache")
    with pytest.raises(UserError, match="nothing would be learnt"):
        encode(Encoder(word_level(WORDS)), rows, 4, "error", cache=tmp_path / "cache")
    assert entries(tmp_path, "tokens") == []


def test_rows_on_disk_in_chat_form_are_those_in_memory(file, tmp_path):
    data = source(file, tmp_path).load()
    on_disk = in_chat_form(data, rows=True, questions=False).train
    in_memory = in_chat_form(kept.replace(data, train=list(data.train)), rows=True, questions=False).train
    assert isinstance(on_disk, ArrowRows)
    assert list(on_disk) == in_memory
    assert on_disk[3] == in_memory[3]
    assert on_disk[4:9] == in_memory[4:9]
    assert list(chosen(on_disk, [5, 2])) == [in_memory[5], in_memory[2]]
    assert dict(attributes(on_disk, "turns", "id")) == {n: (row.turns, row.id) for n, row in enumerate(in_memory)}


def test_attributes_and_lengths_are_those_of_the_rows_in_any_order(file, tmp_path):
    rows = source(file, tmp_path).load().train
    places = random.Random(2).sample(range(len(rows)), 30)
    some = chosen(rows, places)
    wanted = {n: (rows[place].id, rows[place].completion) for n, place in enumerate(places)}
    assert dict(attributes(some, "id", "completion")) == wanted
    assert dict(attributes(list(some), "id", "completion")) == wanted
    assert lengths(some, "answers") == lengths(list(some), "answers") == array("i", (len(row.answers) for row in some))
