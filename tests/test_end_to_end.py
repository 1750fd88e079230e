"""The real command, typed: what it leaves on disk, and that the same words give the same numbers."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import SimpleNamespace

import pytest
from command_line import TINY_RUN, typed
from safetensors.torch import load_file

from truetune.models.pretrained import Pretrained
from truetune.probes.decoding import greedy_answers
from truetune.records.files import verify
from truetune.records.record import KEYS, read_items, read_run
from truetune.scoring.lost_and_kept import join

PROBES = ("hallucination", "retention", "task")
# So fast a rate that these few steps change the answers, and every step is logged.
WORDS = (*TINY_RUN, "optimizer.lr=0.03", "trainer.log_every_n_steps=1", "paths.log_dir=logs", "trainer.max_epochs=3")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run(folder, name, *words):
    done = typed(*WORDS, f"hydra.run.dir={name}", *words, cwd=folder, **ONE_THREAD)
    return SimpleNamespace(dir=folder / name, said=done.stderr, code=done.returncode, record=read_run(folder / name))


def at_once(folder, **runs):
    """Runs of the same folder, each in its own process, at the same time; what each found and left."""
    with ThreadPoolExecutor() as pool:
        started = {name: pool.submit(run, folder, name, *words) for name, words in runs.items()}
        return SimpleNamespace(**{name: one.result() for name, one in started.items()}, bases=bases(folder))


def bases(folder):
    """The cached bases, and when each was made."""
    found = [path for path in (folder / "logs" / "cache" / "bases").iterdir() if path.is_dir()]
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("end_to_end")


@pytest.fixture(scope="module")
def twins(folder):
    """The same words twice."""
    return at_once(folder, first=(), again=())


@pytest.fixture(scope="module")
def first(twins):
    assert twins.first.code == 0, twins.first.said
    return twins.first


@pytest.fixture(scope="module")
def later(folder, twins):
    """Another seed; and a rate beyond all bounds, from the base that is there already."""
    return at_once(folder, other=("seed=1",), diverged=("optimizer.lr=1e30",))


@pytest.fixture(scope="module")
def events(first):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(first.dir / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def test_the_record_has_every_key_and_every_file_that_it_lists(first):
    record = first.record
    more = {
        "memorising_unknown_since",
        "final_step",
        "stability",
        "changes",
        "fields_not_used",
        "notes",
        "base_digest",
        "weights",
    }
    assert set(record) == {*KEYS, *more}
    assert record["status"] == "finished"
    assert {"checkpoints/last.ckpt", "csv/metrics.csv", "model/model.safetensors"} < set(record["files"])
    assert {"report.html", "run.json", "items/task.final.jsonl"} < set(record["files"])
    assert [name for name in record["files"] if not (first.dir / name).is_file()] == []
    assert record["config"]["data"]["companies"] == 6
    assert f"hydra.run.dir={first.dir.name}" in record["command"]
    assert {"base", "measure", "fine_tune", "total"} <= set(record["seconds"])


def test_the_difference_is_that_of_final_and_base(first):
    base, final, delta = (first.record[block] for block in ("base", "final", "delta"))
    assert set(delta) == set(base) & set(final)
    for name, row in delta.items():
        assert row["value"] == pytest.approx(final[name]["value"] - base[name]["value"], abs=1e-9)
    assert final["task/nll_nats_per_token"]["value"] < base["task/nll_nats_per_token"]["value"], "it has learnt"
    assert final["retention/kl_to_base_nats_per_token"]["value"] > 0
    assert base["retention/kl_to_base_nats_per_token"]["value"] == pytest.approx(0, abs=1e-6)


def test_the_history_goes_from_the_base_to_the_final_measurement(first):
    history, final = first.record["history"], first.record["final"]
    assert history[0]["step"] == 0
    assert history[-1]["step"] == first.record["final_step"] == 9, "48 rows, 16 at a time, three times"
    assert [entry["step"] for entry in history] == sorted(entry["step"] for entry in history)
    assert history[-1]["metrics"] == {name: row["value"] for name, row in final.items()}
    assert all(history[0]["metrics"][name] == row["value"] for name, row in first.record["base"].items())
    assert [e["step"] for e in history if "train/loss" in e["metrics"]] == list(range(1, 10))


def test_items_hold_each_id_once_and_join(first):
    names = {path.name for path in (first.dir / "items").iterdir()}
    assert names == {f"{probe}.{when}.jsonl" for probe in PROBES for when in ("base", "final")}
    for probe, count in zip(PROBES, (56, 4, 32), strict=True):
        before, after = (read_items(first.dir / "items" / f"{probe}.{when}.jsonl") for when in ("base", "final"))
        pairs = join(before, after)
        assert len(pairs) == len({item.id for item in before}) == len({item.id for item in after}) == count
        assert all((one.question, one.answers) == (two.question, two.answers) for one, two in pairs)
    assert any(one.answer != two.answer for one, two in pairs), "the fine-tune has changed answers"


def test_the_curves_are_in_tensorboard(first, events):
    tags = set(events.Tags()["scalars"])
    expected = {f"train/{name}" for name in ("loss", "grad_norm", "clipped_fraction", "learning_rate")} | {"val/loss"}
    expected |= {f"baseline/{name}" for name in first.record["base"]} | set(first.record["final"])
    expected |= {f"delta/{name}" for name in first.record["delta"]}
    assert expected - tags == set()
    assert {"task/exact_match", "hallucination/invented_rate", "retention/nll_nats_per_token"} < tags
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == list(range(1, 10))
    logged = [e["metrics"]["train/loss"] for e in first.record["history"] if "train/loss" in e["metrics"]]
    assert [event.value for event in losses] == pytest.approx(logged)
    assert len(events.Scalars("val/loss")) >= 3
    assert [event.value for event in events.Scalars("train/learning_rate")] == pytest.approx([0.03] * 9)
    assert all(0 <= event.value <= 1 for event in events.Scalars("train/clipped_fraction"))


def test_the_last_scalar_of_every_final_metric_is_the_recorded_one(first, events):
    for block, prefix in (("final", ""), ("base", "baseline/"), ("delta", "delta/")):
        for name, row in first.record[block].items():
            assert events.Scalars(f"{prefix}{name}")[-1].value == pytest.approx(row["value"], rel=1e-5, abs=1e-7)


def test_the_hyper_parameters_stand_beside_the_final_metrics(first, events):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    def stored(tag):
        content = events.SummaryMetadata(tag).plugin_data.content
        return HParamsPluginData.FromString(content)

    metrics = [info.name.tag for info in stored("_hparams_/experiment").experiment.metric_infos]
    assert set(metrics) >= set(first.record["final"])
    assert metrics[0].startswith("balance/")
    values = stored("_hparams_/session_start_info").session_start_info.hparams
    assert values["data.companies"].number_value == 6
    assert values["seed"].number_value == 0
    assert values["model"].string_value == "tiny"
    assert len(values) <= 15
    assert not [name for name in values if name.startswith(("paths.", "data.world"))]


def test_sample_answers_are_in_tensorboard(first, events):
    for probe in PROBES:
        (event,) = events.Tensors(f"samples/{probe}/text_summary")
        text = event.tensor_proto.string_val[0].decode()
        assert text.startswith("| question | truth | base | tuned | |")
        item = read_items(first.dir / "items" / f"{probe}.final.jsonl")[0]
        assert len(text.splitlines()) == 2 + min(20, len(read_items(first.dir / "items" / f"{probe}.final.jsonl")))
        if probe == "retention":
            assert f"| {item.question} | {item.answers[0]} |" in text


def test_the_same_curves_are_in_a_csv_file(first):
    with (first.dir / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"train/loss", "train/grad_norm", "val/loss", "task/exact_match", "delta/task/exact_match"} < set(rows[0])
    assert [row["step"] for row in rows if row["train/loss"]] == [str(step) for step in range(1, 10)]


def test_the_report_is_one_page_about_this_run(first):
    page = (first.dir / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "optimizer.lr" in page
    assert f"report: {first.dir / 'report.html'}" in first.said


def test_checkpoints_have_their_digests(first):
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = first.dir / "checkpoints" / name
        digest = (first.dir / "checkpoints" / f"{name}.sha256").read_text().split()[0]
        assert sha256(checkpoint.read_bytes()).hexdigest() == digest


def test_the_model_folder_is_what_was_measured(first):
    """Loaded from disk and asked again, it gives the very answers that are on record."""
    config = first.record["config"]["measure"]
    lm = Pretrained(str(first.dir / "model")).load()
    for probe in PROBES:
        items = read_items(first.dir / "items" / f"{probe}.final.jsonl")
        size = {"max_new_tokens": config["max_new_tokens"], "batch_size": config["batch_size"]}
        answers = greedy_answers(lm, [item.question for item in items], **size)
        assert [answer.text for answer in answers] == [item.answer for item in items]
        assert [a.confidence for a in answers] == pytest.approx([item.confidence for item in items], abs=1e-5)
    assert verify(first.dir / "model") is None


def test_the_last_checkpoint_holds_the_weights_at_the_end(first):
    import torch

    stored = torch.load(first.dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 9
    tuned = load_file(first.dir / "model" / "model.safetensors")
    assert [
        name for name, value in tuned.items() if not torch.equal(value, stored["state_dict"][f"model.{name}"])
    ] == []


def test_the_fine_tune_moves_the_copy_and_never_the_cached_base(first, twins):
    (base,) = twins.bases
    assert base.name in first.said
    old, new = load_file(base / "model.safetensors"), load_file(first.dir / "model" / "model.safetensors")
    assert old.keys() == new.keys()
    assert not [name for name in old if old[name].equal(new[name])], "every matrix has moved"
    assert verify(base) is None


def test_the_same_seed_gives_the_same_numbers_from_one_base(twins):
    first, again = twins.first, twins.again
    assert (first.code, again.code) == (0, 0)
    for block in ("base", "final", "delta"):
        assert again.record[block] == first.record[block]
    timed = {"train/target_tokens_per_second"}
    histories = [
        [(e["step"], e["epoch"], {k: v for k, v in e["metrics"].items() if k not in timed}) for e in record["history"]]
        for record in (first.record, again.record)
    ]
    assert histories[0] == histories[1]
    for probe in PROBES:
        name = f"items/{probe}.final.jsonl"
        assert (first.dir / name).read_bytes() == (again.dir / name).read_bytes()
    assert len(twins.bases) == 1
    assert sum("pre-training the base" in one.said for one in (first, again)) == 1, "one has waited, or come later"


def test_a_cached_base_and_its_measurement_are_used_again(twins, later):
    assert "pre-training the base" not in later.diverged.said
    assert "measuring the untouched base" not in later.diverged.said
    assert later.diverged.record["base"] == twins.first.record["base"]
    assert twins.bases.items() < later.bases.items(), "not made again"


def test_another_seed_gives_other_numbers_from_another_base(first, later):
    other = later.other
    assert other.code == 0, other.said
    for block in ("base", "final"):
        name = "task/nll_nats_per_token"
        assert other.record[block][name]["value"] != first.record[block][name]["value"]
    assert "pre-training the base" in other.said
    assert len(later.bases) == 2
    assert other.record["config"]["data"]["seed"] == 1


def test_a_run_that_diverges_says_where_and_keeps_what_it_has(later):
    run = later.diverged
    assert run.code == 3
    (line,) = [line for line in run.said.splitlines() if line.startswith("error: ")]
    assert "is not finite at step 2 (learning rate 1e+30" in line
    assert "Traceback" not in run.said
    assert run.record["status"] == "diverged"
    assert run.record["base"]
    assert run.record["final"] == {}
    assert {path.name for path in (run.dir / "items").iterdir()} == {f"{probe}.base.jsonl" for probe in PROBES}


def test_the_exported_folder_is_the_runs_model(first, folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = typed(str(first.dir), "exported", cwd=folder, command="truetune-export", **ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / "exported")]
    tokenizer = AutoTokenizer.from_pretrained(folder / "exported")
    model = AutoModelForCausalLM.from_pretrained(folder / "exported").eval()
    own = AutoModelForCausalLM.from_pretrained(first.dir / "model").eval()
    question = json.loads((first.dir / "items" / "task.final.jsonl").read_text().splitlines()[0])["question"]
    ids = tokenizer(question, return_tensors="pt").input_ids
    assert tokenizer.unk_token_id not in ids
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, own(ids).logits, atol=1e-5)
    card = (folder / "exported" / "README.md").read_text()
    final, base = (first.record[block]["task/nll_nats_per_token"]["value"] for block in ("final", "base"))
    assert f"| Task loss, nats per token | {base:.3f} | {final:.3f} | 64 |" in card
