"""Target tokens a second of one epoch of fine-tuning: truetune, TRL, HF Trainer and a bare loop, side by side.

python tests/benchmarks/throughput.py GSM8K.jsonl [--rows 128] [--repeats 3] [--arms truetune,bare] [--threads 2]
    [--model FOLDER]

A Llama of 29 M random weights or the model in FOLDER, prompts masked, batches of 8, AdamW, clip 1.0, no network. Each
arm is a process of its own; all arms follow each other in every round, and ratios are taken within a round. The clock
starts with the fit and stops after its last step: loading and measuring are left out, but count in an arm's peak
memory. With one thread, the default, it counts CPU seconds, of which a busy machine takes no part; with more, seconds.
One tokenizer counts everybody's tokens.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
clock = time.process_time if THREADS == 1 else time.perf_counter
BATCH, LR, CLIP = 8, 1e-4, 1.0
SIZES = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}
GOALS = (  # (faster, slower, at least so many times as fast)
    ("truetune", "trl", 2.5),
    ("truetune", "hf", 3.0),
    ("truetune_bf16", "trl_best", 1.7),
    ("truetune_bf16", "hf_best", 1.3),
    ("truetune_packed", "trl_packed", 1.2),
    ("truetune_bf16", "bare_bf16", 0.97),
    ("truetune_fp32", "trl_fp32", 2.2),
    ("truetune_fp32", "bare", 0.97),
)


def texts(path, count=None):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    return [(f"Question: {row['question']}\nAnswer:", f" {row['answer']}") for row in lines]


def prepare(folder, file, rows, model):
    """Writes the rows, and the model if none is given, with a tokenizer trained on the whole file."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    from truetune.models.tokenizers import byte_bpe

    every = texts(file)
    lines = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in every]
    (folder / "rows.jsonl").write_text("\n".join(lines[:rows]) + "\n")
    (folder / "probe.jsonl").write_text(lines[-1] + "\n")
    if model is not None:
        (folder / "model").symlink_to(model.resolve())
        return
    tokenizer = byte_bpe([prompt + completion for prompt, completion in every], 8000)
    set_seed(0)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 1024, "tie_word_embeddings": True}
    LlamaForCausalLM(LlamaConfig(**sizes, **ids, pad_token_id=tokenizer.pad_token_id)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def load(folder):
    from truetune.data.dataset import Example
    from truetune.data.tokens import Encoder
    from truetune.models.pretrained import Pretrained

    lm = Pretrained(str(folder / "model")).load()
    encoder = Encoder(lm.tokenizer)
    lines = map(json.loads, (folder / "rows.jsonl").read_text().splitlines())
    return lm, [encoder.row(Example(f"{n}", r["prompt"], r["completion"], "")) for n, r in enumerate(lines)]


def truetune(folder, *words):
    """The command as a user types it; the rate is the one that it records itself, by this clock."""
    from truetune import cli
    from truetune.training import step_log

    step_log.time = SimpleNamespace(perf_counter=clock)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        common = (
            *(
                "battery=none",
                "model=pretrained",
                f"model.name_or_path={folder / 'model'}",
                "data=jsonl",
                "data.form=plain",
            ),
            *(f"data.train_file={folder / 'rows.jsonl'}", f"data.probe_file={folder / 'probe.jsonl'}"),
            *("data.validation_rows=0", f"loader.batch_size={BATCH}", f"optimizer.lr={LR}", "trainer.max_epochs=1"),
            *(
                "trainer.accelerator=cpu",
                "trainer.log_every_n_steps=1000",
                f"run.threads={THREADS}",
                "measure.max_new_tokens=1",
            ),
            *("run.save_model=false", f"paths.log_dir={out}", f"hydra.run.dir={out}/run"),
        )
        sys.argv = ["truetune", *common, *words]
        try:
            cli.train()
        except SystemExit as end:
            if end.code:
                raise
        record = json.loads((Path(out) / "run" / "run.json").read_text())
    lines = [e["metrics"] for e in record["history"] if "train/target_tokens_per_second" in e["metrics"]]
    assert len(lines) == 1, "one line for the whole epoch"
    return lines[0]["train/target_tokens_per_second"]


def bare(folder, is_bf16=False):
    """truetune's maths without truetune's loop."""
    import torch
    import torch.nn.functional as F

    from truetune.data.module import Loader, TokenizedData
    from truetune.models.logits import body, head, states

    lm, rows = load(folder)
    data = TokenizedData(rows, [], pad=lm.tokenizer.pad_token_id, seed=0, loader=Loader(BATCH))
    start = clock()
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=LR, weight_decay=0.0)
    for batch in data.train_dataloader():
        labels_BT = batch["labels"][:, 1:]
        chosen_BT = labels_BT != -100
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            hidden_ND = states(body(lm.model), batch["input_ids"])[:, :-1][chosen_BT]
            logits_NV = head(lm.model)(hidden_ND)
        F.cross_entropy(logits_NV.float(), labels_BT[chosen_BT]).backward()
        torch.nn.utils.clip_grad_norm_(lm.model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return sum(row.target_tokens for row in rows) / (clock() - start)


def clocked(trainer, rows):
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            self.end = clock()

    watch = Clock()
    trainer.add_callback(watch)
    start = clock()
    trainer.train()
    assert trainer.state.epoch == 1
    return sum(row.target_tokens for row in rows) / (watch.end - start)


def arguments(folder, **options):
    common = {"per_device_train_batch_size": BATCH, "num_train_epochs": 1, "learning_rate": LR, "max_grad_norm": CLIP}
    quiet = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "seed": 0}
    return {"output_dir": str(folder / "out"), **common, **quiet, **options}


