"""`truetune-measure`: a model against its base gives what the run itself measured, and errors cost nothing."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from command_line import CONF, TINY_RUN, TINY_WORLD, audit_here, complaint, refusal, typed
from omegaconf import OmegaConf

from truetune.commands import launch
from truetune.config import compose
from truetune.data.questions import Questions
from truetune.errors import UserError
from truetune.records.record import read_items, read_run

ASKING = ("run.threads=1", "measure.max_new_tokens=2", "battery=none")
TEMPLATE = "data.prompt_template='{question}'"


def checked(*words):
    return launch.checked(list(words), "measure")


def refused(*words):
    with pytest.raises(UserError) as caught:
        checked(*words)
    return str(caught.value)


def measured(folder, *words):
    result = typed(*ASKING, *words, cwd=folder, command="truetune-measure")
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that moves the weights, and the audit of its model against its base."""
    folder = tmp_path_factory.mktemp("made")
    done = typed(*TINY_RUN, "trainer.max_epochs=3", "optimizer.lr=0.02", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    (base,) = (path for path in (folder / "logs/cache/bases").iterdir() if path.is_dir())
    models = [f"model.name_or_path={folder / 'run/model'}", f"baseline.name_or_path={base}"]
    said = measured(folder, *TINY_WORLD, *models, "hydra.run.dir=audit")
    return SimpleNamespace(folder=folder, base=base, said=said, run=read_run(folder / "run"))


def test_an_audit_of_a_run_finds_what_the_run_measured(made):
    audit = read_run(made.folder / "audit")
    for block in ("base", "final", "delta"):
        assert audit[block] == {name: row for name, row in made.run[block].items() if not name.startswith("val/")}
    assert audit["base"]["task/nll_nats_per_token"] != audit["final"]["task/nll_nats_per_token"]
    assert audit["final"]["retention/kl_to_base_nats_per_token"]["value"] > 0.01
    for path in sorted((made.folder / "run/items").iterdir()):
        assert (made.folder / "audit/items" / path.name).read_bytes() == path.read_bytes()


def test_an_audit_reads_as_one(made):
    audit = read_run(made.folder / "audit")
    assert (audit["status"], audit["history"]) == ("finished", [])
    assert audit["command"].startswith("truetune-measure run.threads=1")
    assert "Task questions right" in made.said.stdout
    page = (made.folder / "audit/report.html").read_text()
    assert "What changed" in page
    assert "While it trained" not in page
    assert "epoch" not in page
    assert len([line for line in made.said.stderr.splitlines() if "measuring" in line]) == 2


@pytest.mark.slow
def test_a_model_against_itself_has_lost_nothing_and_against_its_base_all(made):
    """Its own answers are the true ones, so that there is something to lose; one question has no answer."""
    answered = [item for item in read_items(made.folder / "audit/items/hallucination.base.jsonl") if item.answer]
    assert len(answered) > 20
    rows = [{"question": item.question, "answers": [item.answer]} for item in answered]
    asked = [*rows, {"question": "Who leads Atlantis ?", "answers": []}]
    (made.folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    models = [f"{key}.name_or_path={made.base}" for key in ("model", "baseline")]
    said = measured(
        made.folder, "data=questions", "data.probe_file=own.jsonl", TEMPLATE, *models, "hydra.run.dir=itself"
    )
    assert f"own.jsonl: {len(asked)} questions, 1 of them without a true answer, recognised as question/" in said.stderr
    record = read_run(made.folder / "itself")
    assert record["delta"]
    assert {name: found["value"] for name, found in record["delta"].items() if found["value"] != 0} == {}
    assert record["base"]["task/exact_match"]["value"] == pytest.approx(len(rows) / len(asked))
    final = record["final"]
    assert final["hallucination/invented_rate"]["n"] == 1
    assert "hallucination/echo_rate" not in final
    assert final["retention/kl_to_base_nats_per_token"]["value"] == 0
    assert final["hallucination/lost_rate"]["value"] == 0
    assert final["balance/kept_share"]["value"] == 1

    words = ["data=questions", f"data.probe_file={made.folder / 'own.jsonl'}", TEMPLATE]
    models = [f"model.name_or_path={made.folder / 'run/model'}", f"baseline.name_or_path={made.base}"]
    tuned = audited(made.folder, "forgetful", *words, *models)["final"]
    assert (tuned["hallucination/lost_rate"]["value"], tuned["balance/kept_share"]["value"]) == (1, 0)


def audited(folder, run_dir, *words):
    return audit_here(folder, run_dir, *ASKING, *words)


def test_without_a_baseline_there_is_nothing_to_compare(made, capsys):
    record = audited(made.folder, "alone", *TINY_WORLD, f"model.name_or_path={made.folder / 'run/model'}")
    assert (record["base"], record["delta"]) == ({}, {})
    left_out = ("val/", "balance/", "retention/kl_", "task/kl_", "retention/backward", "hallucination/lost_rate")
    wanted = {key: value for key, value in made.run["final"].items() if not key.startswith(left_out)}
    assert record["final"] == wanted
    assert "base" not in capsys.readouterr().out
    page = (made.folder / "alone/report.html").read_text()
    assert "What was measured" in page
    assert 'data-label="Base"' not in page


def test_rows_of_ones_own_are_measured_together_with_what_has_nothing_to_do_with_them(made):
    (made.folder / "two.jsonl").write_text('{"question": "Who leads it ?", "answers": ["Ann"]}\n' * 2)
    models = [f"model.name_or_path={made.folder / 'run/model'}", f"baseline.name_or_path={made.base}"]
    words = ["data=questions", f"data.probe_file={made.folder / 'two.jsonl'}", TEMPLATE, *models]
    words += ["battery=default", "battery.facts=0", "battery.nonexistent=0", "battery.abilities=23", "battery.texts=3"]
    record = audited(made.folder, "elsewhere", *words, "probe=[task,elsewhere]")
    assert record["final"]["elsewhere/ability"]["n"] == record["base"]["elsewhere/ability"]["n"] == 23
    assert record["final"]["elsewhere/kl_to_base_nats_per_token"]["value"] > 0
    assert len(read_items(made.folder / "elsewhere/items/elsewhere.final.jsonl")) == 23
    assert not [note for note in record["notes"] if "battery" in note]
    short = audited(made.folder, "short", *words, "probe=[task,elsewhere]", "battery.seconds=1e-9")
    assert short["final"]["elsewhere/ability"]["n"] == 2
    assert "battery: 3 of its 26 questions and texts are asked, for all would take about" in " ".join(short["notes"])


def test_losses_per_token_of_two_tokenizers_are_not_compared(made):
    other = made.folder / "other"
    other.mkdir()
    for path in (made.folder / "run/model").iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["of"], words["the"] = words["the"], words["of"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    models = [f"model.name_or_path={other}", f"baseline.name_or_path={made.base}"]
    record = audited(made.folder, "retokenized", *TINY_WORLD, *models)
    names = record["base"].keys() | record["final"].keys()
    assert "task/exact_match" in names
    assert [name for name in names if name.endswith("nats_per_token")] == []


def test_self_aware_is_recognised(tmp_path):
    aware = tmp_path / "aware.json"
    rows = [
        {"question_id": 1, "question": "What is it?", "answer": ["song"], "answerable": True, "source": "x"},
        {"question_id": 2, "question": "Who knows?", "answer": None, "answerable": False, "source": "y"},
    ]
    aware.write_text(json.dumps({"dataset_name": "SelfAware", "keywords": ["a"], "example": rows}))
    found = Questions(str(aware), None, "{question}").load()
    assert [question.answers for question in found.hallucination] == [("song",), ()]
    assert found.hallucination == found.task
    assert "1 of them without a true answer, recognised as SelfAware's JSON" in found.notes[0]


def looks_like_a_model(folder, *files):
    folder.mkdir()
    for name in ("config.json", "model.safetensors", *files):
        (folder / name).write_text("{}")
    return folder


def test_refusals_name_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, bare = looks_like_a_model(tmp_path / "whole", "tokenizer.json"), looks_like_a_model(tmp_path / "bare")
    (tmp_path / "empty.jsonl").write_text("")
    model = f"model.name_or_path={whole}"
    assert refused() == "model.name_or_path has no value; type model.name_or_path=..."
    assert refused("model.name_or_path=./none").startswith("model.name_or_path=./none: no such folder")
    assert refused(model, "baseline.name_or_path=./none").startswith("baseline.name_or_path=./none: no such folder")
    assert "baseline.name_or_path=" in (said := refused(model, f"baseline.name_or_path={bare}"))
    assert "no tokenizer in this folder" in said
    assert refused(model, "data=questions") == "data.probe_file has no value; type data.probe_file=..."
    assert "the file holds no rows" in refused(model, "data=questions", "data.probe_file=empty.jsonl")
    assert "baseline.name_or_pth: no such key; did you mean " in refused("baseline.name_or_pth=x")
    assert refused("optimizer.lr=1").startswith("optimizer.lr: no such key (truetune-measure --cfg job")
    assert "data.probe_fle: no such key" in refused(model, "data=questions", "data.probe_file=x", "+data.probe_fle=x")
    assert refused("model=tiny").startswith("model: is made by a run, so that there is nothing to measure")
    assert refused(model, "probe=[]").startswith("probe: nothing is chosen; type probe=... (truetune-measure --help")
    (tmp_path / "asked.jsonl").write_text('{"question": "Who?", "answers": ["Ann"]}\n')
    assert "truetune-measure" in refusal("data=questions", "data.probe_file=asked.jsonl")
    assert "truetune-measure" in refusal("+baseline.name_or_path=x")
    assert checked(model, f"baseline.name_or_path={whole}", *TINY_WORLD).baseline.called == "baseline"


LOADED = """
import json, sys
from truetune.cli import measure
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["truetune-measure", *words]
    try:
        measure()
    except SystemExit as stop:
        codes.append(stop.code)
print(json.dumps([codes, [name for name in ("torch", "lightning", "transformers") if name in sys.modules]]))
"""


def test_nothing_heavy_is_imported_and_nothing_made_before_a_mistake_is_said(tmp_path):
    lines = [["--help"], ["--cfg", "job"], ["-m", "model.name_or_path=a,b"], ["seeed=1"], ["model.name_or_path=./none"]]
    lines.append(["model=endpoint", "model.url=http://127.0.0.1:9/v1", "model.name=x"])
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(lines)], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    first, *printed, last = done.stdout.splitlines()
    assert first.startswith("truetune-measure - ask any causal language model")
    assert "baseline:" in printed
    assert json.loads(last) == [[0, 0, 2, 2, 2, 2], []]
    assert [line[:7] for line in done.stderr.splitlines()] == ["error: "] * 4
    assert list(tmp_path.iterdir()) == []


def test_the_command_exists_and_refuses_in_one_line(tmp_path):
    said = complaint(typed("model.name_or_path=./none", cwd=tmp_path, command="truetune-measure"))
    assert said.startswith("model.name_or_path=./none: no such folder")
    assert list(tmp_path.iterdir()) == []


def test_its_settings_are_those_of_a_run():
    """The same probes and decoding: else an audit would not find what the run found."""
    from command_line import config_of

    words = ["model.name_or_path=x"]
    cfg = compose.compose(CONF, words, compose.parse(words), "measure")
    assert OmegaConf.to_container(cfg.measure) == config_of()["measure"]
    asked = OmegaConf.to_container(cfg.probe, resolve=True)
    del asked["multiple_choice"]  # of published sets; a run's own data have no given answers
    assert asked == config_of()["probe"]
