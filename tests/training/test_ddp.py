"""Two processes take the same steps as one."""

import torch
from commands import TINY_RUN, typed
from safetensors.torch import load_file


def weights(folder, name, *words):
    result = typed(*TINY_RUN, "trainer.max_epochs=2", f"hydra.run.dir={name}", *words, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("fine-tuning on") == 1
    return load_file(folder / name / "model" / "model.safetensors")


def test_two_processes_and_one_end_at_the_same_weights(tmp_path):
    # The windows are the same: 10 rows in one process, 5 + 5 in two.
    one = weights(tmp_path, "one", "data.batch_size=10", "optimizer.lr=1e-2")
    two = weights(tmp_path, "two", "trainer=ddp_sim", "data.batch_size=5", "optimizer.lr=1e-2", "trainer.max_epochs=2")
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("two")] == ["two"]
