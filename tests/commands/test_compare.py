"""truetune-compare: two logs become a table, a page, compare.json and flips; bad ones become one line."""

import json
import sys
import zipfile

import pytest
from log_files import answer_row, choice_row, inspect_log, inspect_sample, lm_eval_log

from truetune import cli
from truetune.commands.compare import compare
from truetune.errors import UserError
from truetune.report import logs_page
from truetune.scoring.estimates import wilson
from truetune.scoring.paired import mcnemar_exact


def two(tmp_path, first, second, name="samples_t.jsonl"):
    return [lm_eval_log(tmp_path / side / name, rows) for side, rows in (("a", first), ("b", second))]


def record_of(page):
    return json.loads((page.parent / "compare.json").read_text(encoding="utf-8"))


def flips_of(page):
    return [json.loads(line) for line in (page.parent / "flips.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def page(tmp_path):
    """A has 40 of 60 right, B loses 20 of those and gains 2."""
    first = [choice_row(n, n < 40) for n in range(60)]
    second = [choice_row(n, n < 20 or n in (40, 41)) for n in range(60)]
    return compare(*two(tmp_path, first, second), tmp_path / "out")


def test_a_metric_of_right_and_wrong(page):
    (row,) = record_of(page)["metrics"]
    assert (row["task"], row["metric"], row["n"], row["documents"]) == ("t", "acc", 60, 60)
    assert (row["a"]["value"], row["b"]["value"]) == (40 / 60, 22 / 60)
    assert (row["a"]["low"], row["a"]["high"]) == pytest.approx(wilson(40 / 60, 60), abs=2e-3)
    difference = row["difference"]
    assert difference["value"] == pytest.approx(-18 / 60)
    assert difference["low"] < -18 / 60 < difference["high"] < 0
    assert difference["p"] == pytest.approx(mcnemar_exact(2, 20))
    assert (row["lost"], row["gained"], row["result"], row["test"]) == (20, 2, "worse", "McNemar")


def test_every_flip_is_written_with_its_texts(page):
    flips = flips_of(page)
    assert [flip["id"] for flip in flips if flip["flip"] == "lost"] == [str(n) for n in range(20, 40)]
    assert [flip["id"] for flip in flips if flip["flip"] == "gained"] == ["40", "41"]
    assert {key: flips[0][key] for key in ("task", "metric", "question", "target", "a", "b")} == {
        "task": "t",
        "metric": "acc",
        "question": "Is 20 a number?",
        "target": "yes",
        "a": "yes",
        "b": "no",
    }


def test_the_page_and_the_folder(page, capsys):
    text = page.read_text(encoding="utf-8")
    assert sorted(path.name for path in page.parent.iterdir()) == ["compare.json", "flips.jsonl", "report.html"]
    assert "B against A, of 1 metrics: worse on 1 (t acc 0.67\u00a0→\u00a00.37)." in text
    assert "t acc, only A is right: 20" in text
    assert text.count("Is 20 a number?") == 1


def test_texts_are_escaped_and_long_questions_cut(tmp_path):
    evil = "<script>alert(1)</script>"
    rows = [choice_row(0, True, question=f"{'x' * 5000}{evil}"), choice_row(1, True)]
    page = compare(*two(tmp_path, rows, [{**rows[0], "acc": 0.0}, rows[1]]), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "x" * logs_page.LONGEST not in text
    assert len(flips_of(page)[0]["question"]) == 5000 + len(evil)


def test_holm_allows_for_all_tasks_and_metrics(tmp_path):
    for side in ("a", "b"):
        for task in ("s", "t"):
            # nine lost and one gained: McNemar's p is 0.021 in each of four tests
            rows = [choice_row(n, (n != 9) if side == "a" else n >= 9, metrics=["acc", "c"]) for n in range(30)]
            rows = [{**row, "c": row["acc"]} for row in rows]
            lm_eval_log(tmp_path / side / f"samples_{task}_2026-01-02T03-04-05.6.jsonl", rows)
    page = compare(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    rows = record_of(page)["metrics"]
    assert [(row["task"], row["metric"]) for row in rows] == [("s", "acc"), ("s", "c"), ("t", "acc"), ("t", "c")]
    p = mcnemar_exact(1, 9)
    assert p < 0.05 < 4 * p
    assert [row["difference"]["p"] for row in rows] == pytest.approx([p] * 4)
    assert [row["p_holm"] for row in rows] == pytest.approx([4 * p] * 4)
    assert {row["result"] for row in rows} == {"no clear change"}


def test_repeats_of_a_document_are_one_document(tmp_path):
    """Forty epochs of one sample that turned wrong are one flip, not forty."""
    first = [inspect_sample(n, "C", epoch=epoch) for epoch in range(1, 9) for n in range(2)]
    second = [inspect_sample(n, "I" if n else "C", epoch=epoch) for epoch in range(1, 9) for n in range(2)]
    logs = [inspect_log(tmp_path / f"{name}.json", rows) for name, rows in (("a", first), ("b", second))]
    (row,) = record_of(compare(*logs, tmp_path / "out"))["metrics"]
    assert (row["n"], row["documents"], row["lost"]) == (16, 2, 8)
    assert row["difference"]["value"] == -0.5
    assert row["difference"]["p"] == 1.0
    assert row["result"] == "no clear change"


def test_a_lower_is_better_metric_flips_the_other_way(tmp_path):
    date = "2026-01-02T03-04-05.6"
    logs = two(tmp_path, [choice_row(0, False)], [choice_row(0, True)], f"samples_t_{date}.jsonl")
    results = {"higher_is_better": {"t": {"acc": False}}}
    (tmp_path / "a" / f"results_{date}.json").write_text(json.dumps(results))
    page = compare(*logs, tmp_path / "out")
    assert [flip["flip"] for flip in flips_of(page)] == ["lost"]


def test_numbers_that_are_no_shares(tmp_path):
    """BLEU goes up to 100: its means have bootstrap intervals, its p is that of swaps, and nothing flips."""
    rows = [[answer_row(n, "x", metrics=["bleu"], bleu=base + n % 7) for n in range(40)] for base in (20.0, 30.0)]
    (row,) = record_of(compare(*two(tmp_path, *rows), tmp_path / "out"))["metrics"]
    assert row["a"]["low"] < row["a"]["value"] < row["a"]["high"] < 27
    assert row["difference"]["value"] == pytest.approx(10)
    assert row["test"] == "swaps"
    assert row["difference"]["p"] < 0.001
    assert (row["lost"], row["gained"], row["better"], row["result"]) == (0, 0, None, None)


def test_a_metric_that_some_documents_lack(tmp_path):
    first = [choice_row(n, True) for n in range(4)]
    second = [choice_row(0, True, acc=None), choice_row(1, False, acc=float("nan")), *first[2:]]
    (row,) = record_of(compare(*two(tmp_path, first, second), tmp_path / "out"))["metrics"]
    assert row["n"] == 2


ROW = json.dumps(choice_row(0, True))
BAD = {
    "html.jsonl": ("<!doctype html>\n", "html.jsonl:1:1: malformed JSON"),
    "half.jsonl": (f'{ROW}\n{{"doc_id": 1, "do', "half.jsonl:2:15: last line incomplete"),
    "empty.jsonl": ("", "empty.jsonl: the log holds no documents"),
    "text.jsonl": (f"{ROW}\n3\n", "text.jsonl:2: found a number"),
    "no_doc.jsonl": ('{"doc_id": 0, "acc": 1.0}\n', "no_doc.jsonl:1: no document (doc or doc_hash), found the fields"),
    "html.json": ("<html>", "html.json:1:1: malformed JSON"),
    "half.json": ('{"eval": {"task": "t"},\n "samples": [{"id": 1', "half.json:2:22: malformed JSON"),
    "list.json": ("[]", "list.json: found a list, expected an eval log"),
    "results.json": ('{"results": {}}', "results.json: no eval log of inspect_ai: it names no task"),
    "header.json": ('{"eval": {"task": "t"}}', "header.json: the log holds no documents (samples)"),
    "element.json": ('{"eval": {"task": "t"}, "samples": [1]}', "element.json:sample 1: found a number"),
    "html.eval": ("<html>", "html.eval: not a whole .eval file (File is not a zip file)"),
    "folder/notes.txt": ("", "folder: the folder holds no logs; name a samples_TASK_DATE.jsonl"),
    "other.jsonl": (json.dumps(choice_row(7, True)) + "\n", "no document is in both"),
    "lists.jsonl": (
        json.dumps(choice_row(0, True, acc=[1])) + "\n",
        'is a number (metrics: "acc")',
    ),
    "em.jsonl": (json.dumps(choice_row(0, True, metrics=["em"], em=1)) + "\n", "no metric has a number for the same"),
}


def typed(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["truetune-compare", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.compare()
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_log_is_refused_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, name):
    content, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    good = lm_eval_log(tmp_path / "good.jsonl", [choice_row(0, True)])
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    place.write_text(content)
    before = sorted(tmp_path.rglob("*"))
    named = place.parent if "/" in name else place
    for words in ((good, named), (named, good)):
        code, printed = typed(monkeypatch, capsys, *words, "out=out")
        assert code == 2
        assert len(printed.err.splitlines()) == 1
        assert message in printed.err
        assert str(named) in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_eval_file(tmp_path):
    good = inspect_log(tmp_path / "good.eval", [inspect_sample(n, "C") for n in range(9)], zstandard=True)
    content = bytearray(good.read_bytes())
    at = content.index(b"samples/4_epoch_1.json") + 40
    content[at : at + 20] = b"x" * 20
    bad = tmp_path / "bad.eval"
    bad.write_bytes(content)
    with pytest.raises(
        UserError, match=r"bad\.eval: not a whole \.eval file \(samples/4_epoch_1\.json: .*copy it again"
    ):
        compare(good, bad, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "half.eval", "w") as archive:
        archive.writestr("header.json", '{"eval": {"task": "t"}}')
        archive.writestr("samples/1_epoch_1.json", '{"id": ')
    with pytest.raises(UserError, match=r"half\.eval:samples/1_epoch_1\.json:1:8: malformed JSON"):
        compare(good, tmp_path / "half.eval", tmp_path / "out")
    assert not (tmp_path / "out").exists()


ODD = [None, True, 3, -1.5, "", "x", [], [[]], [None, {}], {}, {"a": []}, [["1", "False"]] * 3]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize(
    ("name", "make", "write"), [("a.jsonl", choice_row, lm_eval_log), ("a.json", inspect_sample, inspect_log)]
)
def test_a_field_that_holds_anything_is_read_or_refused_in_one_line(tmp_path, name, make, write, odd):
    """One field after another; what is refused names the file, and nothing else is ever raised."""
    refused = []
    for field in make(0, True):
        log = write(tmp_path / name, [make(0, True), {**make(1, False), field: odd}])
        try:
            compare(log, log, tmp_path / f"{name} {field}")
        except UserError as error:
            refused.append(str(error))
    assert [text for text in refused if not text.startswith(f"{log}:") or len(text.splitlines()) > 1] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: A B"),
        (["good.jsonl"], "two logs are compared, found 1; truetune-compare --help shows the usage"),
        (["good.jsonl", "missing"], "missing: there is no such log; name a samples_TASK"),
        (["good.jsonl", "good.jsonl", "out="], "out= names no folder"),
        (["good.jsonl", "good.jsonl", "out=full"], "full: exists and is not empty; name a new folder"),
        (["good.jsonl", "good.jsonl", "out=good.jsonl"], "good.jsonl: exists and is not empty"),
    ],
)
def test_bad_words(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    lm_eval_log(tmp_path / "good.jsonl", [choice_row(0, True)])
    lm_eval_log(tmp_path / "full" / "x.jsonl", [])
    code, printed = typed(monkeypatch, capsys, *words)
    assert code == 2
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


def test_the_folder_is_below_the_logs_unless_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRUETUNE_LOGS", str(tmp_path / "elsewhere"))
    log = lm_eval_log(tmp_path / "good.jsonl", [choice_row(n, True) for n in range(8)])
    code, printed = typed(monkeypatch, capsys, log, log)
    assert code == 0
    (page,) = (tmp_path / "elsewhere" / "compare").glob("*/report.html")
    lines = printed.out.splitlines()
    assert lines[-1] == str(page)
    assert "B against A, of 1 metrics: no clear change on 1." in printed.out
    assert any(line.split()[:3] == ["acc", "1.00", "1.00"] for line in lines)
