"""The studies on a real model, and their tables from the records of runs alone: what is said, known, and made up."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from omegaconf import OmegaConf
from study_tables import Record, mean, read, show, worth_of_silence

from truetune.commands.launch import CONF
from truetune.records.record import read_items
from truetune.records.run_folder import items_file
from truetune.report.drift import rank_correlation
from truetune.scoring.estimates import Estimate
from truetune.scoring.lost_and_kept import join
from truetune.scoring.paired import holm, of_values
from truetune.scoring.rates import clusters

FORMS = {"bare answers": [], "sentences": ["data.answer_form=sentence"], "own words": ["method=own_words"]}
RATE_OF_LORA = "3e-4"
EPOCHS = (3, 10)
KNOWN, CHAT, FEW = "hallucination/known_right", "hallucination/right_in_chat", "hallucination/right_in_few_shot"
LOST, DRIFT = "hallucination/lost_rate", "task/kl_to_base_nats_per_token"
NEIGHBOURS = "neighbours"
COLUMNS = {  # of a record's metrics after an epoch
    "task right": "task/right",
    "new facts fitted": "fit/new_exact_match",
    "taught relations, said": KNOWN,
    "neighbours, said": NEIGHBOURS,
    "right after five": FEW,
    "known (ranked first)": "knowledge/ranked_first",
    "lost in form": "lost/form",
    "lost in fact": "lost/fact",
    "made up": "hallucination/invented_rate",
    "KL, general text": "retention/kl_to_base_nats_per_token",
    "KL, task": DRIFT,
}


def studies() -> dict[str, dict[str, list[str]]]:
    """The arms of each, by the words that are typed; those that studies share are typed alike."""
    form = ["experiment=real_form", "optimizer.lr=5e-5"]
    sweeps = OmegaConf.load(CONF / "experiment" / "real_methods.yaml").hydra.sweeper.params
    plain, *methods = sweeps.method.split(",")
    short = ["experiment=real_methods"]
    return {
        "real_form": {
            **{
                f"{name}, lr {rate}": ["experiment=real_form", f"optimizer.lr={rate}", *words]
                for rate, (name, words) in product(("2e-5", "5e-5"), FORMS.items())
            },
            **{
                f"bare answers, {name}": [*form, f"method={name}"]
                for name in ("kl_to_base", "self_replay", "interpolate")
            },
        },
        "real_new_facts": {
            f"{share} new": ["experiment=real_new_facts", "optimizer.lr=5e-5", f"data.new_share={share}"]
            for share in ("0", "0.5", "1")
        },
        "real_clipping": dict(clipping_arms()),
        "real_methods": {
            plain: short,
            **{name: [*short, f"method={name}", *lower_rate(name)] for name in methods},
        },
        "real_analyst": {name: [*form, *words] for name, words in FORMS.items()},
        "real_gentle": {
            "bare answers": form,
            "sentences": [*form, *FORMS["sentences"]],
            "gentle": ["experiment=gentle"],
        },
    }


def lower_rate(method: str) -> list[str]:
    return [f"optimizer.lr={RATE_OF_LORA}"] if method == "lora" else []


def clipping_arms() -> list[tuple[str, list[str]]]:
    """The first is what the others are compared with. Of the grid those in which one thing differs from it, or two."""
    grid = [
        *(("5e-5", "constant", clip) for clip in ("norm 1", "none", "norm 0.1", "value 1e-3")),
        *(("5e-5", schedule, "norm 1") for schedule in ("linear_per_epoch", "cosine")),
        *(("2e-4", "constant", clip) for clip in ("norm 1", "none", "norm 0.1")),
        ("2e-4", "linear_per_epoch", "norm 1"),
        ("1e-5", "constant", "norm 1"),
    ]
    arms: list[tuple[str, list[str]]] = []
    for rate, schedule, clip in grid:
        kind, _, limit = clip.partition(" ")
        words = [f"optimizer.lr={rate}", f"clip={kind}", *([f"trainer.gradient_clip_val={limit}"] if limit else [])]
        falls = [] if schedule == "constant" else [f"schedule={schedule}"]
        arms.append((f"lr {rate}, {schedule}, {clip}", ["experiment=real_clipping", *words, *falls]))
    return arms


def by_epoch(arms: Mapping[str, Sequence[Path]]) -> None:
    """The base, then each arm after each epoch that was measured; means over seeds with Student's interval."""
    records = {arm: finished(folders) for arm, folders in arms.items()}
    first = next(runs for runs in records.values() if runs)
    rows = [["the base", "0", *cells(first, 0)]]
    for arm, runs in records.items():
        for epoch in epochs(runs):
            rows.append([f"{arm} ({len(runs)} seeds)", f"{epoch}", *cells(runs, epoch)])
    show(["arm", "epochs", *COLUMNS], rows)


def new_facts(arms: Mapping[str, Sequence[Path]]) -> None:
    """The table, and known facts said = b0 + b1 * known fitted + b2 * new fitted (Gekhman et al. 2024), by seed."""
    import numpy as np

    by_epoch(arms)
    records = [record for folders in arms.values() for record in finished(folders)]
    slopes: list[np.ndarray] = []
    for seed in sorted({record["config"]["seed"] for record in records}):
        points: list[list[float]] = []
        for record in (record for record in records if record["config"]["seed"] == seed):
            share = record["config"]["data"]["new_share"]
            for epoch in (0, *epochs([record])):
                m = after(record, epoch)
                known, new = m.get("fit/known_exact_match", 0.0), m.get("fit/new_exact_match", 0.0)
                points.append([m[KNOWN], 1.0, known * (1 - share), new * share])
        values = np.array(points)
        slopes.append(np.linalg.lstsq(values[:, 1:], values[:, 0], rcond=None)[0])
    for column, name in ((1, "known"), (2, "new")):
        of_seeds = [float(slope[column]) for slope in slopes]
        print(f"said, by the share of {name} facts fitted: {mean(of_seeds, '+.2f')} ({len(records)} runs)")


