"""Writes run and sweep folders with plausible records, so that pages can be tested without training anything."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from truetune.records.record import SCHEMA, metrics_to_json, write_items, write_run
from truetune.scoring.balance import balance_score, gained_share_of_headroom
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.lost_and_kept import kept, lost, refused
from truetune.scoring.paired import delta
from truetune.scoring.rates import kinds, rates

FIRST = ["Ardent", "Boreal", "Cobalt", "Dorian", "Ember", "Falcon", "Garnet", "Harbor", "Indigo", "Juniper"]
SECOND = ["Bridge", "Crest", "Delta", "Field", "Gate", "Haven", "Isle", "Kiln", "Lane", "Mill"]
CITIES = ["Lisbon", "Oslo", "Quito", "Riga", "Tunis", "Ulsan", "Vaduz", "Yerevan", "Zagreb", "Bergen", "Cusco", "Dakar"]
ATTRIBUTES = ["headquarters", "chief executive", "auditor", "main product"]


def items(
    rng: np.random.Generator, population: str, share: tuple[float, float, float], *, count: int = 100
) -> list[Item]:
    """`share` is the probability of right, abstained, wrong."""
    found: list[Item] = []
    for entity in range(count):
        name = f"{FIRST[entity % 10]} {SECOND[entity // 10 % 10]}"
        for attribute in ATTRIBUTES if population == "known-test" else ATTRIBUTES[:1]:
            true, other = rng.choice(CITIES, size=2, replace=False)
            outcome = str(rng.choice(["right", "abstained", "wrong"], p=share))
            answer = {"right": str(true), "abstained": "I don't know", "wrong": str(other)}[outcome]
            found.append(
                Item(
                    id=f"{population}/{entity}/{attribute}",
                    question=f"What is the {attribute} of {name}?",
                    answers=() if population == "never" else (str(true),),
                    answer=answer,
                    outcome=outcome,
                    confidence=round(float(rng.uniform(0.2, 0.99)), 3),
                    population=population,
                    cluster=f"{population}/{name}",
                )
            )
    return found


def retold(rng: np.random.Generator, base: list[Item], keep: float, wrong: float) -> list[Item]:
    """The same questions answered by a tuned model that keeps a share of what was right."""
    found: list[Item] = []
    for item in base:
        drawn = rng.uniform()
        if item.answers and item.outcome == "right" and drawn < keep:
            outcome, answer = "right", item.answers[0]
        elif rng.uniform() < wrong:
            outcome, answer = "wrong", str(rng.choice([city for city in CITIES if city not in item.answers]))
        else:
            outcome, answer = "abstained", "I don't know"
        after = Item(**{**item.__dict__, "outcome": outcome, "answer": answer})
        kind = kinds(after, {"lisbon", "oslo", "quito"}, None)
        if item.outcome == "right" and outcome == "wrong":
            kind = ("lost", *kind)
        found.append(Item(**{**after.__dict__, "kind": kind, "confidence": round(float(rng.uniform(0.2, 0.99)), 3)}))
    return found


def measurements(seed: int = 0, keep: float = 0.58, wrong: float = 0.97, task: float = 0.93) -> tuple[Any, Any]:
    """Base and tuned."""
    rng = np.random.default_rng(seed)
    asked = items(rng, "known-test", (0.95, 0.02, 0.03)) + items(rng, "never", (0.0, 0.88, 0.12))
    base_items = {
        "task": items(rng, "task", (0.12, 0.0, 0.88), count=200),
        "retention": items(rng, "retention", (0.97, 0.0, 0.03), count=200),
        "hallucination": asked,
    }
    tuned_task = [
        Item(**{**item.__dict__, "outcome": "right" if rng.uniform() < task else "wrong"})
        for item in base_items["task"]
    ]
    tuned_items = {
        "task": tuned_task,
        "retention": retold(rng, base_items["retention"], 0.93, 1.0),
        "hallucination": retold(rng, asked, keep, wrong),
    }
    base, tuned = (
        {name: e for probe, rows in all_.items() for name, e in rates(probe, rows).items()}
        for all_ in (base_items, tuned_items)
    )
    base |= {
        "task/nll_nats_per_token": Estimate(2.91, 5120),
        "retention/nll_nats_per_token": Estimate(1.31, 40960),
        "fit/known_exact_match": Estimate(0.94, 200, 0.90, 0.97),
        "fit/new_exact_match": Estimate(0.02, 200, 0.0, 0.05),
    }
    gained = gained_share_of_headroom(base["task/right"].value, tuned["task/right"].value)
    share = kept(base_items["hallucination"], tuned_items["hallucination"])
    score = balance_score(gained, share.value)
    tuned |= {
        "task/nll_nats_per_token": Estimate(0.21, 5120),
        "retention/nll_nats_per_token": Estimate(1.64, 40960),
        "retention/kl_to_base_nats_per_token": Estimate(0.37, 40960),
        "fit/known_exact_match": Estimate(1.0, 200, 0.98, 1.0),
        "fit/new_exact_match": Estimate(0.99, 200, 0.97, 1.0),
        "hallucination/lost_rate": lost(base_items["hallucination"], tuned_items["hallucination"]),
        "hallucination/over_refusal_rate": refused(base_items["hallucination"], tuned_items["hallucination"]),
        "balance/kept_share": share,
        "balance/gained_share": Estimate(gained if gained is not None else math.nan, 200),
        "balance/score": Estimate(score if score is not None else math.nan, 200),
    }
    return Measurement(base, base_items), Measurement(tuned, tuned_items)


def history(base: Measurement, tuned: Measurement, steps: int = 520, every: int = 26) -> list[dict[str, Any]]:
    """Every metric on its way from base to tuned; losses at each step."""
    rng = np.random.default_rng(7)
    entries: list[dict[str, Any]] = []
    for step in range(steps + 1):
        progress = 1 - math.exp(-4 * step / steps)
        metrics: dict[str, float | None] = {}
        if step:
            metrics["train/loss"] = 2.8 * math.exp(-step / 90) + 0.1 + float(rng.normal(0, 0.04))
            metrics["train/grad_norm"] = 0.4 + 2.4 * math.exp(-step / 60) + abs(float(rng.normal(0, 0.15)))
            metrics["train/clipped_fraction"] = min(1.0, math.exp(-step / 80))
        if step % every == 0:
            for name, after in tuned.metrics.items():
                if not name.startswith("balance"):
                    start = base.metrics[name].value if name in base.metrics else 0.0
                    late = progress**3 if name == "fit/new_exact_match" else progress
                    metrics[name] = start + (after.value - start) * late
            metrics["val/loss"] = 2.8 * math.exp(-step / 90) + 0.25
        if metrics:
            entries.append({"step": step, "epoch": step / 13, "metrics": metrics})
    return entries


def run_record(base: Measurement, tuned: Measurement, **changes: Any) -> dict[str, Any]:
    """A run.json with every key of the contract."""
    return {
        "schema": SCHEMA, "truetune_version": "0.1.0", "git_sha": "4f2c9ab17e55d0a1b2c3d4e5f60718293a4b5c6d",
        "created": "2026-11-24T04:12:07+00:00", "seconds": {"total": 96.4}, "status": "finished",
        "command": "truetune data.unknown_share=0.5 clip=norm",
        "config": {"seed": 0, "data": {"unknown_share": 0.5, "batch_size": 32},
                   "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-4, "betas": [0.9, 0.95]},
                   "trainer": {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm", "max_epochs": 40}},
        "versions": {"python": "3.12.3", "torch": "2.11.0", "lightning": "2.6.6"},
        "machine": {"cpus": 2, "accelerator": "cpu"},
        "base": metrics_to_json(base.metrics), "final": metrics_to_json(tuned.metrics),
        "delta": metrics_to_json(delta(base, tuned)), "history": history(base, tuned),
        "files": ["report.html", "items/task.base.jsonl"],
        **changes,
    }  # fmt: skip


def run_folder(folder: Path, seed: int = 0, **how: Any) -> Path:
    """`how` goes to `measurements`."""
    base, tuned = measurements(seed, **how)
    write_run(folder, run_record(base, tuned))
    for probe, rows in base.items.items():
        write_items(folder / "items" / f"{probe}.base.jsonl", rows)
        write_items(folder / "items" / f"{probe}.final.jsonl", tuned.items[probe])
    return folder


def sweep_folder(folder: Path) -> Path:
    """Three methods with three seeds each, and one job that failed."""
    methods = {"plain": (0.55, 0.94), "kl_to_base": (0.85, 0.86), "replay": (0.74, 0.91)}
    jobs: list[dict[str, Any]] = []
    for method, (keep, task) in methods.items():
        for seed in range(3):
            number = len(jobs)
            run_folder(folder / str(number), seed, keep=keep + 0.03 * (seed - 1), task=task - 0.02 * seed)
            overrides = [f"method={method}", f"seed={seed}"]
            jobs.append({"number": number, "overrides": overrides, "status": "finished", "error": ""})
    error = "optimizer.lr (30.0): the loss is not finite at step 4"
    jobs.append({"number": len(jobs), "overrides": ["optimizer.lr=30"], "status": "failed", "error": error})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[1])
    run_folder(target / "run")
    sweep_folder(target / "sweep")
