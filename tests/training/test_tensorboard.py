"""What TensorBoard's HPARAMS tab holds of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from truetune.training.tensorboard import hyper_parameters

CONFIG: dict[str, Any] = {
    "seed": 3,
    "trainer": {"max_epochs": 2},
    "optimizer": {"lr": 1e-4, "betas": [0.9, 0.95], "weight_decay": 0.0},
    "loader": {"batch_size": 32},
    "paths": {"log_dir": "here"},
    "key": "***",
}
CHOICES = {"model": "tiny", "data": "closed_world", "method": "lora", "clip": "norm", "experiment": None}


def run_folder(folder: Path, *words: str) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": CHOICES}}}))
    return folder


def test_what_was_typed_comes_first_and_nothing_that_was_not(tmp_path: Path) -> None:
    words = ("paths.log_dir=here", "optimizer.betas=[0.9,0.95]", "seed=3", "+clip=norm", "~data.unknown", "key=secret")
    assert list(hyper_parameters(run_folder(tmp_path / "0", *words), CONFIG).items()) == [
        ("optimizer.betas", "[0.9, 0.95]"),
        ("clip", "norm"),
        ("key", "***"),
        ("seed", 3),
        ("model", "tiny"),
        ("data", "closed_world"),
        ("method", "lora"),
    ]


def test_what_a_sweep_varies_comes_before_what_is_typed(tmp_path: Path) -> None:
    lines = [["trainer.max_epochs=2", f"optimizer.lr={lr}", f"seed={seed}"] for lr in (1e-4, 1e-3) for seed in (3, 4)]
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [{"overrides": line} for line in lines]}))
    names = list(hyper_parameters(run_folder(tmp_path / "0", *lines[0]), CONFIG))
    assert names == ["optimizer.lr", "seed", "trainer.max_epochs", "model", "data", "method"]


def test_there_are_never_more_than_fifteen(tmp_path: Path) -> None:
    many = {f"key{number}": number for number in range(30)}
    folder = run_folder(tmp_path / "0", *(f"{key}={value}" for key, value in many.items()))
    names = list(hyper_parameters(folder, CONFIG | many))
    assert names == [*list(many)[:11], "seed", "model", "data", "method"]


@pytest.mark.parametrize("broken", ["{", "[]", "{}"])
def test_without_hydras_notes_the_seed_is_known(tmp_path: Path, broken: str) -> None:
    (tmp_path / "sweep.json").write_text(broken)
    assert hyper_parameters(tmp_path / "0", CONFIG) == {"seed": 3}
