"""The tables of studies.py, from the records of runs alone: means over seeds with 95 % t-intervals."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from truetune.records.record import read_items
from truetune.records.run_folder import items_file
from truetune.scoring.estimates import mean_t_interval
from truetune.scoring.paired import holm
from truetune.scoring.thresholds import worth

Record = dict[str, Any]
Loss = Callable[[Record, dict[str, float]], float]
KNOWN, LOST = "hallucination/known_right", "hallucination/lost_rate"
FITTED = 0.9
LESS_FITTED = 0.6  # which an LSTM reaches, too
COSTS = (1, 4, 9)


def new_facts(arms: Mapping[str, Sequence[Path]]) -> None:
    at_equal_fit(arms)
    regression([read(folder) for folders in arms.values() for folder in folders])


def at_equal_fit(arms: Mapping[str, Sequence[Path]]) -> None:
    """Loss at the end, and when 0.9 of the facts are fitted; a run that diverged counts in its own column only.

    The loss is a share of what the base knew, so that bases that know more or less can be compared.
    """
    heads = [
        *("arm", "base knew", "task right at the end", "lost at the end", f"lost when {FITTED} are fitted"),
        *("general ability then", "epochs to that", "lost at the best checkpoint", "made up"),
        *("general ability at the end", "diverged"),
    ]
    rows: list[list[str]] = []
    for arm, folders in arms.items():
        records = [read(folder) for folder in folders]
        whole = [record for record in records if record["status"] == "finished"]
        reached = [found for record in whole if (found := at_fit(record))]
        rows.append([
            arm,
            mean([record["base"][KNOWN]["value"] for record in whole]),
            mean([value(record, "task/right") for record in whole]),
            mean([lost(record) for record in whole]),
            mean([found[1] for found in reached]) + ("" if len(reached) == len(whole) else f" ({len(reached)} runs)"),
            mean([found[2] for found in reached]),
            mean([found[0] for found in reached], ".1f"),
            mean([at_best(record) for record in whole]),
            mean([value(record, "hallucination/invented_rate") for record in whole]),
            mean([value(record, "retention/accuracy") for record in whole]),
            str(len(records) - len(whole)),
        ])  # fmt: skip
    show(heads, rows)


def grid(arms: Mapping[str, Sequence[Path]]) -> None:
    """Lost when 0.9 of the facts are fitted, and at the end; rates and schedules below, clips beside each other."""
    cells: dict[str, dict[str, str]] = {}
    for arm, folders in arms.items():
        row, _, clip = arm.rpartition(", ")
        whole = [record for record in map(read, folders) if record["status"] == "finished"]
        reached = [found[1] for record in whole if (found := at_fit(record))]
        cells.setdefault(row, {})[clip] = f"{mean(reached)} → {mean([lost(record) for record in whole])}"
    clips = list(next(iter(cells.values())))
    show(["lost when fitted → at the end", *clips], [[row, *(of[clip] for clip in clips)] for row, of in cells.items()])


def architectures(arms: Mapping[str, Sequence[Path]]) -> None:
    """Loss of each question that the base answered right: bases that know less answer more once they know the form."""
    heads = ["arm", "base knew", "known right at most", "at the end", "new facts fitted", "task right"]
    heads += [f"lost when {LESS_FITTED} are fitted", "epochs to that", "lost at the end", "general ability"]
    rows: list[list[str]] = []
    for arm, folders in arms.items():
        records = [read(folder) for folder in folders]
        reached = [found for record in records if (found := at_fit(record, LESS_FITTED, lost_of_each))]
        rows.append([
            arm,
            mean([record["base"][KNOWN]["value"] for record in records]),
            mean([max(e["metrics"].get(KNOWN, 0.0) for e in record["history"]) for record in records]),
            mean([value(record, KNOWN) for record in records]),
            mean([value(record, "fit/new_exact_match") for record in records]),
            mean([value(record, "task/right") for record in records]),
            mean([found[1] for found in reached]) + ("" if len(reached) == len(records) else f" ({len(reached)} runs)"),
            mean([found[0] for found in reached], ".1f"),
            mean([value(record, LOST) for record in records]),
            mean([value(record, "retention/accuracy") for record in records]),
        ])  # fmt: skip
    show(heads, rows)


def lost_of_each(record: Record, metrics: dict[str, float]) -> float:
    return metrics[LOST]


def against_plain(arms: Mapping[str, Sequence[Path]]) -> None:
    """Each method's loss less plain's on the same seed; p of the paired t-test over seeds, Holm's over methods."""
    records = {arm: [read(folder) for folder in folders] for arm, folders in arms.items()}
    plain = [lost(record) for record in records["plain"]]
    p = {arm: paired_p([lost(r) for r in runs], plain) for arm, runs in records.items() if arm != "plain"}
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    rows: list[list[str]] = []
    for arm, runs in records.items():
        losses = [lost(record) for record in runs]
        rows.append([
            arm,
            mean([value(record, "task/right") for record in runs]),
            mean([r["final"]["fit/new_exact_match"]["value"] for r in runs if "fit/new_exact_match" in r["final"]]),
            mean(losses),
            "" if arm == "plain" else mean([one - other for one, other in zip(losses, plain, strict=True)]),
            "" if arm == "plain" else f"{corrected[arm]:.3f}",
            mean([value(record, "hallucination/over_refusal_rate") for record in runs]),
            mean([value(record, "hallucination/invented_rate") for record in runs]),
            mean([value(record, "retention/accuracy") for record in runs]),
        ])  # fmt: skip
    heads = ["method", "task right", "new facts fitted", "lost", "lost, less plain's", "p (Holm)", "known refused"]
    show([*heads, "made up", "general ability"], rows)


