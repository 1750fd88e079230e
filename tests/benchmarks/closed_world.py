"""Does the closed world show what it was made to show? LOG.md's table, and which expectations fail on which seed.

All arms train until the new facts are fitted; names apart, whose words the base has never read, take 40 epochs for it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from study_tables import KNOWN, Record, mean, read, show

from truetune.config.instantiation import make
from truetune.records.record import read_items

INVENTED = "hallucination/invented_rate"


def closed_world(arms: Mapping[str, Sequence[Path]]) -> None:
    """Of each seed what the base knows and what is left of it; the arms in the order of `studies.STUDIES`."""
    records = {arm: [read(folder) for folder in folders] for arm, folders in arms.items()}
    known = {arm: [(value(r, "base", KNOWN), value(r, "final", KNOWN)) for r in runs] for arm, runs in records.items()}
    losses = {arm: [before - after for before, after in pairs] for arm, pairs in known.items()}
    half, none, apart = records
    seeds = [record["config"]["seed"] for record in records[half]]
    heads = ["arm", *(f"seed {seed}" for seed in seeds), "mean loss [95 % over seeds]"]
    cells = {arm: [f"{before:.2f} → {after:.2f}" for before, after in pairs] for arm, pairs in known.items()}
    show(heads, [[arm, *cells[arm], mean(losses[arm], "+.2f")] for arm in records])
    print()
    runs = records[half]
    fitted = [value(r, "final", "fit/new_exact_match") for r in runs]
    lucky = [guessed(record, folder) for record, folder in zip(runs, arms[half], strict=True)]
    for claim, values, holds in (
        ("base right on known facts >= 0.85", [before for before, _ in known[half]], lambda x: x >= 0.85),
        ("half new: loss >= 0.15", losses[half], lambda x: x >= 0.15),
        ("no new facts: loss <= 0.06", losses[none], lambda x: x <= 0.06),
        ("names apart: loss <= 0.06", losses[apart], lambda x: x <= 0.06),
        ("half new: new facts fitted >= 0.95", fitted, lambda x: x >= 0.95),
        ("base right on companies that do not exist <= 0.05", lucky, lambda x: x <= 0.05),
        ("base abstains on them (no goal)", [1 - value(r, "base", INVENTED) for r in runs], lambda x: True),
        ("the same after half new (no goal)", [1 - value(r, "final", INVENTED) for r in runs], lambda x: True),
    ):
        expect(claim, dict(zip(seeds, values, strict=True)), holds)


def expect(claim: str, values: Mapping[int, float], holds: Callable[[float], bool]) -> None:
    failed = [seed for seed, x in values.items() if not holds(round(x, 6))]
    verdict = f"FAILS on seeds {failed}" if failed else "holds on every seed"
    print(f"{claim}: {', '.join(f'{x:.3f}' for x in values.values())}: {verdict}")


def guessed(record: Record, folder: Path) -> float:
    """Such a company has drawn facts that stand in no text: to hit one is luck, 1 in 60."""
    data = record["config"]["data"]
    never = {e.name: e.facts.values() for e in make(data, "data").made.population("never")}
    items = read_items(folder / "items" / "hallucination.base.jsonl")
    asked = [item for item in items if item.cluster in never]
    return sum(item.answer in never[item.cluster] for item in asked) / len(asked)


def value(record: Record, when: str, metric: str) -> float:
    return record[when][metric]["value"]
