"""A LoRA run writes its adapter beside the merged model, and PEFT makes the one of the other."""

import torch
from faults.tiny import ran
from peft import PeftModel
from transformers import AutoModelForCausalLM

from truetune.records.files import verify


def test_peft_loads_the_adapter_onto_the_base_and_gets_the_merged_model(tmp_path):
    record, _ = ran(tmp_path / "run", "method=lora", "optimizer.lr=0.01", "probe=task")
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= {*record["files"]}
    adapter = tmp_path / "run" / "adapter"
    assert verify(adapter) is None
    (base,) = [path for path in (tmp_path / "cache" / "bases").iterdir() if path.is_dir()]
    untouched, merged = (
        AutoModelForCausalLM.from_pretrained(path).eval() for path in (base, tmp_path / "run" / "model")
    )
    ids = torch.arange(3, 23).view(2, 10)
    with torch.no_grad():
        before, expected = untouched(ids).logits, merged(ids).logits
        logits = PeftModel.from_pretrained(untouched, adapter).eval()(ids).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    assert (before - expected).abs().max() > 1e-3


def test_other_runs_have_none(tmp_path):
    ran(tmp_path / "run", "probe=task")
    assert not (tmp_path / "run" / "adapter").exists()
