"""What a run leaves behind can be read by whom the umask lets read: colleagues on a cluster, or nobody else."""

import os

import pytest
from faults.tiny import ran

from truetune.commands.export import export


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o077], indirect=True, ids=oct)
def test_everything_written_has_the_modes_of_the_umask(tmp_path, umask):
    run, exported = tmp_path / "run", tmp_path / "exported"
    ran(run)
    export(run, exported)
    written = {
        path: path.stat().st_mode & 0o777
        for folder in (run, exported, tmp_path / "cache")
        for path in (folder, *folder.rglob("*"))
        if not path.name.endswith(".lock")
    }
    assert {"model.safetensors", "run.json", "last.ckpt", "report.html", "README.md"} <= {path.name for path in written}
    wrong = {
        str(path.relative_to(tmp_path)): oct(mode)
        for path, mode in written.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask
    }
    assert not wrong
