"""A disk that is full or refuses ends a run with one line; what was whole before still is, and nothing is left half."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from command_line import TINY_RUN, typed
from faults.tiny import job, ran
from rich.console import Console

from truetune.commands.train import train
from truetune.commands.tuned_model import save_model
from truetune.errors import Unwritable, UserError
from truetune.records.disk import refusal, writing
from truetune.records.files import cached, sidecar, verify, write_atomic
from truetune.records.record import read_run
from truetune.training.checkpoints import AtomicCheckpointIO

LONG = bool(os.environ.get("TRUETUNE_LONG"))  # every call of a run instead of some
CALLS = [(os, "fsync"), (os, "replace"), (os, "chmod"), (tempfile, "mkstemp"), (tempfile, "mkdtemp")]
WORDS = ("trainer.max_epochs=2",)


class Refusing:
    """The system calls that writing needs; from the `first` on they fail."""

    def __init__(self, monkeypatch, first, number=errno.ENOSPC, only=None, calls=CALLS):
        self.first, self.number, self.seen, self.only = first, number, 0, only
        for module, name in calls:
            monkeypatch.setattr(module, name, self._refusing(getattr(module, name)))

    def _refusing(self, call):
        def refused(*arguments, **options):
            self.seen += 1
            if self.seen > self.first:
                raise OSError(self.number, os.strerror(self.number))
            return call(*arguments, **options)

        return refused


def outcome(work, *arguments):
    """What it complains of."""
    try:
        work(*arguments)
    except Unwritable as error:
        return str(error)
    return None


def filled(folder, first):
    """What a run says whose disk is full after so many calls."""
    with pytest.MonkeyPatch.context() as patch:
        Refusing(patch, first, calls=CALLS[:2])
        return outcome(train, job(folder, *WORDS), Console(file=io.StringIO()))


def hidden(folder):
    return [path for path in folder.rglob(".*") if ".hydra" not in path.parts and not path.name.endswith(".lock")]


def checkpoint(folder, epoch):
    AtomicCheckpointIO().save_checkpoint({"w": torch.full((50,), float(epoch)), "epoch": epoch}, folder / "last.ckpt")


def loaded(folder):
    return AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt")["epoch"]


def cache(folder, epoch):
    shutil.rmtree(folder / "base", ignore_errors=True)  # as a damaged one
    cached(folder / "base", lambda temporary: (temporary / "weights").write_text(str(epoch)), lambda _: None)


def of_cache(folder):
    if not (folder / "base").exists():
        return 1  # to be made again
    assert verify(folder / "base") is None
    return int((folder / "base" / "weights").read_text())


def record(folder, epoch):
    write_atomic(folder / "items" / "run.json", json.dumps({"epoch": epoch}))


def of_record(folder):
    return json.loads((folder / "items" / "run.json").read_text())["epoch"]


class Kept:
    """A model whose weights are a number."""

    def __init__(self, epoch):
        self.model = self.tokenizer = self
        self.epoch = epoch

    def save_pretrained(self, folder):
        (folder / "weights").write_text(str(self.epoch))


def model(folder, epoch):
    save_model(Kept(epoch), folder)


def of_model(folder):
    return int((folder / "model" / "weights").read_text()) if (folder / "model").exists() else 1  # to be written again


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("write", "read", "name"),
    [
        (checkpoint, loaded, "last.ckpt"),
        (record, of_record, "run.json"),
        (cache, of_cache, "base"),
        (model, of_model, "model"),
    ],
)
def test_whatever_call_fails_the_old_file_or_the_new_one_is_there(tmp_path, write, read, name, number):
    outcomes = []
    for first in range(100):
        folder = tmp_path / str(first)
        folder.mkdir()
        write(folder, 1)
        with pytest.MonkeyPatch.context() as patch:
            calls = Refusing(patch, first, number)
            said = outcome(write, folder, 2)
        outcomes.append(read(folder))
        assert hidden(folder) == []
        if said is None:
            break
        assert re.match(rf"{folder}/.*{name}.*: cannot be written: {os.strerror(number)}", said), said
    assert calls.seen == first
    assert first >= 3
    assert outcomes == sorted(outcomes)
    assert {outcomes[0], outcomes[-1]} == {1, 2}


def test_what_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    checkpoint(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1_000_000))
    with pytest.raises(Unwritable) as caught:
        AtomicCheckpointIO().save_checkpoint({"state": [{"w": torch.zeros(10_000)}]}, tmp_path / "last.ckpt")
    assert str(caught.value) == (
        f"{tmp_path}/last.ckpt: cannot be written: No space left on device (needs 1,088,576 bytes, 1,000,000 are free)"
    )
    assert loaded(tmp_path) == 1
    assert hidden(tmp_path) == []


def test_a_file_may_grow_to_any_size_and_no_further(tmp_path):
    """The limit on file sizes cuts a checkpoint off at every length, as a full disk would."""
    resource = pytest.importorskip("resource")
    checkpoint(tmp_path, 1)
    whole, limits = (tmp_path / "last.ckpt").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    found = []
    for size in range(0, whole + 200, 60):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            said = outcome(checkpoint, tmp_path, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        found.append(loaded(tmp_path))
        assert said is None or said.endswith(": cannot be written: File too large")
        assert hidden(tmp_path) == []
    assert found == sorted(found)
    assert {found[0], found[-1]} == {1, 2}


def test_errors_of_libraries_are_understood(tmp_path):
    def words(error):
        try:
            with writing(tmp_path / "x"):
                raise error
        except Exception as raised:
            return f"{type(raised).__name__}: {raised}"

    rust = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert words(Exception(rust)).startswith(f"Unwritable: {tmp_path}/x: cannot be written: No space left on device")
    assert words(UserError("this")) == "UserError: this"
    assert words(ValueError("that")) == "ValueError: that"
    closing = OSError(errno.ENOSPC, "while closing")
    closing.__context__ = OSError(errno.EIO, "no", str(tmp_path / "events"))
    assert str(refusal(closing, tmp_path)) == f"{tmp_path}/events: cannot be written: Input/output error"
    assert refusal(ValueError("no"), tmp_path) is None
    assert refusal(FileNotFoundError(errno.ENOENT, "no"), tmp_path) is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run, the number of calls it made, and the cache that the others share."""
    folder = tmp_path_factory.mktemp("disk")
    ran(folder / "first", *WORDS)
    with pytest.MonkeyPatch.context() as patch:
        calls = Refusing(patch, 10**9, calls=CALLS[:2])
        ran(folder / "whole", *WORDS)
    return folder, calls.seen


