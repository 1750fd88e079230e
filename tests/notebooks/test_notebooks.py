"""Every notebook runs in a fresh kernel: the first on a fabricated run, from both places where a reader would start it."""

import os
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from command_line import TINY_RUN
from nbclient import NotebookClient
from report.fabricate import run_folder

from truetune.records.record import read_run
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
    client = NotebookClient(book, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(start)}})
    client.execute(env={**inherited, "PYTHONWARNINGS": "error::SyntaxWarning", **environment})
    return book


def outputs(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(book: nbformat.NotebookNode) -> str:
    """What the cells printed; an error in any of them fails."""
    found = outputs(book)
    assert not [output for output in found if output.output_type == "error"]
    return "".join(output.text for output in found if output.output_type == "stream" and output.name == "stdout")


def pictures(book: nbformat.NotebookNode) -> int:
    drawing = [cell for cell in book.cells if "plt.show()" in cell.source]
    for cell in drawing:
        assert [o for o in cell.outputs if "image/png" in o.get("data", {})], f"no picture from {cell.id}"
    return len(drawing)


@pytest.mark.parametrize(
    ("start", "asked", "read"),
    [
        pytest.param("notebooks", None, "runs/newest", id="the newest run, from notebooks/"),
        pytest.param(".", "multiruns/sweep/0", "multiruns/sweep/0", id="the run asked for, from the root"),
    ],
)
def test_reading_a_run(start: str, asked: str | None, read: str, project: Path) -> None:
    runs = project / "logs" / "train"
    book = executed(NOTEBOOKS[0], project / start, **({"TRUETUNE_RUN": str(runs / asked)} if asked else {}))
    assert verdict(read_run(runs / read)) in printed(book)
    assert pictures(book) >= 3


@pytest.mark.slow
def test_the_study_of_new_facts_in_short(tmp_path: Path) -> None:
    words = shlex.join(["hydra.launcher.n_jobs=2", *TINY_RUN])
    book = executed(NOTEBOOKS[1], tmp_path, TRUETUNE_SHARES="0,0.5", TRUETUNE_WORDS=words)
    said = printed(book)
    assert "0% of the taught facts new: " in said
    assert "50% of the taught facts new: " in said
    assert pictures(book) == 1


@pytest.mark.slow
def test_an_own_model_and_own_data(tmp_path: Path) -> None:
    book = executed(NOTEBOOKS[2], tmp_path)
    said = printed(book)
    assert "Task questions right" in said
    assert "| measured | base | tuned | n |" in said
    assert pictures(book) == 1


@pytest.mark.skipif(not os.environ.get("TRUETUNE_LONG"), reason="ten minutes, and 93 MB: TRUETUNE_LONG=1")
def test_a_real_model_from_base_to_verdict(tmp_path: Path) -> None:
    words = "data.taught=16 data.known_test=16 data.neighbour=8 trainer.max_epochs=1"
    book = executed(NOTEBOOKS[3], tmp_path, TRUETUNE_WORDS=words)
    said = printed(book)
    assert "own words: " in said
    assert "lost/form" in said
    assert pictures(book) == 1


def test_without_a_run_the_notebook_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="run `truetune` first, or name the folder of your runs"):
        executed(NOTEBOOKS[0], tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_shows_its_outputs_and_is_small(notebook: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert printed(book)
    assert pictures(book) >= 1
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "executed once, from top to bottom"
    assert all(cell.outputs for cell in cells[1:])
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", text), "a path of the machine it was executed on"
