"""One table of bad inputs to every command: exit code 2, one line that names the place, no traceback, nothing written.

In this process, through the commands' own functions; `test_typed_for_real` types some of them in a shell's way.
"""

import hashlib
import json
import os
import signal
import sys

import pytest
from command_line import TINY_WORLD, complaint, typed

from truetune import cli

COMMANDS = {"truetune": cli.train, "truetune-measure": cli.measure, "truetune-report": cli.report}
COMMANDS |= {"truetune-export": cli.export, "truetune-compare": cli.compare}
ROW = '{"prompt": "p", "completion": " c"}\n'
RECORD = {"schema": 1, "truetune_version": "0.1.0", "status": "finished"}
FILES = {
    "good.jsonl": "".join(json.dumps({"prompt": f"n {n}", "completion": f" {n}"}) + "\n" for n in range(10)),
    "empty.jsonl": "",
    "blank.jsonl": "\n \n",
    "broken.jsonl": ROW + '{"prompt": }\n',
    "cut.jsonl": ROW + '{"prompt": "x", "comp',
    "list.jsonl": ROW + "[1]\n",
    "mixed.jsonl": ROW + '{"text": "x"}\n',
    "missing_field.jsonl": ROW + '{"prompt": "x"}\n',
    "null.jsonl": ROW + '{"prompt": null, "completion": "x"}\n',
    "blank_answer.jsonl": ROW + '{"prompt": "x", "completion": " "}\n',
    "surrogate.jsonl": ROW + '{"prompt": "x", "completion": "\\udc80"}\n',
    "overflow.jsonl": ROW + '{"prompt": "x", "completion": 1e999}\n',
    "infinity.jsonl": ROW + '{"prompt": "x", "completion": "y", "n": -Infinity}\n',
    "digits.jsonl": ROW + '{"prompt": "x", "completion": "y", "n": ' + "9" * 5000 + "}\n",
    "latin.jsonl": ROW.encode() + b'{"prompt": "\xe9", "completion": "x"}\n',
    "nul.jsonl": ROW + '{"prompt": "a\x00b", "completion": "x"}\n',
    "separator.jsonl": ROW + '{"prompt": "a\u2028b", "completion": 3}\n',
    "crlf.jsonl": ROW.replace("\n", "\r\n") + '{"prompt": "x"}\r\n',
    "bom.jsonl": "\ufeff" + ROW + '{"prompt": "x"}\n',
    "deep.jsonl": ROW + "[" * 50_000 + "\n",
    "twice.jsonl": '{"id": 7, "prompt": "p", "completion": " c"}\n' * 2,
    "object.json": '{"a": 1}',
    "rows.parquet.gz": "",
    "one.txt": "one line",
    "questions.csv": "Question,Best Answer\nwho,me\n",
    "asks_nothing.jsonl": '{"text": "x"}\n',
    "used/run.json": json.dumps(RECORD),
    "used/.hydra/overrides.yaml": "[]",
    "half/run.json": '{"schema": 1,',
    "newer/run.json": json.dumps({**RECORD, "schema": 99}),
    "other/run.json": "[]",
    "killed/.hydra/overrides.yaml": "- seed=1\n",
    "killed/.hydra/hydra.yaml": "hydra: {runtime: {cwd: /}}\n",
    "pickled/config.json": "{}",
    "pickled/pytorch_model.bin": "x",
    "remote/config.json": '{"auto_map": {"AutoModelForCausalLM": "evil.Model"}}',
    "remote/model.safetensors": "",
    "no_tokenizer/config.json": "{}",
    "no_tokenizer/model.safetensors": "",
    "no_weights/config.json": "{}",
    "not_json/config.json": "{",
    "empty/.keep": "",
}
DATA = ["data=jsonl"]


def data(name):
    return [*DATA, f"data.train_file={name}"]


def model(name):
    return [*TINY_WORLD, "model=pretrained", f"model.name_or_path={name}"]


