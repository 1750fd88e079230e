"""Peak memory of one training step with a vocabulary of 128k: all logits, in chunks, with checkpointed activations.

python tests/benchmarks/memory.py
"""

import resource
import subprocess
import sys
import time

WAYS = {
    "all logits at once": (None, False),
    "objective.next_token.chunk=256": (256, False),
    "model.gradient_checkpointing=true": (None, True),
    "both": (256, True),
}


def step(chunk, checkpointing):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from truetune.data.tokens import Row, collate
    from truetune.models.language_model import body, forward, head, states
    from truetune.training.objectives import Micro, NextToken

    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128_000, tie_word_embeddings=True, **sizes)).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = [Row(f"{n}", torch.randint(3, 128_000, (256,)).tolist(), 1) for n in range(4)]
    batch = collate(rows, 0)
    parts = [batch[name] for name in ("labels", "input_ids", "attention_mask", "weights")]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    made = forward(model, batch["input_ids"]) if chunk is None else states(body(model), batch["input_ids"])
    loss = NextToken(chunk=chunk)(Micro(model, made, *parts, None, None if chunk is None else head(model)))
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{(peak - before) / 1024:6.0f} MiB {time.perf_counter() - start:6.1f} s   loss {float(loss.detach()):.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        step(*WAYS[sys.argv[1]])
    else:
        for way in WAYS:
            print(f"{way:36}", end="", flush=True)
            subprocess.run([sys.executable, __file__, way], check=True)
