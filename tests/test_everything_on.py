"""The real command with every probe and the methods that prepare something before training."""

import pytest
from command_line import TINY_RUN, typed
from faults.tiny import ran

import truetune.commands.final_weights
import truetune.commands.train
from truetune.extensions.dola import Dola
from truetune.records.record import read_items, read_run

pytestmark = pytest.mark.slow
WORDS = (
    *TINY_RUN,
    *(
        "method=[self_replay,ewc,dola]",
        "knowledge.label=true",
        "probe=full",
        "callbacks=frontier",
        "trainer.max_epochs=2",
    ),
    *("probe.sampling.samples=3", "objective.ewc.texts=4", "curation.self_replay.max_tokens=4"),
    "hydra.run.dir=run",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    done = typed(*WORDS, cwd=folder, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_every_probe_has_measured_base_and_tuned(folder):
    record = read_run(folder)
    for block in ("base", "final"):
        groups = {name.partition("/")[0] for name in record[block]}
        assert groups >= {"task", "retention", "hallucination", "selective", "sampling", "faithfulness", "fit"}
    assert "retention/backward_transfer" in record["final"]
    assert {item.population for item in read_items(folder / "items" / "faithfulness.final.jsonl")} == {"contradiction"}
    assert "When it should rather say nothing" in (folder / "report.html").read_text(encoding="utf-8")


def test_facts_are_followed_by_what_the_base_knew(folder):
    record = read_run(folder)
    assert "memorising_unknown_since" in record
    fits = [entry["metrics"] for entry in record["history"] if "fit/unknown_exact_match" in entry["metrics"]]
    assert len(fits) >= 3, "base, each epoch"
    assert all(metrics["fit/unknown_exact_match_low"] <= metrics["fit/unknown_exact_match"] for metrics in fits)


def test_the_best_weights_stand_in_the_history_where_they_were_made(tmp_path):
    """No curve ends in them as if training had: here no epoch is better than the first."""
    record, _ = ran(tmp_path / "run", "run.final=best", "trainer.max_epochs=3", "optimizer.lr=0.05")
    fits = [entry for entry in record["history"] if "fit/known_exact_match" in entry["metrics"]]
    assert [entry["epoch"] for entry in fits] == [0, 1, 1, 2, 3]
    steps = [entry["step"] for entry in record["history"]]
    assert steps == sorted(steps)
    name = "fit/known_exact_match"
    assert fits[1]["metrics"][name] == fits[2]["metrics"][name] == record["final"][name]["value"]


def test_every_alpha_is_scored_as_the_model_will_answer(tmp_path, monkeypatch):
    asked = []
    measured = truetune.commands.train.selection
    for module in (truetune.commands.train, truetune.commands.final_weights):
        monkeypatch.setattr(module, "selection", lambda *given: asked.append(given[0].decoding) or measured(*given))
    ran(tmp_path / "run", "method=[interpolate,dola]", "adaptation.interpolate.alphas=[0,0.5,1]")
    assert [type(decoding) for decoding in asked] == [Dola] * 5, "the epoch, three alphas, and the chosen one"


def test_the_frontier_is_kept(folder):
    assert [path for path in (folder / "checkpoints").iterdir() if path.name.startswith("frontier-")]
