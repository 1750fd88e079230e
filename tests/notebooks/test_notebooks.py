"""Every notebook runs on a fabricated run, in a fresh kernel, from both places where a reader would start it."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from report.fabricate import run_folder

from truetune.record import read_run
from truetune.report.verdict import verdict

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the project's, with two runs in its logs, the older one inside a sweep."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    for age, place in ((100, "multiruns/sweep/0"), (0, "runs/newest")):
        run = run_folder(folder / "logs" / "train" / place, seed=age)
        created = (run / "run.json").stat().st_mtime - age
        os.utime(run / "run.json", (created, created))
    return folder


def executed(notebook: Path, start: Path, **environment: str) -> nbformat.NotebookNode:
    inherited = {name: value for name, value in os.environ.items() if name not in ("TRUETUNE_RUN", "MPLBACKEND")}
    book = nbformat.read(notebook, as_version=4)
    client = NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(start)}})
    client.execute(env={**inherited, "PYTHONWARNINGS": "error::SyntaxWarning", **environment})
    return book


def outputs(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("start", "asked", "read"),
    [
        pytest.param("notebooks", None, "runs/newest", id="the newest run, from notebooks/"),
        pytest.param(".", "multiruns/sweep/0", "multiruns/sweep/0", id="the run asked for, from the root"),
    ],
)
def test_a_notebook_runs_and_draws(notebook: Path, start: str, asked: str | None, read: str, project: Path) -> None:
    runs = project / "logs" / "train"
    book = executed(notebook, project / start, **({"TRUETUNE_RUN": str(runs / asked)} if asked else {}))
    found = outputs(book)
    printed = "".join(output.text for output in found if output.output_type == "stream" and output.name == "stdout")
    assert not [output for output in found if output.output_type == "error"]
    assert verdict(read_run(runs / read)) in printed
    drawing = [cell for cell in book.cells if "plt.show()" in cell.source]
    assert len(drawing) >= 3
    for cell in drawing:
        assert [o for o in cell.outputs if "image/png" in o.get("data", {})], f"no picture from {cell.id}"


def test_without_a_run_the_notebook_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="run `truetune` first, or set TRUETUNE_RUN"):
        executed(NOTEBOOKS[0], tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_valid_and_holds_no_outputs(notebook: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert not outputs(book)
    assert all(cell.execution_count is None for cell in book.cells if cell.cell_type == "code")