def hf(folder, **options):
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    lm, rows = load(folder)
    data = [{"input_ids": r.input_ids, "attention_mask": [1] * len(r.input_ids), "labels": r.labels} for r in rows]
    settings = TrainingArguments(**arguments(folder, **options))
    collate = DataCollatorForSeq2Seq(lm.tokenizer)
    return clocked(Trainer(lm.model, settings, data_collator=collate, train_dataset=data), rows)


def trl(folder, **options):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    lm, rows = load(folder)
    lines = list(map(json.loads, (folder / "rows.jsonl").read_text().splitlines()))
    data, settings = Dataset.from_list(lines), SFTConfig(**arguments(folder, **options))
    made = SFTTrainer(lm.model, settings, train_dataset=data, processing_class=lm.tokenizer)
    return clocked(made, rows)


GROUPED = {"train_sampling_strategy": "group_by_length", "bf16": True}
ARMS = {
    "trl": trl,  # computes in bf16 by default
    "trl_fp32": partial(trl, bf16=False),
    "trl_best": partial(trl, gradient_checkpointing=False, **GROUPED),
    "trl_packed": partial(trl, gradient_checkpointing=False, packing=True, max_length=512, bf16=True),
    "hf": hf,
    "hf_best": partial(hf, **GROUPED),
    "bare": bare,
    "bare_bf16": partial(bare, is_bf16=True),
    "truetune": truetune,
    "truetune_fp32": lambda folder: truetune(folder, "trainer.precision=32-true"),
    "truetune_bf16": lambda folder: truetune(folder, "trainer.precision=bf16-mixed"),
    "truetune_packed": lambda folder: truetune(folder, "trainer.precision=bf16-mixed", "loader.packing=true"),
}


def has_bf16():
    import torch

    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def possible(wanted):
    for name in wanted:
        package = (
            name.split("_")[0] if name.startswith("trl") else "accelerate" if name.startswith("hf") else "truetune"
        )
        if importlib.util.find_spec(package) is None:
            print(f"{name}: skipped: the package {package} is not installed")
        elif name.endswith(("bf16", "best", "packed")) and not has_bf16():
            print(f"{name}: skipped: this processor has no bf16")
        else:
            yield name


def compare(file, rows, repeats, wanted, model):
    arms = list(possible(wanted))
    rates, peaks = ({name: [] for name in arms} for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), file, rows, model)
        for _ in range(repeats):
            for name in arms:
                command = [sys.executable, __file__, str(file), "--one", name, "--folder", folder]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
                rate, peak = map(float, done.stdout.splitlines()[-1].split())
                rates[name].append(rate)
                peaks[name].append(peak)
                print(f"{name:16} {rate:8.1f} target tokens/s, at most {peak:.0f} MiB", flush=True)
    print(f"\n| arm | target tokens/s, median of {repeats} [lowest highest] | peak memory, MiB |\n|---|---|---|")
    for name, found in rates.items():
        peak = statistics.median(peaks[name])
        print(f"| {name} | {statistics.median(found):.0f} [{min(found):.0f} {max(found):.0f}] | {peak:.0f} |")
    print("\n| ratio | median [lowest highest] | goal |\n|---|---|---|")
    for one, other, goal in GOALS:
        if one in rates and other in rates:
            found = [a / b for a, b in zip(rates[one], rates[other], strict=True)]
            middle = statistics.median(found)
            verdict = "" if middle >= goal else ", missed"
            print(f"| {one} / {other} | {middle:.2f} [{min(found):.2f} {max(found):.2f}] | {goal}{verdict} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="GSM8K's train.jsonl")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path, help="folder of a model, instead of 29 M random weights")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    if not given.file.is_file():
        print(f"skipped: no such file: {given.file} (GSM8K's rows, with question and answer)")
    elif given.one:
        import torch

        torch.set_num_threads(THREADS)
        rate = ARMS[given.one](given.folder)
        print(rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
        compare(given.file, given.rows, given.repeats, given.arms.split(","), given.model)
