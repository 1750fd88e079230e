"""Peak memory of each of two CPU processes over a whole run (base measured, two steps, measured, saved):
`trainer=ddp_sim` against `trainer=fsdp` without and with `model.init=meta`, on a random Llama.

python tests/benchmarks/memory_sharded.py [layers of 17 M parameters each]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = {
    "trainer=ddp_sim": ["trainer=ddp_sim"],
    "trainer=fsdp": ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"],
    "trainer=fsdp model.init=meta": ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "model.init=meta"],
}
WORDS = (
    *("model=pretrained", "model.name_or_path=base", "data=jsonl", "data.train_file=rows.jsonl", "battery=none"),
    *("data.validation_rows=0", "data.probe_questions=4", "loader.batch_size=2", "+trainer.max_steps=2", "logger=none"),
    *("callbacks=none", "trainer.precision=32-true", "measure.dtype=float32", "measure.max_new_tokens=4"),
    *("measure.points=1", "probe=[task]"),
)
NOTED = """
import atexit, os, resource, sys
from pathlib import Path
from truetune import cli
def note():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(f"peak.{os.environ.get('LOCAL_RANK', '0')}").write_text(f"{peak:.0f}")
atexit.register(note)
sys.argv[0] = __file__
cli.train()
"""


def llama(folder, layers):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from truetune.models.tokenizers import word_level

    tokenizer = word_level([f"w{n}" for n in range(12)])
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": layers, "num_attention_heads": 16}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=16_000, tie_word_embeddings=True, **sizes))
    model.save_pretrained(folder, max_shard_size="200MB")
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main(layers):
    this = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        words = [sys.executable, this, "make", str(layers)]
        made = subprocess.run(words, capture_output=True, text=True, check=True)
        rows = [{"prompt": f"w{n % 12}", "completion": f"w{n % 7} w{n % 5}"} for n in range(24)]
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        Path("noted.py").write_text(NOTED)
        print(f"{int(made.stdout.split()[-1]) / 1e6:.0f} M parameters, float32; peak of each process, MiB")
        for name, words in WAYS.items():
            done = subprocess.run(
                [sys.executable, "noted.py", *WORDS, *words, "hydra.run.dir=run"], capture_output=True, text=True
            )
            if done.returncode:
                print(done.stderr)
            peaks = [int(path.read_text()) for path in sorted(Path.cwd().glob("peak.*"))]
            print(f"{name:30} {peaks}", flush=True)
            subprocess.run(["rm", "-rf", "run", *map(str, Path.cwd().glob("peak.*"))], check=True)


if __name__ == "__main__" and sys.argv[1:2] == ["make"]:
    print(llama("base", int(sys.argv[2])))
elif __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
