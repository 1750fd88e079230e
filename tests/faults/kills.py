"""Kills runs at random points, resumes them until they are done, and compares each with one that was left alone.

Torch is imported once: every attempt is a fork of this process.
"""

import csv
import json
import os
import signal
import time
from collections import Counter

import torch
from faults.tiny import ran
from safetensors.torch import load_file

from truetune.commands.report import render

WORDS = ("trainer.max_epochs=4", "loader.batch_size=4", "trainer.log_every_n_steps=5", "measure.points=3")
CALLS = ("fsync", "replace", "unlink", "mkdir")


def attempt(folder):
    """One process's work in `folder/run`: a new run, or a resumed one; the cache is `folder/cache`."""
    run = folder / "run"
    if (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] == "finished":
        render(run)  # what truetune-report does
        return
    again = (run / "checkpoints" / "last.ckpt").exists()
    ran(run, *WORDS, resume=run if again else None)


def forked(folder, die_at=None):
    """The process id of a child; told to, it kills itself right before a call of the file system."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if die_at is not None:
            _die_at(die_at)
        attempt(folder)
        os._exit(0)
    finally:
        os._exit(1)


def _die_at(call):
    left = call

    def dying(real):
        def counted(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return counted

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(folder):
    """All that a run leaves for its reader, without its speed."""
    run = folder / "run"
    record = json.loads((run / "run.json").read_text())
    for entry in record["history"]:
        entry["metrics"].pop("train/target_tokens_per_second", None)
    with (run / "csv" / "metrics.csv").open() as file:
        rows = [
            {name: value for name, value in row.items() if "per_second" not in name} for row in csv.DictReader(file)
        ]
    kept = {key: record[key] for key in ("status", "base", "final", "delta", "history", "stability")}
    late = ("tensorboard/", "report.html", "run.json")  # named by time, or listed only once they are there
    kept["files"] = [name for name in record["files"] if not name.startswith(late)]
    kept["report"] = (run / "report.html").is_file()
    return kept, rows, load_file(run / "model" / "model.safetensors")


def differences(one, other):
    """Of two outcomes, in words."""
    found = [key for key in one[0] if one[0][key] != other[0][key]]
    found += sorted(set(one[0]["files"]) ^ set(other[0]["files"]))
    if one[1] != other[1]:
        found.append("csv")
    return found + [name for name in one[2] if not torch.equal(one[2][name], other[2][name])]


def killed_until_done(folder, rng, seconds, calls, most=10):
    """The kills that a run took before it finished: by the clock, or before a call that touches a file."""
    folder.mkdir()
    kills = Counter()
    while sum(kills.values()) < most:
        kind = rng.choice(["clock", "call"])
        child = forked(folder, rng.randrange(calls) if kind == "call" else None)
        if kind == "clock":
            time.sleep(rng.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL, f"{folder}: exit code {code}"
        kills[kind] += 1
    assert ended(forked(folder)) == 0
    return kills


def survived(folder, wanted, rng):
    """Kills until `wanted` were tried: how many runs ended like the one that was left alone, and what differed."""
    whole = folder / "whole"
    whole.mkdir()
    since = time.monotonic()
    assert ended(forked(whole)) == 0
    seconds = time.monotonic() - since
    calls = sum(1 for path in (whole / "run").rglob("*") if path.is_file()) * 4
    reference, tried, good, faults = outcome(whole), Counter(), 0, {}
    while sum(tried.values()) < wanted:
        run = folder / f"killed{len(faults)}"
        kills = killed_until_done(run, rng, seconds, calls, most=wanted - sum(tried.values()))
        tried += kills
        different = differences(outcome(run), reference)
        different += [path.name for path in run.rglob(".*.tmp")]
        faults[run.name] = different
        good += 0 if different else sum(kills.values())
    return good, tried, {name: found for name, found in faults.items() if found}
