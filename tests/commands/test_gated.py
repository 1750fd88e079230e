"""Limits are held against what was measured: by the run itself, by an audit, and afterwards by `truetune-report`."""

import json
import shutil
from xml.etree import ElementTree

import pytest
from command_line import CONF, TINY_RUN, TINY_WORLD, complaint, composed, typed
from fabricate import run_folder

from truetune import cli
from truetune.commands import launch
from truetune.config.gate import Gate, full_name
from truetune.errors import UserError
from truetune.records.record import read_run
from truetune.scoring.metrics import METRICS


@pytest.fixture
def run(tmp_path):
    """0.93 of the task's 200 questions are right; of 381 facts that the base knew 0.45 are lost."""
    return run_folder(tmp_path / "run")


def reported(monkeypatch, capsys, *words):
    """The exit code of `truetune-report`, what it says, and its errors."""
    monkeypatch.setattr("sys.argv", ["truetune-report", *map(str, words)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.report()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out.splitlines(), said.err.splitlines()


def test_a_finished_run_is_held_to_limits(run, monkeypatch, capsys):
    before = read_run(run)
    code, lines, errors = reported(monkeypatch, capsys, run, "gate.max.lost_rate=0.05", "gate.min.task=0.6")
    assert (code, len(errors)) == (4, 1)
    assert errors[0].startswith("error: gate: fail: 1 of 2 limits not passed")
    assert [line[:16].rstrip() for line in lines] == ["gate: fail", "gate: pass"]
    assert "hallucination/lost_rate at most 0.05: " in lines[0]
    record = read_run(run)
    assert {key: value for key, value in record.items() if key not in ("gate", "files")} == {
        key: value for key, value in before.items() if key != "files"
    }
    assert {"junit.xml", "gate.md"} <= set(record["files"])
    assert record["gate"]["result"] == "fail"
    assert [row["result"] for row in record["gate"]["limits"]] == ["fail", "pass"]
    suite = ElementTree.parse(run / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
    assert [case.find("failure") is not None for case in suite.iter("testcase")] == [True, False]
    assert "## Gate: fail" in (run / "gate.md").read_text()
    assert "<h2>Gate: fail</h2>" in (run / "report.html").read_text()
    assert all(str(run) not in (run / name).read_text() for name in ("junit.xml", "gate.md", "report.html"))


@pytest.mark.parametrize(
    ("choice", "code", "outcome"), [("null", 5, "skipped"), ("fail", 4, "failure"), ("pass", 0, "system-out")]
)
def test_what_is_undecided_counts_as_one_chooses(run, monkeypatch, capsys, choice, code, outcome):
    share = read_run(run)["final"]["task/right"]["value"]
    words = [f"gate.min.task={share - 0.02}", f"gate.undecided={choice}"]
    ended, lines, errors = reported(monkeypatch, capsys, run, *words)
    assert (ended, len(errors)) == (code, int(code > 0))
    assert lines[0].startswith("gate: undecided task/right at least ")
    assert lines[0].endswith(" questions would decide")
    assert ElementTree.parse(run / "junit.xml").find(f".//{outcome}") is not None


def test_a_gate_is_judged_anew_and_a_page_made_again_keeps_it(run, monkeypatch, capsys):
    assert reported(monkeypatch, capsys, run, "gate.max_drop.known_right=0.3")[0] == 4
    assert reported(monkeypatch, capsys, run, "gate.max_drop.known_right=0.6")[0] == 0
    record = (run / "run.json").read_bytes()
    assert reported(monkeypatch, capsys, run)[0] == 0
    assert (run / "run.json").read_bytes() == record
    assert "<h2>Gate: pass</h2>" in (run / "report.html").read_text()


def test_of_several_runs_the_worst_decides(run, monkeypatch, capsys):
    shutil.copytree(run, run.with_name("other"))
    share = read_run(run)["final"]["task/right"]["value"]
    folders = [run, run.with_name("other")]
    code, lines, errors = reported(monkeypatch, capsys, *folders, f"gate.min.task={share}")
    assert (code, len(lines), len(errors)) == (5, 2, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gate.max.lost_rat=0.1"], ["gate.max.lost_rat: no such metric", "lost_rate"]),
        (["gate.min.lost_rate=0.5", "gate.max.lost_rate=0.1"], ["lost_rate=0.5: is above", "=0.1"]),
        (["gate.max.mc1=0.5"], ["multiple_choice/mc1 was not measured"]),
        (["gate.max.nll_nats_per_token=1"], ["gate.max.task.nll_nats_per_token or gate.max.retention.nll"]),
        (["gate.max.lost_rate=5"], ["is a share, from 0 to 1; 5 % is 0.05"]),
        (["gate.max.lost_rate=abc"], ["gate.max.lost_rate=abc: should be a valid number"]),
        (["gate.max.lost_rate=nan"], ["should be a finite number"]),
        (["gate.max=0.1"], ["gate.max=0.1: should hold keys of its own"]),
        (["gate.maxi.lost_rate=0.1"], ["gate.maxi: no such key; did you mean gate.max"]),
        (["gate.max.lost_rate=0.1", "gate.max.hallucination.lost_rate=0.1"], ["is limited twice"]),
        (["gate.max_drop.abstention_rate=0.1"], ["is neither better nor worse in itself"]),
        (["gate.max_drop.retention.nll_nats_per_token=-1"], ["should be at least 0"]),
        (["gate.undecided=perhaps"], ["gate.undecided=perhaps: should be 'pass' or 'fail'"]),
        (["gate=none"], ["a run and a limit are needed"]),
        (["gate=non"], ["gate=non: no such choice"]),
    ],
)
def test_a_bad_limit_is_one_line_and_costs_nothing(run, monkeypatch, capsys, words, expected):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, lines, errors = reported(monkeypatch, capsys, run, *words)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert [part for part in expected if part not in errors[0]] == []
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_what_cannot_be_measured_is_refused_before_anything_is(folder):
    """In a run and in an audit; a limit takes any metric without a plus."""
    assert launch.checked([*TINY_WORLD, "gate.max.elsewhere.made_up_rate=0.5"]) is not None
    assert launch.checked([*TINY_WORLD, "gate.max.task.nll_nats_per_token=9"]) is not None  # ends as a secret does
    assert launch.checked([*TINY_WORLD, "gate.max={hallucination/invented_rate: 0.5}"]) is not None
    for words, expected in (
        (["gate.max.lost_rat=0.1"], "gate.max.lost_rat: no such metric; did you mean lost_rate"),
        (["gate.max.mc1=0.1"], "gate.max.multiple_choice.mc1: no probe measures it"),
        (["gate.max.lost_rate=0.1", "probe=[task]"], "gate.max.hallucination.lost_rate: no probe measures it"),
    ):
        with pytest.raises(UserError, match=expected):
            launch.checked([*TINY_WORLD, *words])
    (folder / "config.json").write_text("{}")
    for words in (["gate.max.lost_rate=0.1"], ["gate.max_drop.task=0.1"]):
        cfg = composed_audit("model.name_or_path=.", *words)
        with pytest.raises(UserError, match=r"is measured against a base, and there is none; type baseline"):
            gate_of(cfg).check(cfg, None)
    cfg = composed_audit("model.name_or_path=.", "baseline.name_or_path=.", "gate.max.lost_rate=0.1")
    assert gate_of(cfg).check(cfg, None) == []


def composed_audit(*words):
    from omegaconf import OmegaConf

    from truetune.config import compose

    cfg = compose.compose(CONF, list(words), compose.parse(list(words)), "measure")
    return {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("gate", "probe", "baseline")}


def gate_of(config):
    return Gate(**{key: value for key, value in config["gate"].items() if key != "_target_"})


def test_a_probe_of_ones_own_may_bring_any_metric():
    gate = Gate(max={"words": 5.0})
    assert gate.check({"probe": {"verbosity": {"_target_": "mine.Verbosity"}}}, None) == []
    assert [limit.metric for limit in gate.limits(["verbosity/words"])] == ["verbosity/words"]
    with pytest.raises(UserError, match="no such metric"):
        gate.limits()


def test_every_metric_can_be_limited_by_its_whole_name():
    for name in METRICS:
        assert full_name("gate.max.", name.replace("/", "."), list(METRICS)) == name
    assert full_name("gate.max.", "lost_rate", list(METRICS)) == "hallucination/lost_rate"
    assert full_name("gate.max.", "task", list(METRICS)) == "task/right"
    assert full_name("gate.max.", "ability", list(METRICS)) == "elsewhere/ability"


def test_no_limit_is_set_by_default():
    assert Gate(**{key: value for key, value in composed().gate.items() if key != "_target_"}).typed() == []


@pytest.mark.slow
def test_a_run_and_an_audit_are_held_to_their_limits(tmp_path):
    """Nothing is lost where a limit turns out not to have been measured: this run's rows have no wrong choices."""
    words = [*TINY_RUN, "hydra.run.dir=run", "gate.max.hallucination.invented_rate=0.01", "gate.undecided=fail"]
    done = typed(*words, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert done.stdout.splitlines()[-1].startswith("gate: ")
    assert done.stderr.splitlines()[-1].startswith("error: gate: fail: 1 of 1 limits not passed")
    record = read_run(tmp_path / "run")
    assert (record["status"], record["gate"]["result"]) == ("finished", "fail")
    assert "gate.max.hallucination.invented_rate=0.01" in record["command"]
    (base,) = (path for path in (tmp_path / "logs/cache/bases").iterdir() if path.is_dir())
    audit = [*TINY_WORLD, "run.threads=1", "measure.max_new_tokens=2", "battery=none", "hydra.run.dir=audit"]
    audit += [f"model.name_or_path={tmp_path / 'run/model'}", f"baseline.name_or_path={base}"]
    again = typed(*audit, "gate.max.mc1=0.5", "gate.max.rate=1", cwd=tmp_path, command="truetune-measure")
    assert again.returncode == 2, again.stderr
    assert "multiple_choice/mc1 was not measured; all else was recorded" in again.stderr.splitlines()[-1]
    assert read_run(tmp_path / "audit")["final"]["hallucination/rate"]["value"] <= 1
    assert (tmp_path / "audit/report.html").exists()
    last = typed("audit", "gate.max.rate=1", cwd=tmp_path, command="truetune-report")
    assert (last.returncode, last.stderr) == (0, "")
    assert json.loads((tmp_path / "audit/run.json").read_text())["gate"]["result"] == "pass"
    assert "no such metric" in complaint(
        typed(*audit[:-3], *audit[-2:], "gate.max.los=1", cwd=tmp_path, command="truetune-measure")
    )
