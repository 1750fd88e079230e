"""One CUDA device: FLOP utilisation, tokens a second, peak memory, and that it computes what a CPU does. No network.

python tests/benchmarks/gpu.py            about 1 B random weights, bf16, packed rows of 4k tokens, compiled
python tests/benchmarks/gpu.py --tiny     the same code in miniature; with --device cpu anywhere

Utilisation is 6 FLOPs a parameter and token, and 12 a layer, width and token of its own example, against the matrix
product rate that this run measures itself (goal: at least half). On a CUDA device flex attention keeps examples apart:
no mask in memory. A tiny model's loss should be a CPU's to 1e-3, the norm at clipping that of unscaled gradients.
`runs` are whole ones as a user types them, one epoch each: target tokens a second of the last step, what
trainer.precision=auto was, or the error. `bf16_to_fp32` is how much faster products are in bf16.
"""

import argparse
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader

import truetune.training.fit as fitting
from truetune.data.batch import collate_packed, to_device
from truetune.data.tokens import TokenRow
from truetune.models.logits import body, head, states
from truetune.training.module import FineTuning
from truetune.training.objectives import Micro, NextToken
from truetune.training.schedules import Constant, Steps

SIZES = {  # hidden, intermediate, layers, heads, vocabulary, row length, examples a row, rows a step, matrix
    "full": (2048, 5632, 16, 16, 32_000, 4096, 8, 2, 8192),
    "tiny": (64, 128, 2, 4, 512, 64, 4, 2, 128),
}
STEPS, WARM_UP = 10, 3
WORDS = [f"w{number}" for number in range(200)]
RUNS = {
    "plain": [],
    "packed": ["loader.packing=true"],
    "compiled": ["model.compile=true"],
    "fsdp": ["trainer=fsdp", "trainer.devices=1"],
    "lora": ["method=lora"],
    "qlora": ["model=qlora", "method=lora"],
}


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call, times, device):
    synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / times


def matmul_rate(size, dtype, device):
    """FLOPs a second of a square product, after a warm-up."""
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds(lambda: one @ other, 3, device)
    return 2 * size**3 / seconds(lambda: one @ other, 10, device)


def model_of(hidden, intermediate, layers, heads, vocabulary, context, attention="sdpa"):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers}
    config = LlamaConfig(vocab_size=vocabulary, num_attention_heads=heads, max_position_embeddings=context, **sizes)
    return LlamaForCausalLM._from_config(config, attn_implementation=attention).train()


