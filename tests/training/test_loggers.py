"""Loggers by name: none, or those of other packages, on this machine alone."""

import importlib.util

import pytest
from command_line import TINY_RUN, typed
from faults.tiny import ran

from truetune.errors import UserError


def test_none_writes_no_curves(tmp_path):
    record, screen = ran(tmp_path / "run", "logger=none", "probe=task")
    assert record["status"] == "finished"
    assert "curves:" not in screen
    assert not {"tensorboard", "csv"} & {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr("truetune.config.run.find_spec", lambda _: None)
    with pytest.raises(UserError, match=f"logger={name} needs the package {name}; type: pip install {name}"):
        ran(tmp_path / "run", f"logger={name}")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_it_runs_without_a_server(folder, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    result = typed(*TINY_RUN, f"logger=[{name},csv]", "hydra.run.dir=run", cwd=folder, WANDB_SILENT="true")
    assert result.returncode == 0, result.stderr
    written = [path for path in folder.rglob("*") if path.is_file() and name in str(path)]
    assert any(path.stat().st_size for path in written)
