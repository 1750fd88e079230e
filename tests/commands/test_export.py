"""An exported model is the run's own, with a card that says what was measured; nothing is overwritten."""

import json
import shutil
import stat

import pytest
from command_line import TINY_MODEL, TINY_WORLD, complaint, prepared, typed

from truetune.commands.export import card, export
from truetune.commands.tuned_model import save_model
from truetune.errors import UserError
from truetune.records.record import KEYS, metrics_to_json, read_run, write_run
from truetune.scoring.estimates import Estimate

BASE = {"task/right": Estimate(0.125, 40, 0.05, 0.2), "retention/accuracy": Estimate(0.9, 20)}
FINAL = {"task/right": Estimate(0.875, 40, 0.8, 0.95), "hallucination/lost_rate": Estimate(0.25, 1200)}


@pytest.fixture(scope="module")
def lm():
    ready = prepared(*TINY_WORLD, *TINY_MODEL)
    words = ready.data.pretraining.vocabulary()
    return ready.builder.build(ready.builder.tokenizer(words=words), "digest", "random")


def record(**changed):
    known = {"schema": 1, "truetune_version": "1.2.3", "created": "2026-11-24T04:12:07+00:00", "status": "finished"}
    known |= {"command": ["truetune", "seed=7"], "history": [], "delta": {}, "config": {}}
    known |= {"base": metrics_to_json(BASE), "final": metrics_to_json(FINAL)}
    return {**dict.fromkeys(KEYS, ""), **known, **changed}


@pytest.fixture(scope="module")
def finished(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write_run(folder, record())
    save_model(lm, folder)
    return folder


def refused(run, out):
    with pytest.raises(UserError) as caught:
        export(run, out)
    return str(caught.value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_plain_transformers_loads_it_and_it_answers_as_the_runs_model(finished, lm, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = export(finished, tmp_path / "deep" / "exported")
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    ids = tokenizer("question : who is the auditor of Amber Analytics ? answer :", return_tensors="pt").input_ids
    assert ids.tolist() == lm.tokenizer(["question : who is the auditor of Amber Analytics ? answer :"]).input_ids
    with torch.no_grad():
        assert torch.allclose(model.eval()(ids).logits, lm.model.eval()(ids).logits, atol=1e-5)
    assert names(out) == ["README.md", "config.json", "generation_config.json", *names_of_the_rest()]


@pytest.mark.slow
def test_onnxruntime_gives_the_same_logits_whatever_the_shape(finished, lm, tmp_path):
    import onnxruntime
    import torch

    out = export(finished, tmp_path / "out", onnx=True)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    for shape in ((1, 3), (3, 11)):
        ids = torch.randint(0, len(lm.tokenizer), shape)
        with torch.no_grad():
            expected = lm.model.eval()(ids).logits
        torch.testing.assert_close(
            torch.from_numpy(session.run(None, {"input_ids": ids.numpy()})[0]), expected, atol=1e-5, rtol=1e-4
        )


def test_onnx_without_its_packages_says_what_to_install(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package onnx; type pip install 'truetune\[onnx\]'"):
        export(finished, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def names_of_the_rest():
    return ["model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def test_the_card_holds_what_was_measured(finished, tmp_path):
    text = (export(finished, tmp_path / "out") / "README.md").read_text()
    assert text == card(read_run(finished))
    assert "| Task questions right | 0.125 | 0.875 | 40 |" in text
    assert "| Lost, of what the base knew | – | 0.250 | 1,200 |" in text
    assert "General ability" not in text, "it was not measured on the tuned model"
    assert "Made by truetune 1.2.3 on 2026-11-24" in text
    assert "seed=7" in text


def test_the_card_begins_with_what_the_hub_reads_and_names_no_folder_of_the_machine(tmp_path, monkeypatch):
    from huggingface_hub import ModelCard

    monkeypatch.chdir(tmp_path)
    command = (
        "truetune model=pretrained model.name_or_path=org/Base-1.5B data.train_file=/home/me/secret/rows.jsonl "
        "'data.probe_file=[../a b/q.csv,c/d.jsonl]' hydra.run.dir=/scratch/me/run clip=norm"
    )
    config = {"model": {"name_or_path": "org/Base-1.5B"}, "data": {"name": "openai/gsm8k"}, "adaptation": {"lora": {}}}
    text = card(record(command=command, config=config))
    data = ModelCard(text).data
    assert (data.base_model, data.datasets, data.tags) == ("org/Base-1.5B", ["openai/gsm8k"], ["truetune", "lora"])
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    for folder in ("/home", "secret", "a b", "c/d", "scratch"):
        assert folder not in text
    for name in ("model.name_or_path=org/Base-1.5B", "data.train_file=rows.jsonl", "'data.probe_file=[q.csv,d.jsonl]'"):
        assert name in text
    local = card(record(command="truetune", config={"model": {"name_or_path": "/models/mine"}, "data": {}}))
    assert ModelCard(local).data.base_model is None
    assert "/models" not in local


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_weights_are_of_the_precision_asked(finished, lm, tmp_path, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(export(finished, tmp_path / "out", dtype=dtype), dtype="auto")
    expected = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    for name, parameter in lm.model.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], parameter.to(expected))


def test_the_folder_can_be_read_by_others_and_nothing_else_is_left(finished, tmp_path):
    out = export(finished, tmp_path / "out")
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert names(tmp_path) == ["out"]
    assert names(finished) == ["model", "run.json"], "the run is as it was"


def test_what_is_in_the_way_is_not_overwritten(finished, tmp_path):
    (tmp_path / "empty").mkdir()
    assert export(finished, tmp_path / "empty") == tmp_path / "empty"
    before = (tmp_path / "empty" / "README.md").stat().st_mtime_ns
    assert refused(finished, tmp_path / "empty").startswith(f"{tmp_path / 'empty'}: exists and is not empty")
    assert (tmp_path / "empty" / "README.md").stat().st_mtime_ns == before
    (tmp_path / "file").write_text("mine")
    assert "exists and is not empty" in refused(finished, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_refuses_to_export_to_the_same_place_twice(finished, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("the first export")
    done = typed(str(finished), "out", cwd=tmp_path, command="truetune-export")
    assert complaint(done) == f"{tmp_path / 'out'}: exists and is not empty; name a new folder"
    assert (tmp_path / "out" / "README.md").read_text() == "the first export"


def test_a_run_without_a_model_is_refused(tmp_path):
    write_run(tmp_path / "run", record())
    text = refused(tmp_path / "run", tmp_path / "out")
    assert text.startswith(f"{tmp_path / 'run' / 'model'}: no such folder")
    assert "run.save_model=false" in text
    assert "does not exist" in refused(tmp_path / "no run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_model_is_refused(finished, tmp_path, name):
    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run" / "model" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert refused(tmp_path / "run", tmp_path / "out").endswith(f"model: the folder is damaged: {name} has changed")
    assert not (tmp_path / "out").exists()


def test_saving_again_needs_no_luck(lm, tmp_path):
    save_model(lm, tmp_path)
    digests = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert sorted(digests) == ["config.json", "generation_config.json", *names_of_the_rest()]
    assert names(tmp_path) == ["model"]
