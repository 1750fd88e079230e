"""The benchmark for a CUDA device, in miniature and on a CPU: the same code."""

import importlib.util
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_device_it_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) is None
    assert capsys.readouterr().out == "skipped: no CUDA device\n"


@pytest.mark.slow
def test_it_runs_in_miniature(gpu):
    found = gpu.main(["--tiny", "--device", "cpu", "--no-compile", "--runs", "fsdp", "qlora"])
    assert found["tokens_per_second"] > 0
    assert found["utilisation"] > 0
    assert found["loss_differs"] == 0
    assert found["norm_at_clipping"] == pytest.approx(found["norm"], rel=0.02), "scaled, it is 4,096 times as large"
    assert found["bf16_to_fp32"] > 0
    assert found["runs"]["fsdp"]["target_tokens_per_second"] > 0
    assert found["runs"]["qlora"]["error"].startswith("error: model=qlora")


def test_the_packed_examples_do_not_see_each_other(gpu):
    *shape, vocabulary, length, examples, rows, _ = gpu.SIZES["tiny"]
    model = gpu.model_of(*shape, vocabulary, length).eval()
    batch = gpu.packed_batch(vocabulary, length, examples, rows, torch.device("cpu"))
    single = gpu.packed_batch(vocabulary, length // examples, 1, rows * examples, torch.device("cpu"))
    assert float(gpu.loss_of(model, batch)) == pytest.approx(float(gpu.loss_of(model, single)), rel=1e-5)


def test_flops_count_what_is_multiplied(gpu):
    model = gpu.model_of(8, 16, 1, 2, 32, 16)
    weights = 4 * 8 * 8 + 3 * 8 * 16 + 3 * 8 + 8 * 32  # attention, feed-forward, norms, head
    assert gpu.flops_per_token(model, 4) == 6 * weights + 12 * 8 * 4
