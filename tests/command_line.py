"""Command lines: checked in this process, as fast as can be, or typed for real."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from truetune.commands import launch
from truetune.commands.launch import CONF
from truetune.config import compose
from truetune.config import run as build
from truetune.errors import UserError
from truetune.records.record import leaves

# A world so small that checking it takes no time, and running it little more than the imports.
TINY_WORLD = (
    *("data.populations.school=8", "data.populations.known-train=8", "data.populations.known-test=8"),
    *("data.populations.known-select=4", "data.populations.new=8", "data.populations.never=6", "data.companies=6"),
    *("data.exercises=4", "data.held_out_filings=4", "loader.batch_size=16"),
)
TINY_MODEL = (
    *("model.hidden_size=16", "model.intermediate_size=16", "model.layers=1", "model.heads=2"),
    *("model.pretraining.steps=3", "model.pretraining.warmup_steps=1"),
)
TINY_RUN = (
    *TINY_WORLD,
    *TINY_MODEL,
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "run.threads=1"),
    *("measure.points=1", "measure.max_new_tokens=2"),
)


def composed(*words):
    """The configuration as omegaconf has it, before any check of ours."""
    return compose.compose(CONF, list(words), compose.parse(list(words)))


@cache
def config_of(*words):
    """The configuration that a run would record; shared, so not to be changed."""
    cfg = composed(*words)
    cfg.paths.output_dir = "."
    return build.plain(cfg)


def checked(*words):
    """All that the command checks before it makes a folder."""
    return launch.checked(list(words))


def audit_here(folder, name, *words):
    """What truetune-measure records, made in this process."""
    from rich.console import Console

    from truetune.commands.measure import audit

    words = [*words, f"paths.log_dir={folder / 'logs'}"]
    cfg = compose.compose(CONF, words, compose.parse(words), "measure")
    prepared = build.prepare(cfg, "measure")
    cfg.paths.output_dir = str(folder / name)
    (folder / name).mkdir()
    return audit(build.build(cfg, prepared, folder / name), Console(quiet=True))


def keys_of_conf():
    """Leaf keys as the files have them, under the place that each file is put in."""
    found = set()
    for path in CONF.rglob("*.yaml"):
        node = OmegaConf.to_container(OmegaConf.load(path), resolve=False) or {}
        group = path.parent.relative_to(CONF).as_posix().replace("/", ".")
        group = "trainer" if group == "clip" else group
        top = "@package _global_" in path.read_text() or path.name == "train.yaml"
        prefix = "" if top else f"{group}."
        found |= {key for key, _ in leaves(node, prefix)}
    return {key for key in found if key.split(".")[0] not in {"hydra", "defaults"} and not key.endswith(".defaults")}


@cache
def _composed(words):
    return composed(*words)


def prepared(*words, **values):
    """As `checked` for `words`, composed once, with further values put in: composing is what takes the time."""
    cfg = _composed(words).copy()
    for key, value in values.items():
        OmegaConf.update(cfg, key, value)
    return build.prepare(cfg)


def refused(*words, **values):
    with pytest.raises(UserError) as caught:
        prepared(*words, **values)
    return str(caught.value)


def refusal(*words):
    with pytest.raises(UserError) as caught:
        checked(*words)
    return str(caught.value)


def typed(*words, cwd, command="truetune", **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "TRUETUNE_LOGS"}
    return subprocess.run(
        [Path(sys.executable).with_name(command), *words],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def complaint(result):
    """The one line of a command that was refused: exit code 2, no traceback, nothing else said."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.stdout + result.stderr
    return lines[0].removeprefix("error: ")
