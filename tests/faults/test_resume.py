"""An interrupted run goes on where it stopped, and ends in the very weights of one that was never interrupted."""

import csv
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CONF, TINY_RUN, typed
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from training.ranks import two_ranks
from training.small import TEXTS, TINY, WORDS, language_model, loader, rows

from truetune.commands import launch, resume
from truetune.config import compose
from truetune.data.encode import digest
from truetune.data.module import TokenizedData
from truetune.errors import UserError
from truetune.models.sharding import whole
from truetune.models.tokenizers import word_level
from truetune.records.run_folder import LAST
from truetune.records.state import State
from truetune.training.checkpoints import AtomicCheckpointIO
from truetune.training.fit import fit, make_trainer, take_weights
from truetune.training.measuring import Measuring
from truetune.training.module import FineTuning
from truetune.training.objectives import NextToken
from truetune.training.resumable import Resumable
from truetune.training.schedules import Cosine, Steps, steps_per_epoch
from truetune.training.step_log import StepLog

LONG_EPOCHS = (*TINY_RUN, "trainer.max_epochs=4", "loader.batch_size=1", "trainer.log_every_n_steps=5")


def started(folder, *words):
    return subprocess.Popen(
        [Path(sys.executable).with_name("truetune"), *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(folder, run, sent):
    """What a run said that was sent a signal early in its second epoch."""
    process = started(folder, *LONG_EPOCHS, f"hydra.run.dir='{run}'")
    while not (folder / run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(sent)
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where `whole` has run without an interruption; its base is in the cache."""
    folder = tmp_path_factory.mktemp("resume")
    done = typed(*LONG_EPOCHS, "hydra.run.dir=whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def record(run):
    return json.loads((run / "run.json").read_text())


def without_speed(metrics):
    return {name: value for name, value in metrics.items() if "per_second" not in name}


def curves(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    with (run / "csv" / "metrics.csv").open() as file:
        return without_speed(scalars), [without_speed(row) for row in csv.DictReader(file)]


def assert_the_same(run, whole):
    assert (run / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    one, other = record(run), record(whole)
    for key in ("status", "base", "final", "delta"):
        assert one[key] == other[key], key
    histories = [
        [{**entry, "metrics": without_speed(entry["metrics"])} for entry in r["history"]] for r in (one, other)
    ]
    assert histories[0] == histories[1]
    logged = [entry["step"] for entry in one["history"] if "train/loss" in entry["metrics"]]
    assert logged == [*range(5, 4 * 48 + 1, 5), 4 * 48]  # and the last
    assert curves(run) == curves(whole)


def test_a_killed_run_loses_nothing_but_time(folder):
    assert interrupted(folder, "killed", signal.SIGKILL)[0] == -signal.SIGKILL
    torn = folder / "killed" / "checkpoints" / ".last.ckpt.1.tmp"
    torn.write_bytes(b"half")
    done = typed("resume=killed", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert_the_same(folder / "killed", folder / "whole")
    assert not torn.exists()


@pytest.mark.slow
def test_a_run_asked_to_stop_says_how_to_go_on_from_anywhere(folder, tmp_path):
    code, said = interrupted(folder, "a run, stopped", signal.SIGTERM)
    run = folder / "a run, stopped"
    assert code == 143
    assert f"resume with: truetune 'resume={run}'\n" in said
    assert record(run)["status"] == "interrupted"
    done = typed(f"resume={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_the_same(run, folder / "whole")


def refused(*words):
    arguments = compose.parse(list(words))
    with pytest.raises(UserError) as caught:
        launch.checked(resume.expanded(list(words), arguments))
    return str(caught.value)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run folder as a kill leaves it."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"")
    (run / ".hydra" / "overrides.yaml").write_text("- optimizer.lr=0.001\n- resume=elsewhere\n")
    (run / ".hydra" / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: '{tmp_path}'}}}}")
    from omegaconf import OmegaConf

    words = ["optimizer.lr=0.001"]
    OmegaConf.save(compose.compose(CONF, words, compose.parse(words)), run / ".hydra" / "config.yaml")
    return run


def test_the_recorded_command_is_typed_again(stopped):
    words = resume.expanded(["--config-dir", ".", "resume=run"], compose.parse(["--config-dir", ".", "resume=run"]))
    assert words[:3] == ["--config-dir", ".", "optimizer.lr=0.001"]
    assert words[3:] == [f"hydra.run.dir='{stopped}'", f"resume='{stopped}'"]
    assert launch.checked(words) is not None
    new = ["resume=null", "seed=1"]
    assert resume.expanded(new, compose.parse(new)) == new


def test_what_is_no_run_to_resume_is_refused(stopped):
    assert "not the folder of a run" in refused("resume=.")
    assert "start a new run to change loader.batch_size" in refused(
        "resume=run", "optimizer.lr=1", "loader.batch_size=1"
    )
    assert "start a new run to change optimizer" in refused("resume=run", "optimizer=sgd")
    assert "type it on the command line" in refused(f"++resume={stopped}")
    assert "leave -m out" in refused("-m", "seed=1,2", f"++resume={stopped}")
    (stopped / "run.json").write_text('{"status": "finished"}')
    assert refused("resume=run") == (
        f"{stopped}: this run has finished; there is nothing to resume (trainer.max_epochs=... adds epochs)"
    )
    (stopped / "run.json").write_text('{"status": "interrupted"}')
    (stopped / "checkpoints" / "last.ckpt").unlink()
    assert f"{stopped}: there is no checkpoint (checkpoints/last.ckpt) to go on from" in refused("resume=run")


def test_a_run_that_still_works_is_not_resumed(stopped):
    from filelock import FileLock

    with FileLock(stopped / ".lock"):
        assert "already in use; wait for that run to end" in refused("resume=run")


def test_an_edited_default_is_refused(stopped):
    record = stopped / ".hydra" / "config.yaml"
    record.write_text(record.read_text().replace("seed: 0 ", "seed: 7 ").replace("\nseed: 0\n", "\nseed: 7\n"))
    assert refused("resume=run") == "seed was 7 when the run started and is 0 now; put it back"


def test_what_is_typed_anew_takes_the_place_of_what_was_typed(stopped):
    record = stopped / ".hydra" / "overrides.yaml"
    record.write_text("- optimizer.lr=0.001\n- schedule=cosine\n- schedule.lr_end=0\n- trainer.gradient_clip_val=2\n")
    words = ["resume=run", "schedule=step_decay", "clip=none", "trainer.max_epochs=40"]
    words = resume.expanded(words, compose.parse(words))
    assert words == ["optimizer.lr=0.001", f"hydra.run.dir='{stopped}'", f"resume='{stopped}'", *words[3:]]
    assert words[3:] == ["schedule=step_decay", "clip=none", "trainer.max_epochs=40"]
    arguments = compose.parse(words)
    assert launch.checked(words) is not None
    cfg = compose.compose(CONF, arguments.overrides, arguments)
    assert (cfg.trainer.gradient_clip_val, cfg.trainer.max_epochs, cfg.schedule.every) == (None, 40, 5)


def test_a_changed_default_is_refused_beside_a_typed_change(stopped):
    record = stopped / ".hydra" / "config.yaml"
    record.write_text(record.read_text().replace("max_epochs: 20", "max_epochs: 7"))
    assert "trainer.max_epochs was 7 when the run started" in refused("resume=run", "optimizer.lr=1")


class Draw(Callback):
    """The rows of every batch, with a number from each generator; and a signal after the batch number `last`."""

    def __init__(self, last=None, sent=signal.SIGTERM):
        self.last, self.sent, self.seen = last, sent, []

    def on_train_start(self, trainer, pl_module):
        if trainer.global_step == 0:
            torch.rand(trainer.global_rank)  # so that no rank has another's random state

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append((tuple(batch["ids"]), random.random(), np.random.random(), torch.rand(1).item()))
        if len(self.seen) == self.last:
            os.kill(os.getpid(), self.sent)


def fitted(
    folder,
    last=None,
    checkpoint=None,
    accumulate=1,
    workers=0,
    texts=TEXTS,
    callbacks=(),
    sent=signal.SIGTERM,
    lm=None,
    trainer=(),
    **batching,
):
    """Three epochs of seven batches, the last of them short, through a model with dropout."""
    lm, epochs = lm or language_model(), 3
    for module in lm.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    data = rows(lm, (texts * 2)[:13])
    tokenized = TokenizedData(data, data[:3], pad=0, seed=5, loader=loader(2, num_workers=workers, **batching))
    steps = steps_per_epoch(tokenized.lines, 2, accumulate, dict(trainer).get("devices", 1))
    optimizer = lambda parameters: torch.optim.AdamW(parameters, lr=0.01)  # noqa: E731
    module = FineTuning(lm.model, [NextToken()], optimizer, Cosine(0.0, 2), Steps(steps, epochs))
    history, draw, said = [], Draw(last, sent), []
    watching = [Measuring(frozenset(), lambda full: {}, history), StepLog(history, every=3), draw, *callbacks]
    resumable = Resumable(State(folder, history=history), digest(data), said.append)
    kept = ModelCheckpoint(folder / "checkpoints", "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = {
        "max_epochs": epochs,
        "accelerator": "cpu",
        "accumulate_grad_batches": accumulate,
        "log_every_n_steps": 3,
        "gradient_clip_val": 1.0,
        **dict(trainer),
    }
    made = make_trainer(trainer, [*watching, kept, resumable], run_dir=folder)
    before = signal.getsignal(signal.SIGTERM)
    try:
        fit(made, module, tokenized, seed=5, checkpoint=checkpoint)
    except SystemExit as ended:
        made = ended.code
    assert signal.getsignal(signal.SIGTERM) == before
    steps = [(e["step"], e["epoch"], without_speed(e["metrics"])) for e in history]
    return made, draw.seen, [whole(p.detach()) for p in module.parameters()], steps


@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (3, 0), (3, 2)])
def test_a_signal_at_any_batch_changes_nothing(tmp_path, accumulate, workers):
    _, seen, weights, history = fitted(tmp_path / "whole", accumulate=accumulate, workers=workers)
    assert len(seen) == 21
    for last in (1, 2, 6, 7, 8, 9, 14, 16, 21) if not workers else (9, 14):
        run = tmp_path / str(last)
        code, first, _, _ = fitted(run, last, accumulate=accumulate, workers=workers)
        assert code == 143
        assert len(first) - last < accumulate
        checkpoint = run / "checkpoints" / "last.ckpt"
        trainer, rest, resumed, steps = fitted(run, checkpoint=checkpoint, accumulate=accumulate, workers=workers)
        assert first + rest == seen, last
        assert all(torch.equal(one, other) for one, other in zip(resumed, weights, strict=True)), last
        assert steps == history, last
        assert trainer.fit_loop.epoch_progress.current.processed == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("last", "accumulate", "strategy"), [(2, 1, "ddp"), (4, 1, "ddp"), (5, 2, "ddp"), (5, 2, "fsdp")]
)
def test_each_of_two_processes_goes_on_with_its_own_random_state(tmp_path, last, accumulate, strategy):
    """Four batches an epoch each; the signal reaches one of the two."""

    def work(folder, checkpoint=None, last=None):
        mine = last if os.environ["RANK"] == "1" else None
        options = {"accumulate": accumulate, "trainer": {"strategy": strategy, "devices": 2}}
        return fitted(folder, mine, checkpoint=checkpoint, **options)[1:]

    run, end = tmp_path / "run", LAST
    straight = two_ranks(tmp_path, lambda: work(tmp_path / "whole"))
    first = two_ranks(tmp_path, lambda: work(run, last=last))
    rest = two_ranks(tmp_path, lambda: work(run, checkpoint=run / end))
    assert [len(seen) for seen, _, _ in straight] == [12, 12]
    assert straight[0][0][0][1:] != straight[1][0][0][1:]
    for one, other, (seen, weights, history) in zip(first, rest, straight, strict=True):
        assert 0 <= len(one[0]) - last < 2
        assert one[0] + other[0] == seen
        assert all(torch.equal(a, b) for a, b in zip(other[1], weights, strict=True))
        assert other[2] == history
    alone = {"strategy": strategy, "devices": 1} if strategy == "fsdp" else {}
    (refusal,) = two_ranks(tmp_path, lambda: fitted(run, checkpoint=run / end, trainer=alone), ranks=1)
    assert refusal.startswith("UserError: ")
    assert refusal.endswith("this run was made by 2 processes, not 1; use as many again")


@pytest.mark.parametrize("warning", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_clusters_warning_stops_a_run_as_sigterm_does_and_lightning_requeues_nothing(tmp_path, monkeypatch, warning):
    for name, value in (("NTASKS", "1"), ("JOB_ID", "1"), ("JOB_NAME", "x"), ("PROCID", "0"), ("LOCALID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NODEID", "0")
    monkeypatch.setenv("SLURM_NNODES", "1")
    monkeypatch.setattr("lightning.pytorch.trainer.connectors.signal_connector.call", pytest.fail)
    whole = fitted(tmp_path / "whole")
    run = tmp_path / "run"
    code, first, _, _ = fitted(run, 9, sent=warning)
    assert code == 143
    assert [path.name for path in run.iterdir()] == ["checkpoints"]
    _, rest, weights, _ = fitted(run, checkpoint=run / "checkpoints" / "last.ckpt")
    assert first + rest == whole[1]
    assert all(torch.equal(one, other) for one, other in zip(weights, whole[2], strict=True))


def test_the_checkpoint_of_another_model_is_refused_by_its_first_difference(tmp_path):
    fitted(tmp_path, 3)
    wider = replace(TINY, intermediate_size=32).build(word_level(WORDS), "digest", "test")
    deeper = replace(TINY, layers=2).build(word_level(WORDS), "digest", "test")
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(
        UserError, match=r"model\.model\.layers\.0\.mlp\.gate_proj\.weight is 16x16 there and 32x16 here"
    ):
        fitted(tmp_path, checkpoint=checkpoint, lm=wider)
    with pytest.raises(UserError, match=r"another model: model\.model\.layers\.1\.\S+ is missing there and "):
        fitted(tmp_path, checkpoint=checkpoint, lm=deeper)


def partly_frozen():
    lm = language_model()
    for name, parameter in lm.model.named_parameters():
        parameter.requires_grad_("mlp" in name)
    return lm


def test_a_checkpoint_holds_what_is_trained_and_goes_on_with_the_rest_of_the_base(tmp_path):
    _, seen, weights, history = fitted(tmp_path / "whole", lm=partly_frozen())
    _, first, _, _ = fitted(tmp_path / "run", 9, lm=partly_frozen())
    checkpoint = tmp_path / "run" / LAST
    stored = torch.load(checkpoint, weights_only=True)
    trained = {f"model.{name}" for name, p in partly_frozen().model.named_parameters() if p.requires_grad}
    assert set(stored["state_dict"]) == trained
    assert len(trained) == 3
    trainer, rest, resumed, steps = fitted(tmp_path / "run", checkpoint=checkpoint, lm=partly_frozen())
    assert first + rest == seen
    assert all(torch.equal(one, other) for one, other in zip(resumed, weights, strict=True))
    assert steps == history
    trainer.checkpoint_callback.best_model_path = str(checkpoint)
    with torch.no_grad():
        for value in resumed:
            value.zero_()
    take_weights(trainer, trainer.lightning_module, "best")
    found = trainer.lightning_module.state_dict()
    best = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, best[name]) and value.any() for name, value in found.items())


@pytest.mark.parametrize("change", ["lacks", "has"])
def test_a_checkpoint_without_a_trained_weight_or_with_a_foreign_one_is_refused(tmp_path, change):
    fitted(tmp_path, 3, lm=partly_frozen())
    checkpoint = tmp_path / LAST
    stored = torch.load(checkpoint, weights_only=True)
    name = sorted(stored["state_dict"])[0]
    if change == "lacks":
        del stored["state_dict"][name]
    else:
        stored["state_dict"][(name := "model.other.weight")] = torch.zeros(2, 3)
    AtomicCheckpointIO().save_checkpoint(stored, checkpoint)
    there = "missing there and 16x16" if change == "lacks" else "2x3 there and missing"
    with pytest.raises(UserError, match=rf"of another model: {name} is {there} here"):
        fitted(tmp_path, checkpoint=checkpoint, lm=partly_frozen())


def test_seconds_are_those_of_all_sessions():
    state = State(earlier={"total": 100.0, "fine_tune": 60.0, "base": 5.0})
    with state.timed("fine_tune"):
        time.sleep(0.01)
        assert state.spent()["fine_tune"] > 60.0
    spent = state.spent()
    assert 100.0 < spent["total"] < 101.0
    assert 60.01 <= spent["fine_tune"] < 61.0
    assert spent["base"] == 5.0
    assert state.spent()["fine_tune"] == spent["fine_tune"]


@pytest.mark.parametrize(("way", "batches"), [("group_by_length", 7), ("packing", 5)])
def test_batches_of_other_shapes_are_taken_up_too(tmp_path, way, batches):
    _, seen, weights, history = fitted(tmp_path / "whole", **{way: True})
    assert len(seen) == 3 * batches
    assert sorted(name for ids, *_ in seen[:batches] for name in ids) == sorted(f"row{n}" for n in range(13))
    for last in (1, batches, batches + 2):
        _, first, _, _ = fitted(tmp_path / str(last), last, **{way: True})
        checkpoint = tmp_path / str(last) / "checkpoints" / "last.ckpt"
        _, rest, resumed, steps = fitted(tmp_path / str(last), checkpoint=checkpoint, **{way: True})
        assert first + rest == seen
        assert all(torch.equal(one, other) for one, other in zip(resumed, weights, strict=True))
        assert steps == history


def test_an_early_stop_is_remembered(tmp_path):
    def stopping():
        return [EarlyStopping("val/score", mode="min", patience=1, min_delta=1e9)]

    _, seen, weights, history = fitted(tmp_path, callbacks=stopping())
    assert len(seen) == 14
    again = fitted(tmp_path, checkpoint=tmp_path / "checkpoints" / "last.ckpt", callbacks=stopping())
    assert again[1] == []
    assert again[3] == history
    assert all(torch.equal(one, other) for one, other in zip(again[2], weights, strict=True))
    assert again[0].fit_loop.epoch_progress.current.processed == 2


def test_changed_rows_and_a_moved_folder_are_refused(tmp_path):
    fitted(tmp_path / "run", 3)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match="the training rows, what is held out or the base have changed"):
        fitted(tmp_path / "run", checkpoint=checkpoint, texts=TEXTS[::-1])
    with pytest.raises(UserError, match="move it back there"):
        fitted(tmp_path / "moved", checkpoint=checkpoint)


def test_a_second_ctrl_c_leaves_at_once(tmp_path):
    resumable = Resumable(State(tmp_path), "", print)
    resumable._stop_soon(signal.SIGINT, None)
    resumable._stop_soon(signal.SIGTERM, None)  # a sweep's parent passes the first one on
    with pytest.raises(KeyboardInterrupt):
        resumable._stop_soon(signal.SIGINT, None)