def worth_of_silence(arms: Mapping[str, Sequence[Path]]) -> None:
    """An assistant that answers from a confidence on, chosen on half of the companies and valued on the other half."""
    heads = ["assistant", "wrong answers per 100 questions"]
    for cost in COSTS:
        heads += [f"a wrong one costs {cost}: worth of always answering", "if sure", "from confidence"]
    rows: list[list[str]] = []
    first = next(iter(arms.values()))
    asked = {"the base": ("base", first)} | {arm: ("final", folders) for arm, folders in arms.items()}
    for name, (when, folders) in asked.items():
        items = [read_items(items_file(folder, "hallucination", when)) for folder in folders]
        row = [name, mean([100 * float(np.mean([item.outcome == "wrong" for item in one])) for one in items], ".0f")]
        for found in ([silence(one, cost) for one in items] for cost in COSTS):
            sure = [chosen for *_, chosen in found if chosen is not None]
            never = f" ({len(found) - len(sure)} never)" if len(sure) < len(found) else ""
            row += [mean([one[0] for one in found], ".0f"), mean([one[1] for one in found], ".0f"), mean(sure) + never]
        rows.append(row)
    show(heads, rows)


def silence(items: Sequence[Any], cost: float) -> tuple[float, float, float | None]:
    """The worth per 100 of always answering, of answering if sure, and from which confidence on; None is never."""
    names = sorted({item.cluster for item in items})
    first = np.array([names.index(item.cluster) % 2 == 0 for item in items])
    sure = np.array([item.confidence or 0.0 for item in items])
    said = np.array([item.outcome for item in items])
    chosen = worth(sure[first], said[first], cost).best
    given = np.where(sure[~first] >= (np.inf if chosen is None else chosen), said[~first], "abstained")
    always, silent = (worth(sure[~first], answers, cost).always for answers in (said[~first], given))
    return always, silent, chosen


def show(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for cells in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(cells)} |")


def read(folder: Path) -> Record:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def mean(values: Sequence[float], form: str = ".2f") -> str:
    if not values:
        return "never"
    found = mean_t_interval(values)
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}} {found.high:{form}}]"


def paired_p(one: Sequence[float], other: Sequence[float]) -> float:
    return float(ttest_rel(one, other).pvalue) if len(one) > 1 else 1.0


def value(record: Record, metric: str) -> float:
    return record["final"][metric]["value"]


def lost(record: Record) -> float:
    return share_lost(record, value(record, KNOWN))


def share_lost(record: Record, right: float) -> float:
    """Right answers that are fewer, of those that the base gave."""
    base = record["base"][KNOWN]["value"]
    return (base - right) / base


def net_lost(record: Record, metrics: dict[str, float]) -> float:
    return share_lost(record, metrics[KNOWN])


def measured(record: Record, loss: Loss = net_lost) -> list[tuple[int, float, float, float, float]]:
    """After each epoch: its number, the share of all facts fitted, the share lost, general ability, selection score."""
    rows = [(entry["epoch"], entry["metrics"]) for entry in record["history"] if entry["epoch"] > 0]
    return [
        (epoch, fit(m), loss(record, m), m["retention/accuracy"], m.get("val/score", -1.0))
        for epoch, m in rows
        if KNOWN in m
    ]


def fit(metrics: dict[str, float]) -> float:
    """Both groups are of the same size wherever there are two."""
    groups = ("fit/known_exact_match", "fit/new_exact_match")
    return float(np.mean([metrics[name] for name in groups if name in metrics]))


def at_fit(record: Record, fitted: float = FITTED, loss: Loss = net_lost) -> tuple[float, float, float] | None:
    """(epochs, share lost, general ability) where so many of the facts are fitted, interpolated between two epochs."""
    before = (0, 0.0, 0.0, record["base"]["retention/accuracy"]["value"])
    for now in (row[:4] for row in measured(record, loss)):
        if now[1] >= fitted:
            part = (fitted - before[1]) / (now[1] - before[1])
            epochs, _, share, ability = (one + part * (other - one) for one, other in zip(before, now, strict=True))
            return epochs, share, ability
        before = now
    return None


def at_best(record: Record) -> float:
    """The share lost at the epoch that the selection questions choose."""
    return max(measured(record), key=lambda row: row[-1])[2]


def regression(records: list[Record]) -> None:
    """known facts right = b0 + b1 * known fitted + b2 * new fitted, shares of the training set (Gekhman et al. 2024).

    Least squares over every epoch of a seed's runs; the interval is over seeds.
    """
    seeds = sorted({record["config"]["seed"] for record in records})
    points = {seed: points_of([record for record in records if record["config"]["seed"] == seed]) for seed in seeds}
    slopes = np.array([np.linalg.lstsq(rows[:, 1:], rows[:, 0], rcond=None)[0] for rows in points.values()])
    print(
        f"\n{sum(map(len, points.values()))} measurements of {len(records)} runs; right answers lost by what is fitted:"
    )
    for column, name in ((1, "known"), (2, "new")):
        by_seed = (-slopes[:, column]).tolist()
        print(f"per share of {name} facts {mean(by_seed, '+.2f')} (by seed {', '.join(f'{x:+.2f}' for x in by_seed)})")


def points_of(records: Sequence[Record]) -> np.ndarray:
    """Rows of (known facts right, 1, known facts fitted, new facts fitted)."""
    rows: list[list[float]] = []
    for record in records:
        share = record["config"]["data"]["new_share"]
        for metrics in (entry["metrics"] for entry in record["history"] if entry["epoch"] > 0):
            if KNOWN in metrics:
                known = metrics.get("fit/known_exact_match", 0.0) * (1 - share)
                rows.append([metrics[KNOWN], 1.0, known, metrics.get("fit/new_exact_match", 0.0) * share])
    return np.array(rows)