def packed_batch(vocabulary, length, examples, rows, device):
    """Rows of `examples` examples each, laid out by our own packing."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, vocabulary, (rows, examples, length // examples), generator=generator).tolist()
    packs = [[TokenRow(f"{r}/{e}", ids, 1) for e, ids in enumerate(row)] for r, row in enumerate(drawn)]
    return to_device(collate_packed(packs, 0), device)


def flops_per_token(model, span):
    """Forward and backward (Chowdhery et al. 2022, appendix B); an example of `span` tokens is attended to in full."""
    config, embeddings = model.config, model.get_input_embeddings().weight.numel()
    return (
        6 * (sum(p.numel() for p in model.parameters()) - embeddings)
        + 12 * config.num_hidden_layers * config.hidden_size * span
    )


def loss_of(model, batch, called=None):
    """Mean nll of the targets, by the objective that a run trains with."""
    made = states(called or body(model), batch["input_ids"], batch["position_ids"])
    parts = (batch[name] for name in ("labels", "input_ids", "attention_mask", "weights", "position_ids"))
    micro = Micro(model, made, *parts, head(model))
    return NextToken()(micro) / micro.target_tokens


def throughput(sizes, device, compiled):
    """Tokens a second, utilisation and peak memory of steps as a run takes them: bf16, clipped, AdamW."""
    *shape, vocabulary, length, examples, rows, matrix = sizes
    attention = "flex_attention" if device.type == "cuda" else "sdpa"
    model = model_of(*shape, vocabulary, length, attention).to(device, torch.bfloat16)
    batch = packed_batch(vocabulary, length, examples, rows, device)
    called = torch.compile(body(model)) if compiled else body(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")

    def step():
        loss_of(model, batch, called).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds(step, WARM_UP, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    took = seconds(step, STEPS, device)
    rate = batch["input_ids"].numel() / took
    peak = matmul_rate(matrix, torch.bfloat16, device)
    return {
        "tokens_per_second": rate,
        "matmul_flops_per_second": peak,
        "utilisation": rate * flops_per_token(model, length // examples) / peak,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }


def trl_tokens_per_second(sizes, device, folder):
    """Of as many steps of SFTTrainer on packed examples, in bf16, without checkpointing; None without TRL."""
    if importlib.util.find_spec("trl") is None:
        return None
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from truetune.models.tokenizers import word_level

    *shape, vocabulary, length, examples, rows, _ = sizes
    marks = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            synchronize(device)
            marks.append(time.perf_counter())

    ids = torch.randint(3, vocabulary, ((STEPS + WARM_UP) * rows * examples, length // examples)).tolist()
    options = {"per_device_train_batch_size": rows, "max_steps": STEPS + WARM_UP, "max_length": length, "packing": True}
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": device.type == "cpu"}
    settings = SFTConfig(folder, bf16=True, gradient_checkpointing=False, **options, **quiet)
    given = {"train_dataset": Dataset.from_dict({"input_ids": ids}), "processing_class": word_level(["a"])}
    SFTTrainer(model_of(*shape, vocabulary, length), settings, callbacks=[Clock()], **given).train()
    return STEPS * rows * length / (marks[-1] - marks[WARM_UP - 1])


def run_as_typed(sizes, device, folder, kinds):
    """By kind, what a run of the command recorded: the base is a random model, the rows are random words."""
    from truetune.models.tokenizers import word_level

    *shape, vocabulary, length, examples, rows, _ = sizes
    model_of(*shape, vocabulary, length).save_pretrained(folder / "base")
    word_level(WORDS).save_pretrained(folder / "base")
    rng = random.Random(0)
    drawn = [rng.choices(WORDS, k=length // examples - 2) for _ in range(64)]
    lines = [json.dumps({"prompt": first, "completion": " ".join(others)}) for first, *others in drawn]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    accelerator = "gpu" if device.type == "cuda" else device.type
    common = [f"model.name_or_path={folder / 'base'}", "data=jsonl", f"data.train_file={folder / 'rows.jsonl'}"]
    common += ["data.probe_questions=4", "battery=none", "probe=task", "callbacks=none", "measure.points=1"]
    common += [f"loader.batch_size={rows}", "run.save_model=false", "trainer.max_epochs=1"]
    results = {}
    for kind in kinds:
        words = ["model=pretrained", *common, f"trainer.accelerator={accelerator}", *RUNS[kind]]
        run = folder / kind
        command = [sys.executable, "-m", "truetune", *words, f"hydra.run.dir={run}", f"paths.log_dir={folder}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            results[kind] = {"error": ended.stderr.strip().splitlines()[-1]}
            continue
        record = json.loads((run / "run.json").read_text())
        name = "train/target_tokens_per_second"
        rates = [point["metrics"][name] for point in record["history"] if name in point["metrics"]]
        precision = next((note for note in record["notes"] if note.startswith("trainer.precision")), "32-true")
        results[kind] = {"target_tokens_per_second": rates[-1], "precision": precision}
    return results


def loss_differs(device):
    """|loss on the device - loss on the CPU| of a tiny model in fp32."""
    *shape, vocabulary, length, examples, rows, _ = SIZES["tiny"]
    losses = []
    for place in (torch.device("cpu"), device):
        model = model_of(*shape, vocabulary, length).to(place)
        losses.append(loss_of(model, packed_batch(vocabulary, length, examples, rows, place)).item())
    return abs(losses[0] - losses[1])


def norms_at_clipping(device, scale=2.0**12):
    """(gradient norm that clipping saw, the true one) of a 16-mixed step through our module in Lightning's Trainer."""
    *shape, vocabulary, length, examples, rows, _ = SIZES["tiny"]
    batch = packed_batch(vocabulary, length, examples, rows, torch.device("cpu"))
    model = model_of(*shape, vocabulary, length)
    loss_of(model, batch).backward()
    true = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]))
    model.zero_grad(set_to_none=True)
    sgd = partial(torch.optim.SGD, lr=1e-3)
    module = FineTuning(model, [NextToken()], sgd, Constant(), Steps(1, 1), at_targets=True)
    scaler = torch.amp.GradScaler(device.type, init_scale=scale)
    half = MixedPrecision("16-mixed", device.type, scaler)
    options = {"max_epochs": 1, "accelerator": device.type, "devices": 1, "gradient_clip_val": 1.0}
    with patch.object(fitting, "AtomicCheckpointIO", lambda: half):  # a plugin of the trainer, as the one it stands for
        fitting.fit(fitting.make_trainer(options), module, DataLoader([batch], batch_size=None), seed=0)
    return module.gradients.norm, true


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", dest="compiled", action="store_false")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS))
    given = parser.parse_args(words)
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return None
    sizes = SIZES["tiny" if given.tiny else "full"]
    found = throughput(sizes, device, given.compiled)
    seen, true = norms_at_clipping(device)
    found |= {"loss_differs": loss_differs(device), "norm_at_clipping": seen, "norm": true}
    found["bf16_to_fp32"] = found["matmul_flops_per_second"] / matmul_rate(sizes[-1], torch.float32, device)
    with tempfile.TemporaryDirectory() as folder:
        found["runs"] = run_as_typed(sizes, device, Path(folder), given.runs)
        found["trl_tokens_per_second"] = trl_tokens_per_second(sizes, device, folder)
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