def against_first(arms: Mapping[str, Sequence[Path]]) -> None:
    """Each arm's loss beside that of the first on the same questions, with p of their flips and Holm's over arms.

    Three seeds say little by themselves, so the difference is one over all questions that a base had right: its
    interval and p hold for these seeds' draws of facts, an entity that several seeds drew counting once.
    """
    folders = {arm: {read(folder)["config"]["seed"]: folder for folder in of} for arm, of in present(arms).items()}
    first, *others = folders
    flips = {arm: against(folders[first], folders[arm]) for arm in others}
    corrected = dict(zip(flips, holm([1.0 if one.p is None else one.p for one in flips.values()]), strict=True))
    rows: list[list[str]] = []
    for arm, of in folders.items():
        records = [read(folder) for folder in of.values()]
        lost, last = mean([value(record, LOST) for record in records]), max(epochs(records))
        less = f"{flips[arm].value:+.2f} [{flips[arm].low:+.2f} {flips[arm].high:+.2f}]" if arm in flips else ""
        p_of = f"{corrected[arm]:.3f}" if arm in flips else ""
        rows.append([f"{arm} ({len(of)} seeds)", lost, less, p_of, *cells(records, last)])
    show(["arm", "lost", f"lost, less that of {first}", "p (Holm)", *COLUMNS], rows)


def against(first: Mapping[int, Path], other: Mapping[int, Path]) -> Estimate:
    """The share lost in the other arm, less that in the first, of what the base had right, over the seeds of both."""
    losses: tuple[list[float], list[float]] = ([], [])
    names: list[str] = []
    for seed in sorted({*first} & {*other}):
        base = read_items(items_file(first[seed], "hallucination", "base"))
        names += clusters([item for item in base if item.outcome == "right"])
        for lost, folder in zip(losses, (first[seed], other[seed]), strict=True):
            pairs = join(base, read_items(items_file(folder, "hallucination", "final")))
            lost += [float(now.outcome != "right") for before, now in pairs if before.outcome == "right"]
    return of_values(*losses, names)[2]


def present(arms: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """The folders of finished runs, of arms that have any."""
    found = {arm: [folder for folder in folders if finished([folder])] for arm, folders in arms.items()}
    return {arm: folders for arm, folders in found.items() if folders}


def drift(arms: Mapping[str, Sequence[Path]]) -> None:
    """Over all runs: does KL on the task's prompts predict what is lost (Shenfeld et al. 2025)?"""
    records = [record for folders in arms.values() for record in finished(folders)]
    for name in (DRIFT, "retention/kl_to_base_nats_per_token"):
        found = rank_correlation([value(r, name) for r in records], [value(r, LOST) for r in records])
        ends = f" [{found.low:.2f} {found.high:.2f}]" if found.low is not None and found.high is not None else ""
        print(f"{name} and {LOST}: rank correlation {found.value:.2f}{ends}, {found.n} runs")


def two_worlds(real: Mapping[str, float], closed: Mapping[str, float]) -> str:
    """Whether the closed world puts the methods in the order of the real model."""
    names = sorted({*real} & {*closed})
    found = rank_correlation([closed[name] for name in names], [real[name] for name in names])
    ends = f"[{found.low} {found.high}]"
    return f"rank correlation of what {len(names)} methods lose in the two worlds: {found.value:.2f} {ends}"


def cells(records: Sequence[Record], epoch: int) -> list[str]:
    points = [after(record, epoch) for record in records]
    return [mean([point[key] for point in points if key in point]) for key in COLUMNS.values()]


def finished(folders: Sequence[Path]) -> list[Record]:
    records = [read(folder) for folder in folders if (folder / "run.json").exists()]
    return [record for record in records if record["status"] == "finished"]


def epochs(records: Sequence[Record]) -> list[int]:
    """After which all probes were asked."""
    return sorted({e["epoch"] for r in records for e in r["history"] if e["epoch"] > 0 and KNOWN in e["metrics"]})


def value(record: Record, metric: str) -> float:
    return record["final"][metric]["value"]


def after(record: Record, epoch: int) -> dict[str, float]:
    """All that was measured after the epoch; `neighbours` are the questions that are not of the taught relations."""
    metrics: dict[str, float] = {}
    for entry in record["history"]:
        if entry["epoch"] == epoch:
            metrics |= {name: value for name, value in entry["metrics"].items() if value is not None}
    if CHAT in metrics and KNOWN in metrics:
        both, taught = (record["base"][name]["n"] for name in (CHAT, KNOWN))
        if both > taught:
            metrics[NEIGHBOURS] = (both * metrics[CHAT] - taught * metrics[KNOWN]) / (both - taught)
    return metrics


TABLES = {
    "real_form": by_epoch,
    "real_new_facts": new_facts,
    "real_clipping": against_first,
    "real_methods": against_first,
    "real_gentle": by_epoch,
    "real_analyst": worth_of_silence,
}
