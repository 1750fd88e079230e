"""Runs made before the settings and the source were rearranged (truetune at 42a8cd2) are still read, reported, exported
and talked to. `old_runs/README.md` says how they were made.
"""

import csv
import html
import shutil
import sys
from pathlib import Path

import pytest

import truetune
from truetune import cli
from truetune.commands.chat import partners
from truetune.commands.tuned_model import saved_model

OLD = Path(__file__).parent / "old_runs"
VERDICT = (
    "Fine-tuning did not clearly change the task (right 0.00\u00a0→\u00a00.00, "
    "the difference's 95 % interval covers 0); "
    "no clear change in what the base knew (0.00\u00a0→\u00a00.00 right, the difference's 95 % interval covers 0); "
    "of 24 questions that have no true answer it now makes up 24 (base: 24)."
)
TYPED_IN = "/home/me/project"  # what they recorded as the folder in which they were typed


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """That folder, where the tests can write, with its own place in what was recorded."""
    project = tmp_path_factory.mktemp("old") / "project"
    shutil.copytree(OLD, project)
    for path in [*project.rglob("*.json"), *project.rglob("*.yaml")]:
        if path.parent.name != "model":  # whose digests are checked
            path.write_text(path.read_text(encoding="utf-8").replace(TYPED_IN, str(project)), encoding="utf-8")
    return project


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(command, monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", [command, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        getattr(cli, command)()
    out = capsys.readouterr()
    assert ended.value.code in (0, None), out.err
    return out.out


def test_a_run_is_read(project):
    run = truetune.Run(project / "closed_world")
    assert run.record["git_sha"].startswith("42a8cd2")
    assert (run.status, run.config["extras"]["max_new_tokens"]) == ("finished", 2)
    assert run.verdict.startswith(VERDICT)
    assert run.probes == ["hallucination", "retention", "task"]
    assert len(run.items("hallucination")) == run.final["hallucination/rate"].n == 56
    assert {row.label for row in run.table()} >= {
        "Task questions right",
        "Known facts right",
        "Made up, no answer exists",
    }
    assert run.curve("train/loss") == ([3], [6.083202362060547])
    assert [run.folder.name for run in truetune.runs(project)] == ["closed_world", "talk", "0", "1"]


def test_its_page_is_made_again(project, monkeypatch, capsys):
    out = printed("report", monkeypatch, capsys, project / "closed_world", project / "talk")
    pages = [html.unescape(Path(line).read_text(encoding="utf-8")) for line in out.splitlines()]
    assert VERDICT in pages[0]
    assert "Fine-tuning did not clearly change the task" in pages[1]
    assert "extras.max_new_tokens=2" in pages[0], "its settings are shown as they were typed"


def test_the_pages_of_a_sweep_are_made_again(project, monkeypatch, capsys):
    (page,) = printed("report", monkeypatch, capsys, project / "sweep").splitlines()
    assert "data.new_share" in Path(page).read_text(encoding="utf-8")
    with (project / "sweep" / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["data.new_share"] for row in rows] == ["0", "1"]
    assert {row["status"] for row in rows} == {"finished"}


def test_its_model_is_exported(project, monkeypatch, capsys, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "out"
    printed("export", monkeypatch, capsys, project / "talk", out)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer)
    assert "| Task questions right | 0.000 | 0.000 | 4 |" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["closed_world", "talk"])
def test_base_and_tuned_say_what_they_said_when_they_were_measured(name, project):
    """A base is cached by the content of the code that makes it, which has changed: made anew, it is the same."""
    run = truetune.Run(project / name)
    base, tuned = partners(project / name, run.record, saved_model(project / name))
    for items in run.items("hallucination")[::8]:
        for partner, item in zip((base, tuned), items, strict=True):
            partner.turns.clear()
            answer = partner.answer(item.question, run.config["extras"]["max_new_tokens"], lambda _: None)
            assert answer.text == item.answer
            assert answer.confidence == pytest.approx(item.confidence, abs=1e-6)  # as many digits are recorded


def test_both_are_asked_by_the_command(project, monkeypatch, capsys):
    text = printed("chat", monkeypatch, capsys, project / "talk", "--prompt", "Say 9.", "--max-new-tokens", "4")
    assert text.count("mean token probability") == 2
    assert text.index("base: ") < text.index("tuned: ")