def some(count):
    return range(count) if LONG else sorted({*range(0, count, max(1, count // 6)), count - 1})


@pytest.mark.slow
def test_a_run_whose_disk_fills_up_ends_in_one_line_and_can_be_resumed(whole):
    folder, count = whole
    assert count > 40
    reference = (folder / "whole" / "model" / "model.safetensors").read_bytes()
    resumed = 0
    for first in some(count):
        run_dir = folder / f"full{first}"
        said = filled(run_dir, first)
        assert re.match(rf"{run_dir}/\S+: cannot be written: No space left on device \(", said)
        assert hidden(run_dir) == []
        last = run_dir / "checkpoints" / "last.ckpt"
        if not last.exists() or (run_dir / "run.json").exists():
            continue
        assert said.endswith(f"make room, then: truetune resume={run_dir}") or "report.html" in said
        assert AtomicCheckpointIO().load_checkpoint(last)["epoch"] in (0, 1)
        assert ran(run_dir, *WORDS, resume=run_dir)[0]["status"] == "finished"
        assert (run_dir / "model" / "model.safetensors").read_bytes() == reference
        resumed += 1
    assert resumed >= 3


@pytest.mark.parametrize("kind", ["tensorboard", "csv"])
def test_curves_that_cannot_be_written_end_the_run(whole, kind, monkeypatch, capfd):
    from lightning.fabric.loggers.csv_logs import _ExperimentWriter
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder, _ = whole
    calls = [(_ExperimentWriter, "save")] if kind == "csv" else [(RecordWriter, "write"), (RecordWriter, "flush")]
    Refusing(monkeypatch, 3, errno.EDQUOT, calls=calls)
    run_dir = folder / kind
    with pytest.raises(Unwritable, match=f"{run_dir}.*: cannot be written: Disk quota exceeded"):
        train(job(run_dir, *WORDS), Console(file=io.StringIO()))
    assert read_run(run_dir)["status"] == "failed"
    assert hidden(run_dir) == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_command_that_may_write_little_says_so_in_one_line(tmp_path):
    pytest.importorskip("resource")
    script = (
        "import resource, sys; hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard)); "
        "from truetune.cli import train; sys.argv[0] = 'truetune'; train()"
    )
    words = [*TINY_RUN, "model.hidden_size=64", "hydra.run.dir=run"]
    done = typed("-c", script, *words, cwd=tmp_path, command=Path(sys.executable).name)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert re.search(r"run/checkpoints/best\.ckpt: cannot be written: File too large$", said[0])
    assert hidden(tmp_path) == []


def test_a_small_disk_fills_up_and_the_run_goes_on_once_it_is_larger(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(Unwritable, match=f"{disk}/.*: cannot be written: No space left on device"):
            ran(disk / "run", *WORDS)
        assert hidden(disk) == []
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        again = (disk / "run" / "checkpoints" / "last.ckpt").exists()
        assert ran(disk / "run", *WORDS, resume=(disk / "run") if again else None)[0]["status"] == "finished"
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(Unwritable, match="Read-only file system"):
            write_atomic(disk / "run" / "run.json", "{}")
        assert read_run(disk / "run")["status"] == "finished"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_300_flips_and_100_cuts_are_all_refused(tmp_path):
    checkpoint(tmp_path, 1)
    path = tmp_path / "last.ckpt"
    whole = path.read_bytes()
    for n in range(300):
        place = n * len(whole) // 300
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << n % 8]) + whole[place + 1 :])
        with pytest.raises(UserError, match="the checkpoint is damaged"):
            loaded(tmp_path)
    for n in range(100):
        path.write_bytes(whole[: n * len(whole) // 100])
        with pytest.raises(UserError, match="the checkpoint is damaged"):
            loaded(tmp_path)
    path.write_bytes(whole)
    assert loaded(tmp_path) == 1


def test_a_cut_file_without_its_digest_is_refused_too_and_a_whole_one_is_named(tmp_path):
    for name in ("best", "last"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / f"{name}.ckpt")
    path = tmp_path / "last.ckpt"
    sidecar(path).unlink()
    whole = path.read_bytes()
    for length in range(0, len(whole), 50):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            loaded(tmp_path)
        assert str(caught.value).endswith(f"best.ckpt beside it is whole: truetune resume={tmp_path}/best.ckpt")
    (tmp_path / "best.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"start a new run$"):
        loaded(tmp_path)


def test_resuming_from_the_checkpoint_that_was_named_ends_at_the_same_weights(whole):
    folder, _ = whole
    run_dir = folder / "damaged"
    assert filled(run_dir, 13)
    (run_dir / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"best\.ckpt beside it is whole"):
        ran(run_dir, *WORDS, resume=run_dir)
    best = run_dir / "checkpoints" / "best.ckpt"
    assert ran(run_dir, *WORDS, resume=best)[0]["status"] == "finished"
    one, other = ((path / "model" / "model.safetensors").read_bytes() for path in (run_dir, folder / "whole"))
    assert one == other


def test_the_best_few_checkpoints_are_kept_with_their_digests(tmp_path):
    words = (
        "trainer.max_epochs=4",
        "callbacks.model_checkpoint.filename='{epoch}'",
        "+callbacks.model_checkpoint.save_top_k=2",
        "callbacks.model_checkpoint.monitor=val/score",
    )
    ran(tmp_path / "run", *words)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert len(names) == 6
    assert [f"{name}.sha256" for name in names[::2]] == names[1::2]
    for name in names[::2]:
        AtomicCheckpointIO().load_checkpoint(tmp_path / "run" / "checkpoints" / name)
