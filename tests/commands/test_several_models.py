"""`truetune-measure` of several models: typed in several ways, refused before anything is measured, compared."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import complaint, typed

from truetune.commands import launch
from truetune.commands.several_models import expanded
from truetune.errors import UserError
from truetune.records.record import read_run

OLD_RUNS = Path(__file__).parents[1] / "old_runs"
BASE = "baseline.name_or_path=base"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folders that look like models."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "base", "out/checkpoint-2", "out/checkpoint-10", "out/checkpoint-9"):
        looks_like_a_model(tmp_path / name)
    return tmp_path


def looks_like_a_model(folder):
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")


@pytest.mark.parametrize("word", ["models=[a,b]", "models=a,b", "models='a','b'"])
def test_a_list_becomes_a_sweep(folder, word):
    assert expanded([word, BASE]) == ["-m", "model.name_or_path='a','b'", BASE]
    assert expanded(["-m", word, BASE]) == ["-m", "model.name_or_path='a','b'", BASE]


@pytest.mark.parametrize("key", ["models", "model.name_or_path"])
def test_checkpoints_of_a_glob_stand_in_natural_order(folder, key):
    names = "'out/checkpoint-2','out/checkpoint-9','out/checkpoint-10'"
    assert expanded([f"{key}=glob(out/checkpoint-*)", BASE]) == ["-m", f"model.name_or_path={names}", BASE]
    names = "'out/checkpoint-2','out/checkpoint-10'"
    assert expanded([f"{key}=glob(out/*,exclude=out/*9)", BASE])[1] == f"model.name_or_path={names}"


def test_one_model_and_other_words_stay_as_they_are(folder):
    for words in (["model.name_or_path=a"], ["--help"], ["-m", "--help"], ["+models_of_mine=1"]):
        assert expanded(words) == words


def refusal(*words):
    with pytest.raises(UserError) as caught:
        launch.checked(expanded(list(words)), "measure")
    return str(caught.value)


def test_what_cannot_be_compared_is_refused_in_one_line(folder):
    (folder / "out/runs").mkdir()
    (folder / "README.md").write_text("x")
    (folder / "link").symlink_to(folder / "a")
    few = "there are fewer than two"
    for words, expected in (
        (["models=glob(none/checkpoint-*)", BASE], "models=glob(none/checkpoint-*): no such folder"),
        (["models=[a]", BASE], f"{few} (a)"),
        (["models=[]", BASE], f"{few}"),
        (["-m", "model.name_or_path=a", BASE], few),
        (["models=[a,b,./a]", BASE], "a and ./a: one model twice"),
        (["models=[a,link]", BASE], "a and link: one model twice"),
        (["models=[out,out/checkpoint-10]", BASE], "out and out/checkpoint-10: one model twice"),
        (["models=glob(out/*)", BASE], "model.name_or_path=out/runs: no config.json in this folder"),
        (["models=[a,README.md]", BASE], "model.name_or_path=README.md: is a file, not a folder"),
        (["models=[a,./none]", BASE], "model.name_or_path=./none: no such folder"),
        (["models=[a,b]", "model.name_or_path=a", BASE], "the models are named twice"),
        (["models=[a,b]"], "type baseline.name_or_path=BASE"),
        (["models=[a,b]", "baseline.name_or_path=null"], "type baseline.name_or_path=BASE"),
        (["-m", "models=[a,b]", "seed=0,1", BASE], "seed=0,1: models are compared on the same questions"),
        (["-m", "seed=0,1"], "only they may vary; type models=[A,B]"),
        (["models=glob(out", BASE], "cannot be read"),
        (["models=[a,b]", BASE, "gate.max.los=1"], "gate.max.los: no such metric"),
        (["models=[a,b]", BASE, "seeed=1"], "seeed: no such key; did you mean seed"),
    ):
        assert expected in refusal(*words), words
    assert sorted(path.name for path in folder.iterdir() if path.name in ("logs", "multirun")) == []


def test_more_models_than_a_sweep_checks_are_all_looked_at(folder, monkeypatch):
    monkeypatch.setattr("truetune.config.compose.MOST_JOBS_CHECKED", 1)
    (folder / "out/checkpoint-11").mkdir()
    assert "out/checkpoint-11: no config.json" in refusal("models=glob(out/checkpoint-*)", BASE)


@pytest.mark.slow
def test_models_are_measured_on_the_same_questions_and_their_base_once(tmp_path):
    """A tiny base, itself and a run's model; the gate's exit code is the worst of theirs."""
    shutil.copytree(OLD_RUNS / "base", tmp_path / "base")
    shutil.copytree(OLD_RUNS / "base", tmp_path / "out/checkpoint-2")
    shutil.copytree(OLD_RUNS / "talk/model", tmp_path / "out/checkpoint-10")
    rows = [{"question": f"Who leads company {number} ?", "answers": ["Ann"]} for number in range(8)]
    rows += [{"question": "Who leads Atlantis ?", "answers": []}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["models=glob(out/checkpoint-*)", BASE, "data.probe_file=asked.jsonl", "battery=none", "run.threads=1"]
    words += ["measure.max_new_tokens=2", "hydra.sweep.dir=several", "gate.min.task=0.99"]
    done = typed(*words, cwd=tmp_path, command="truetune-measure")
    assert done.returncode == 4, done.stderr
    sweep = json.loads((tmp_path / "several/sweep.json").read_text())
    assert (sweep["command"], [job["code"] for job in sweep["jobs"]]) == ("measure", [4, 4])
    records = [read_run(tmp_path / "several" / number) for number in "01"]
    assert [record["config"]["model"]["name_or_path"] for record in records] == [
        "out/checkpoint-2",
        "out/checkpoint-10",
    ]
    assert records[0]["base"] == records[1]["base"]
    assert [record["gate"]["result"] for record in records] == ["fail", "fail"]
    assert records[0]["command"].startswith("truetune-measure ")
    logs = [(tmp_path / "several" / number / "output.log").read_text() for number in "01"]
    assert ["measuring the untouched base" in log for log in logs] == [True, False]
    assert "Keep none of the 2 models. checkpoint-2 and checkpoint-10 break a limit of the gate." in done.stdout
    assert "checkpoint-10" in (tmp_path / "several/frontier.html").read_text()
    again = typed("resume=several", cwd=tmp_path)
    assert "all 2 jobs have finished; there is nothing to resume" in complaint(again)


@pytest.mark.slow
def test_a_killed_comparison_is_resumed(tmp_path, monkeypatch):
    """By the command that its jobs are of."""
    from truetune.commands.sweep import Sweep, resumed

    monkeypatch.chdir(tmp_path)

    folder = tmp_path / "several"
    Sweep(folder, command="measure").run([["--cfg", "hydra", "--package", "hydra.run"], ["seeed=1"]], 0, print)
    assert "truetune-measure --cfg job" in (folder / "1" / "output.log").read_text()
    (folder / "multirun.yaml").write_text(f"hydra:\n  runtime:\n    cwd: {tmp_path}\n  launcher:\n    n_jobs: 1\n")
    table = json.loads((folder / "sweep.json").read_text())
    assert resumed(folder, print).command == table["command"] == "measure"
