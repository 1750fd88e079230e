"""`model.init=meta`: two processes train, measure and save a model that neither of them ever holds."""

import io
import json
import os

import pytest
import torch
from command_line import composed, refusal, typed
from rich.console import Console
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from training.ranks import two_ranks
from training.test_sharded import llama
from transformers import AutoModelForCausalLM

from truetune.commands import sharded_model
from truetune.commands.train import train
from truetune.config import run as build
from truetune.errors import UserError
from truetune.models.language_model import LanguageModel
from truetune.models.sharded_loading import empty_model, fill_and_shard
from truetune.models.sharding import gathered_state
from truetune.records.record import read_run

ROWS = [
    {"prompt": f"w{n % 12} w{n % 7}", "completion": " ".join(f"w{(n * k) % 12}" for k in range(1, 2 + n % 5))}
    for n in range(40)
]
WORDS = (
    *("model=pretrained", "model.name_or_path=base", "data=jsonl", "data.train_file=rows.jsonl", "battery=none"),
    *("data.validation_rows=5", "data.probe_questions=10", "trainer.max_epochs=2", "optimizer.lr=1e-2"),
    *("optimizer.eps=1e-4", "run.threads=1", "measure.points=2", "measure.max_new_tokens=3"),
    "run.final=best",
)
META = ("model.init=meta", "trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "loader.batch_size=5")


@pytest.fixture
def base(folder):
    lm = llama()
    lm.model.save_pretrained("base", max_shard_size="100KB")
    lm.tokenizer.save_pretrained("base")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return lm


@pytest.mark.slow
def test_a_run_that_has_no_whole_model_ends_where_one_process_does(folder, base):
    done = typed(*WORDS, *META, "hydra.run.dir=meta", cwd=folder)
    assert done.returncode == 0, done.stderr
    cfg = composed(*WORDS, "loader.batch_size=10", "trainer.accelerator=cpu")
    cfg.paths.output_dir = "one"
    train(build.build(cfg, build.prepare(cfg), folder / "one"), Console(file=io.StringIO()))
    weights, same = (load_file(folder / run / "model" / "model.safetensors") for run in ("meta", "one"))
    torch.testing.assert_close(weights, same, rtol=1e-4, atol=1e-4)
    assert any(not torch.equal(weights[name], values) for name, values in base.model.named_parameters())
    loaded = AutoModelForCausalLM.from_pretrained(folder / "meta" / "model").state_dict()
    assert all(torch.equal(loaded[name], values) for name, values in weights.items())
    meta, one = (read_run(folder / run) for run in ("meta", "one"))
    for when in ("base", "final"):
        drift = {name for name in one[when] if "kl_to_base" in name}
        assert drift
        assert meta[when].keys() == one[when].keys() - drift
        for name, metric in meta[when].items():
            assert metric["value"] == pytest.approx(one[when][name]["value"], rel=1e-3, abs=1e-3), name
    followed = [[entry for entry in run["history"] if "val/score" in entry["metrics"]] for run in (meta, one)]
    assert len(followed[0]) == len(followed[1]) >= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_go_from_files_into_pieces_and_back_into_files(tmp_path, monkeypatch, tied):
    lm = llama(tied)
    lm.model.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    monkeypatch.setattr(sharded_model, "LARGEST_FILE", 100_000)

    def work():
        torch.distributed.init_process_group("gloo")
        options = {"trust_remote_code": False, "revision": None}
        model = empty_model(str(tmp_path / "base"), torch.float32, **options).train()
        assert all(parameter.is_meta for parameter in model.parameters())
        mesh = init_device_mesh("cpu", (2,))
        fill_and_shard(model, tmp_path / "base", mesh, torch.device("cpu"))
        sharded_model.save_in_pieces(LanguageModel(model, lm.tokenizer, "", ""), tmp_path)
        held = sum(parameter.to_local().numel() for parameter in model.parameters())
        return held, gathered_state(model, keep=True)

    total = sum(parameter.numel() for parameter in lm.model.parameters())
    for held, state in two_ranks(tmp_path, work):
        assert held == pytest.approx(total / 2, rel=0.01)
        assert state.keys() == lm.model.state_dict().keys()
        assert all(torch.equal(state[name], values) for name, values in lm.model.state_dict().items())
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 3
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], values) for name, values in lm.model.state_dict().items())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer=ddp_sim"], "model.init=meta reads weights into pieces; type trainer=fsdp, or leave it out"),
        (["model.name_or_path=some/model"], "model.init=meta reads a folder, and some/model is none here"),
        (["method=kl_to_base"], "objective.kl_to_base needs a whole base beside the model"),
        (["method=lora"], "adaptation.lora needs a whole base beside the model"),
        (["method=filter_unknown"], "curation.filter_unknown needs a whole base beside the model"),
        (["knowledge.label=true"], "knowledge.label=true needs a whole base beside the model"),
        (["measure.noise_floor=true"], "measure.noise_floor=true needs a whole base beside the model"),
        (["model.compile=true"], "model.compile=true with trainer=fsdp has not been tried"),
    ],
)
def test_what_cannot_be_done_without_a_whole_model_is_refused(folder, base, words, reason):
    assert refusal(*WORDS, *META, *words).startswith(reason)


def test_weights_of_another_name_or_shape_are_refused(tmp_path, monkeypatch):
    lm = llama()
    lm.model.save_pretrained(tmp_path / "base")
    options = {"trust_remote_code": False, "revision": None}
    model = empty_model(str(tmp_path / "base"), torch.float32, **options)
    lm.model.model.save_pretrained(tmp_path / "body")
    with pytest.raises(UserError, match=r"own names, and model\.embed_tokens\.weight is not in the files"):
        fill_and_shard(model, tmp_path / "body", None, torch.device("cpu"))
    llama(width=32).model.save_pretrained(tmp_path / "narrow")
    with pytest.raises(UserError, match=r"model.embed_tokens.weight is \(16, 32\), config.json says \(16, 64\)"):
        fill_and_shard(model, tmp_path / "narrow", None, torch.device("cpu"))
