"""What was lost and gained, each in form and in fact, and how questions of each kind fared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from truetune.records.record import items_if_any
from truetune.records.run_folder import items_file
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join, known_ids

SHOWN = 8  # items of each sort
SORTS = {
    ("lost", True): (
        "Lost in form",
        "no longer said, but still known: it ranks first, or is right in another form",
    ),
    ("lost", False): ("Lost in fact", "neither said nor known"),
    ("gained", True): ("Gained in form", "said now, and known before"),
    ("gained", False): ("Gained in fact", "said now, and not known before"),
}


class Sort(NamedTuple):
    name: str
    meaning: str
    total: int
    examples: list[tuple[Item, Item]]


class Kind(NamedTuple):
    """Shares of the questions of one kind, by base and tuned model: right in each form, and ranked first."""

    name: str
    n: int
    shares: list[tuple[str, float, float]]


def lost_and_gained(run_dir: Path) -> tuple[list[Sort], list[Kind]]:
    """What was lost and gained, and the kinds of questions, from the hallucination probe's items.

    Both are empty if no fact was tried in two ways.
    """
    answers, rankings = (
        [items_if_any(items_file(run_dir, probe, when)) for when in ("base", "final")]
        for probe in ("hallucination", "knowledge")
    )
    pairs = [pair for pair in join(*answers) if pair[0].answers] if all(answers) else []
    if not pairs:
        return [], []
    known_before = known_ids([before for before, _ in pairs], rankings[0])
    known_after = known_ids([after for _, after in pairs], rankings[1])
    if known_before is None or known_after is None:
        return [], []
    groups: dict[tuple[str, bool], list[tuple[Item, Item]]] = {sort: [] for sort in SORTS}
    for before, after in pairs:
        if before.outcome == "right" and after.outcome != "right":
            groups["lost", after.id in known_after].append((before, after))
        elif before.outcome != "right" and after.outcome == "right":
            groups["gained", before.id in known_before].append((before, after))
    sorts = [Sort(*SORTS[sort], len(group), group[:SHOWN]) for sort, group in groups.items()]
    return sorts, _by_kind(pairs, *rankings)


def _by_kind(
    pairs: Sequence[tuple[Item, Item]], ranked_before: Sequence[Item], ranked_after: Sequence[Item]
) -> list[Kind]:
    firsts = [{item.id for item in items if item.outcome == "right"} for items in (ranked_before, ranked_after)]
    kinds: dict[str, list[tuple[Item, Item]]] = {}
    for pair in pairs:
        kinds.setdefault(pair[0].domain, []).append(pair)
    table: list[Kind] = []
    for name, members in kinds.items() if len(kinds) > 1 else ():
        hits: dict[str, list[tuple[bool, bool]]] = {}
        for form in members[0][0].forms:
            outcomes = [(before.forms.get(form), after.forms.get(form)) for before, after in members]
            hits[form] = [(one == "right", other == "right") for one, other in outcomes]
        if firsts[0]:
            hits["ranks first"] = [(before.id in firsts[0], after.id in firsts[1]) for before, after in members]
        n = len(members)
        shares = [(way, sum(b for b, _ in pairs) / n, sum(a for _, a in pairs) / n) for way, pairs in hits.items()]
        table.append(Kind(name, n, shares))
    return table