CASES = [
    # keys, groups and flags
    ("truetune", ["optimizer.lerning_rate=1"], ["optimizer.lerning_rate: no such key", "optimizer.lr"]),
    ("truetune", ["typo=1"], ["typo: no such key"]),
    ("truetune", ["typo.a.b=1"], ["typo.a.b: no such key"]),
    ("truetune", ["optimizer.lr=abc"], ["optimizer.lr=abc", "valid number"]),
    ("truetune", ["optimizer.lr="], ["optimizer.lr=", "valid number"]),
    ("truetune", ["optimizer.lr=-1e-3"], ["optimizer.lr=-0.001", "greater than 0"]),
    ("truetune", ["loader.batch_size=0"], ["loader.batch_size=0"]),
    ("truetune", ["optimizer.lr=.nan"], ["optimizer.lr=", "number"]),
    ("truetune", ["optimizer.lr=nan"], ["optimizer.lr=nan", "finite"]),
    ("truetune", ["optimizer.lr=-inf"], ["optimizer.lr=-inf"]),
    ("truetune", ["optimizer.betas=[0.9]"], ["optimizer.betas"]),
    ("truetune", ["seed=1e400"], ["seed=inf"]),
    ("truetune", ["seed=99999999999999999999"], ["seed=99999999999999999999", "less than 4294967296"]),
    ("truetune", ["method=lora", "adaptation.lora.dropout=2"], ["adaptation.lora.dropout=2"]),
    ("truetune", ["schedule=cosine", "schedule.warmup_steps=100000"], ["schedule.warmup_steps=100000", "steps"]),
    (
        "truetune",
        [*TINY_WORLD, "schedule=warmup_stable_decay", "schedule.warmup_steps=40", "schedule.decay_steps=40"],
        ["schedule.warmup_steps=40 + schedule.decay_steps=40 is above the run's 60 steps (trainer.max_epochs=20)"],
    ),
    ("truetune", ["method=[lora,freeze]"], ["lora and freeze contradict each other"]),
    ("truetune", ["paths.log_dir=${oc.env:TRUETUNE_UNSET}"], ["hydra.run.dir", "TRUETUNE_UNSET"]),
    ("truetune", ["seed=${seed}"], ["seed", "ecursive"]),
    ("truetune", ["optimizer._target_=os.system"], ["optimizer._target_=os.system: not allowed"]),
    ("truetune", ["hydra.job_logging.handlers.console.class=logging.os.system"], ["console.class", "not allowed"]),
    ("truetune", ["+hydra.callbacks.x._target_=os.system"], ["hydra.callbacks.x._target_", "not allowed"]),
    ("truetune", ["+hydra.nope=1"], ["hydra.nope: no such key"]),
    ("truetune", ["hydra.mode=x"], ["hydra.mode=x"]),
    ("truetune", ["hydra.output_subdir=${nope}"], ["hydra.output_subdir", "nope"]),
    ("truetune", ["-m", "hydra.sweeper=nope"], ["hydra.sweeper=nope", "hydra/sweeper may be", "basic"]),
    ("truetune", ["-m", "hydra/launcher=nope"], ["hydra/launcher=nope: no such choice", "basic", "truetune"]),
    ("truetune", ["-m", "hydra.launcher.n_jobs=0", "seed=0,1"], ["hydra.launcher.n_jobs=0"]),
    ("truetune", ["--nosuch"], ["--nosuch: no such flag; flags: -m, --cfg job, --help, --hydra-help, --debug"]),
    ("truetune", ["-x=3"], ["-x=3"]),
    ("truetune", ["--cfg", "nothing"], ["nothing"]),
    ("truetune", ["-m", "seed=0,1", "--cfg", "job"], ["leave -m out"]),
    ("truetune", ["--config-dir", "missing"], ["{folder}/missing: no such folder of configurations"]),
    (
        "truetune",
        ["-m", *TINY_WORLD, "optimizer.lr=1e-3,1e-4,-1"],
        ["optimizer.lr=-1: should be greater than 0 (job:"],
    ),
    ("truetune", ["seed=1", "-m", "clip=none,norm"], ["clip=none,norm: keys stand on both sides of a flag"]),
    (
        "truetune",
        ["data.prompt_template=x"],
        ["data.prompt_template: not a key of what is chosen; type ", "data=jsonl or data=questions"],
    ),
    ("truetune", ["schedule.every=2"], ["schedule.every", "type schedule=step_decay"]),
    ("truetune", ["+trainer.max_steps=0"], ["trainer.max_steps=0 trains nothing"]),
    ("truetune", ["+trainer.limit_train_batches=0"], ["trainer.limit_train_batches=0"]),
    ("truetune", ["paths.output_dir=elsewhere"], ["paths.output_dir=elsewhere", "hydra.run.dir"]),
    ("truetune", ["task_name=../../x"], ["task_name=../../x"]),
    ("truetune", ["+logger.csv.api_key=abc123"], ["logger.csv.api_key: looks like a secret", "oc.env:API_KEY"]),
    ("truetune", ["trainer.gradient_clip_val=0"], ["trainer.gradient_clip_val=0: should be greater than 0"]),
    ("truetune", ["paths.log_dir=good.jsonl"], ["good.jsonl is a file, not a folder"]),
    # data files
    ("truetune", DATA, ["data.train_file has no value"]),
    ("truetune", data("missing.jsonl"), ["{folder}/missing.jsonl: there is no such file"]),
    ("truetune", data("empty"), ["{folder}/empty", "holds no"]),
    ("truetune", data("empty.jsonl"), ["{folder}/empty.jsonl: the file holds no rows"]),
    ("truetune", data("blank.jsonl"), ["{folder}/blank.jsonl: the file holds only blank lines"]),
    ("truetune", data("broken.jsonl"), ["broken.jsonl:2:12: malformed JSON"]),
    ("truetune", data("cut.jsonl"), ["cut.jsonl:2", "last line incomplete"]),
    ("truetune", data("list.jsonl"), ["list.jsonl:2: found a list"]),
    ("truetune", data("mixed.jsonl"), ["mixed.jsonl:2:", '"text"']),
    ("truetune", data("missing_field.jsonl"), ["missing_field.jsonl:2:", '"completion"']),
    ("truetune", data("null.jsonl"), ["null.jsonl:2:", '"prompt"', "null"]),
    ("truetune", data("blank_answer.jsonl"), ["blank_answer.jsonl:2:", '"completion"']),
    ("truetune", data("surrogate.jsonl"), ["surrogate.jsonl:2:", "lone surrogate \\udc80"]),
    ("truetune", data("overflow.jsonl"), ["overflow.jsonl:2:", '"completion": found a number']),
    ("truetune", data("infinity.jsonl"), ["infinity.jsonl:2: -Infinity is not JSON"]),
    ("truetune", data("digits.jsonl"), ["digits.jsonl:2:", "digits"]),
    ("truetune", data("latin.jsonl"), ["latin.jsonl:2: byte 0xe9 at byte offset 48 is not UTF-8"]),
    ("truetune", data("nul.jsonl"), ["nul.jsonl:2:14: malformed JSON"]),
    ("truetune", data("separator.jsonl"), ["separator.jsonl:2:", '"completion": found a number']),
    ("truetune", data("crlf.jsonl"), ["crlf.jsonl:2:"]),
    ("truetune", data("bom.jsonl"), ["bom.jsonl:2:"]),
    ("truetune", data("deep.jsonl"), ["deep.jsonl:2: nested too deeply"]),
    ("truetune", data("twice.jsonl"), ['twice.jsonl:2: the id "7" is that of twice.jsonl:1']),
    ("truetune", data("object.json"), ["object.json: found one object"]),
    ("truetune", data("rows.parquet.gz"), ["rows.parquet.gz: damaged", "not a whole Parquet file"]),
    ("truetune", [*data("good.jsonl"), "data.probe_file=asks_nothing.jsonl"], ["asks_nothing.jsonl:1:"]),
    ("truetune", [*data("good.jsonl"), "data.prompt_template=none"], ["data.prompt_template", "{question}"]),
    ("truetune", ["data=text", "data.train_file=one.txt"], ["one.txt: 1 segment of text is too little"]),
    # models
    ("truetune", model("./missing"), ["model.name_or_path=./missing: no such folder"]),
    ("truetune", model("./empty"), ["model.name_or_path=./empty: no config.json"]),
    ("truetune", model("./pickled"), ["model.name_or_path=./pickled", "pytorch_model.bin", "can run code"]),
    ("truetune", model("./remote"), ["model.name_or_path=./remote", "auto_map", "refused"]),
    ("truetune", model("./no_tokenizer"), ["model.name_or_path=./no_tokenizer: no tokenizer"]),
    ("truetune", model("./no_weights"), ["model.name_or_path=./no_weights: no weights"]),
    ("truetune", model("./not_json"), ["model.name_or_path=./not_json: config.json is not JSON"]),
    # run folders
    ("truetune", [*TINY_WORLD, "hydra.run.dir=used"], ["{folder}/used: this run folder is already in use"]),
    ("truetune", [*TINY_WORLD, "hydra.run.dir=good.jsonl/x"], ["good.jsonl is a file, not a folder"]),
    ("truetune", ["resume=missing"], ["resume=missing: no such run folder; type resume=RUN_DIR"]),
    ("truetune", ["resume="], ["resume=: no such run folder"]),
    ("truetune", ["resume=used"], ["{folder}/used"]),
    ("truetune", ["resume=killed"], ["{folder}/killed: there is no checkpoint"]),
    ("truetune", ["resume=killed", "seed=2"], ["start a new run to change seed"]),
    ("truetune", ["-m", "resume=killed"], ["resume", "to change -m"]),
    ("truetune", [*TINY_WORLD, f"hydra.run.dir={'x' * 300}"], ["xxx", "the name is too long"]),
    ("truetune", data("x" * 300), ["xxx: cannot be read: File name too long"]),
    ("truetune", model("./" + "x" * 300), ["xxx: no such folder"]),
    # the other commands
    ("truetune-report", ["x" * 300], ["xxx: the name is too long"]),
    ("truetune-measure", [], ["model.name_or_path has no value"]),
    ("truetune-measure", ["-m", "seed=0,1"], ["one model at a time"]),
    ("truetune-measure", ["model.name_or_path=./missing"], ["model.name_or_path=./missing: no such folder"]),
    ("truetune-measure", ["optimizer.lr=1"], ["optimizer.lr: no such key (truetune-measure --cfg job"]),
    (
        "truetune-measure",
        ["model.name_or_path=a/b", "data=questions", "data.probe_file=questions.csv"],
        ["questions.csv:2: found the fields", '"Question"'],
    ),
    (
        "truetune-measure",
        ["model.name_or_path=a/b", "data=questions", "data.probe_file=broken.jsonl"],
        ["broken.jsonl:2:12: malformed JSON"],
    ),
    ("truetune-report", [], ["RUN_OR_SWEEP_DIR"]),
    (
        "truetune-report",
        ["missing"],
        ["missing: no such folder; give a run folder (it holds run.json)"],
    ),
    ("truetune-report", ["--nosuch", "x"], ["--nosuch"]),
    ("truetune-report", ["empty"], ["empty is neither a run (no run.json) nor a sweep"]),
    ("truetune-report", ["half"], ["half/run.json is not JSON"]),
    ("truetune-report", ["newer"], ["newer/run.json", "schema 99"]),
    ("truetune-report", ["other"], ["other/run.json is not the record"]),
    ("truetune-report", ["used"], ["used/run.json lacks"]),
    ("truetune-export", ["half"], ["out"]),
    ("truetune-compare", ["half"], ["two logs are compared, found 1", "truetune-compare --help"]),
    ("truetune-compare", ["good.jsonl", "cut.jsonl"], ["good.jsonl:1: no document (doc or doc_hash)", "--log_samples"]),
    ("truetune-compare", ["used", "missing"], ["missing: there is no such log"]),
    ("truetune-compare", ["half/run.json", "used/run.json"], ["half/run.json:1:14: malformed JSON"]),
    ("truetune-export", ["missing", "new"], ["missing/run.json does not exist"]),
    ("truetune-export", ["used", "new"], ["used/run.json lacks"]),
    ("truetune-export", ["newer", "new"], ["newer/run.json", "schema 99"]),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    """As it was before, whatever was typed in it."""
    monkeypatch.chdir(made)
    monkeypatch.delenv("TRUETUNE_LOGS", raising=False)
    before, handler = content(made), signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, handler)
    assert content(made) == before


