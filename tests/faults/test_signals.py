"""An interrupted run says so: in its exit code, and in its record."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY_RUN


@pytest.mark.parametrize(
    ("sent", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_run_with_its_code_and_a_record(tmp_path, sent, code):
    process = subprocess.Popen(
        [Path(sys.executable).with_name("truetune"), *TINY_RUN, "trainer.max_epochs=100000", "hydra.run.dir=run"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background ignores SIGINT, and its children would.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in process.stderr:
        if line.startswith("fine-tuning"):
            break
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
    process.send_signal(sent)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == code
    assert "Traceback" not in said
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["base"]
    assert record["history"]
