"""Peak memory with a vocabulary of 128k of one training step (all logits, in chunks, with checkpointed activations)
and of measuring; and of reading, encoding and drawing a hundred thousand rows against a million (four minutes).

python tests/benchmarks/memory.py [rows]
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

WAYS = {
    "all logits at once": (None, False),
    "objective.next_token.chunk=256": (256, False),
    "model.gradient_checkpointing=true": (None, True),
    "both": (256, True),
}


MEASURES = {"16 texts of 256 tokens measured": "texts", "32 answers of 32 tokens": "answers"}


def llama():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=128_000, tie_word_embeddings=True, **sizes))


def measured(what):
    from truetune.data.dataset import Example
    from truetune.models.language_model import LanguageModel
    from truetune.models.tokenizers import word_level
    from truetune.probes.decoding import greedy_answers
    from truetune.probes.likelihood import likelihood

    words = [f"w{n}" for n in range(1000)]
    lm = LanguageModel(llama(), word_level(words), "", "")
    texts = [Example(f"{n}", "", " ".join(random.Random(n).choices(words, k=255)), "") for n in range(16)]
    with counting():
        if what == "texts":
            print(f"{likelihood(lm, texts, batch_size=16).nll_nats:.0f} nats", end="   ")
        else:
            greedy_answers(lm, words[:32], max_new_tokens=32, batch_size=32)


@contextmanager
def counting():
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{(peak - before) / 1024:6.0f} MiB {time.perf_counter() - start:6.1f} s")


def step(chunk, checkpointing):
    import torch

    from truetune.data.batch import collate
    from truetune.data.tokens import TokenRow
    from truetune.models.logits import body, forward, head, states
    from truetune.training.objectives import Micro, NextToken

    model = llama().train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = [TokenRow(f"{n}", torch.randint(3, 128_000, (256,)).tolist(), 1) for n in range(4)]
    batch = collate(rows, 0)
    parts = [batch[name] for name in ("labels", "input_ids", "attention_mask", "weights")]
    with counting():
        made = forward(model, batch["input_ids"]) if chunk is None else states(body(model), batch["input_ids"])
        loss = NextToken(chunk=chunk)(Micro(model, made, *parts, None, None if chunk is None else head(model)))
        loss.backward()
        print(f"loss {float(loss.detach()):.2f}", end="   ")


def write(path, count):
    """Prompts and completions of about 60 characters."""
    rng, words = random.Random(0), [f"w{n}" for n in range(500)]
    with path.open("w") as file:
        for n in range(count):
            prompt, answer = (f"{' '.join(rng.choices(words, k=k))} {n % 1000} {n // 1000}" for k in (8, 6))
            file.write(json.dumps({"prompt": f"{prompt}:", "completion": f" {answer}"}) + "\n")


class Held(threading.Thread):
    """The most memory of its own that the process held; the system takes back pages of mapped files when it must."""

    def __init__(self):
        super().__init__(daemon=True)
        self.start_bytes = self.most = self.now()
        self.start()

    def now(self):
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    def run(self):
        while True:
            self.most = max(self.most, self.now())
            time.sleep(0.02)

    def grown(self):
        return self.most - self.start_bytes


def run(path):
    """One line of JSON: what each stage took at most, in bytes."""
    from truetune.data.files import Files

    peaks, held = {}, Held()
    data = Files(0, path, None, None, 200, 64, "Question: {question}\nAnswer:", "error").load()
    peaks["prepare"] = held.grown()

    from truetune.data.encode import encode
    from truetune.data.module import Loader, TokenizedData
    from truetune.data.tokens import Encoder
    from truetune.models.tokenizers import word_level

    encoder = Encoder(word_level([f"w{n}" for n in range(500)]))
    rows = encode(encoder, data.train, 256, "error").rows
    tokenized = TokenizedData(rows, [], pad=0, seed=0, loader=Loader(32))
    assert "w1" not in data.taught
    assert sum(len(batch["ids"]) for batch in tokenized.train_dataloader()) == len(data.train)
    peaks["all, with torch"] = held.grown()
    peaks["mapped and all"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(peaks))


def compare(few=100_000, many=1_000_000):
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for count in (few, many):
            write(Path(folder) / "rows.jsonl", count)
            command = [sys.executable, __file__, "rows", f"{folder}/rows.jsonl"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[count] = json.loads(done.stdout.splitlines()[-1])
            said = [f"{name} +{size / 2**20:.0f} MiB" for name, size in peaks[count].items()]
            print(f"{count:9,} rows: {', '.join(said)}", flush=True)
        for name in peaks[few]:
            print(f"{name}: {(peaks[many][name] - peaks[few][name]) / (many - few):.0f} bytes a row more")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rows"]:
        run(sys.argv[2]) if len(sys.argv) > 2 else compare()
    elif len(sys.argv) > 1:
        step(*WAYS[sys.argv[1]]) if sys.argv[1] in WAYS else measured(MEASURES[sys.argv[1]])
    else:
        for way in (*WAYS, *MEASURES):
            print(f"{way:36}", end="", flush=True)
            subprocess.run([sys.executable, __file__, way], check=True)