def content(folder):
    paths = sorted(folder.rglob("*"))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder" for p in paths}


def called(command, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, *words])
    with pytest.raises(SystemExit) as stopped:
        COMMANDS[command]()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("command", "words", "said"), CASES, ids=[f"{c}-{' '.join(w)[-60:]}" for c, w, _ in CASES])
def test_every_bad_input_is_refused_in_one_line(folder, monkeypatch, capsys, command, words, said):
    code, text = called(command, words, monkeypatch, capsys)
    assert code == 2
    assert len(text.splitlines()) == 1, text
    assert text.startswith("error: ")
    assert len(text) < 1100
    for part in said:
        assert part.replace("{folder}", str(folder)) in text


REAL = [case for case in CASES if "hydra/launcher=nope" in case[1] or "hydra.sweeper=nope" in case[1]]
REAL += [case for case in CASES if "cut.jsonl" in str(case[1]) or case[1][-1:] in (["resume=killed"], ["./remote"])]
REAL += [case for case in CASES if case[0] != "truetune" and case[1][-1:] in (["new"], ["half"], ["optimizer.lr=1"])]


@pytest.mark.parametrize(("command", "words", "said"), REAL)
def test_typed_for_real(folder, command, words, said):
    text = complaint(typed(*words, cwd=folder, command=command))
    for part in said:
        assert part.replace("{folder}", str(folder)) in text


@pytest.mark.parametrize("command", COMMANDS)
def test_debug_shows_the_traceback_of_every_command(folder, monkeypatch, capsys, command):
    words = {"truetune": ["seed=x"], "truetune-export": ["missing", "new"]}.get(command, ["missing=1"])
    code, text = called(command, [*words, "--debug"], monkeypatch, capsys)
    assert code == 2
    assert "Traceback (most recent call last)" in text
    assert text.splitlines()[-1].startswith("error: ")


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX alone")
def test_a_name_that_is_no_text(folder):
    text = complaint(typed(*DATA, b"data.train_file=\xff.jsonl", cwd=folder))
    assert text.startswith("data.train_file=\\udcff.jsonl: cannot be read")
