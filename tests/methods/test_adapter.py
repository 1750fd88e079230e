"""A LoRA run keeps its adapter, and all that reads a run's model merges it into the base."""

import json
from pathlib import Path

import pytest
import torch
from faults.tiny import ran
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from truetune.commands.chat import partners
from truetune.commands.export import export
from truetune.commands.tuned_model import saved_model
from truetune.errors import UserError
from truetune.records.files import verify

LORA = ("method=lora", "optimizer.lr=0.01", "probe=task")
IDS = torch.arange(3, 23).view(2, 10)


def trained(tmp_path, *words):
    """The record of a run that was typed in `tmp_path`."""
    hydra = tmp_path / "run" / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: '{tmp_path}'}}}}")
    return ran(tmp_path / "run", *LORA, *words)[0]


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def loaded(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


def base_folder(tmp_path):
    (base,) = [path for path in (tmp_path / "cache" / "bases").iterdir() if path.is_dir()]
    return base


def test_the_adapter_alone_is_kept_and_peft_loads_it_onto_the_base(tmp_path):
    record = trained(tmp_path)
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= {*record["files"]}
    assert not any(name.startswith("model/") for name in record["files"])
    adapter = tmp_path / "run" / "adapter"
    assert verify(adapter) is None
    assert AutoTokenizer.from_pretrained(adapter)("a").input_ids
    merged = loaded(export(tmp_path / "run", tmp_path / "out"))
    untouched = loaded(base_folder(tmp_path))
    before = logits(untouched)
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(untouched, adapter)), logits(merged), atol=1e-5, rtol=1e-4
    )
    assert (before - logits(merged)).abs().max() > 1e-3


def test_merged_weights_are_those_that_export_and_chat_make_of_the_adapter(tmp_path):
    record = trained(tmp_path, "run.merge=true")
    model = tmp_path / "run" / "model"
    assert saved_model(tmp_path / "run") == model
    expected = loaded(model).state_dict()
    model.rename(tmp_path / "merged")
    exported = loaded(export(tmp_path / "run", tmp_path / "out", dtype="float32")).state_dict()
    _, tuned = partners(tmp_path / "run", record, saved_model(tmp_path / "run"))
    of_chat = tuned.lm.model.state_dict()
    for name, weights in expected.items():
        assert torch.equal(exported[name], weights), name
        assert torch.equal(of_chat[name], weights), name


def test_an_adapter_is_not_merged_into_another_base(tmp_path):
    trained(tmp_path)
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_digest": "0" * 64}))
    with pytest.raises(UserError, match=r"adapter: the run's base is another by now .*bases"):
        export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickled_weights_of_an_adapter_are_not_read(tmp_path):
    trained(tmp_path)
    adapter = tmp_path / "run" / "adapter"
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    manifest = adapter / "manifest.json"
    manifest.write_text(manifest.read_text().replace("adapter_model.safetensors", "adapter_model.bin"))
    with pytest.raises(UserError, match=r"no adapter_model.safetensors, which every run writes; pickled"):
        saved_model(tmp_path / "run")


def test_other_runs_have_none(tmp_path):
    record, _ = ran(tmp_path / "run", "probe=task")
    assert not (tmp_path / "run" / "adapter").exists()
    assert "model/model.safetensors" in record["files"]


def test_an_adapter_of_a_run_that_did_not_finish_is_not_taken_for_its_model(tmp_path):
    trained(tmp_path)
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "interrupted"}))
    with pytest.raises(UserError, match=r"adapter: the run did not finish; go on with truetune resume=/"):
        saved_model(tmp_path / "run")


def test_a_resumed_run_leaves_no_older_model_beside_its_adapter(tmp_path):
    trained(tmp_path, "run.merge=true")
    ran(tmp_path / "run", *LORA, "trainer.max_epochs=3", resume=tmp_path / "run")
    assert saved_model(tmp_path / "run").name == "adapter"


def test_the_base_is_taken_from_the_cache_and_the_folder_of_the_caller_stays(tmp_path, monkeypatch):
    trained(tmp_path)
    monkeypatch.setattr("truetune.training.pretraining.load_base", None)
    here = Path.cwd()
    export(tmp_path / "run", tmp_path / "out")
    assert Path.cwd() == here
