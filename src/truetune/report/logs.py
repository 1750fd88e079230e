"""Compares two models' logs: what every metric of every task says of B against A, on the documents of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from truetune.data.eval_logs.pair import Pair, Task
from truetune.errors import UserError
from truetune.report.summary import Change, MetricRow, change, number, p_value, print_rows
from truetune.scoring.item import Item
from truetune.scoring.metrics import Direction
from truetune.scoring.paired import holm, of_values

if TYPE_CHECKING:
    from rich.console import Console

NAMED = 3  # metrics of each kind in the verdict


@dataclass(frozen=True)
class Comparison:
    """One metric of one task. If its values are 0 and 1, `lost` are the pairs that only A has right, `gained` those
    that only B has right; `right` is the value that counts as right.
    """

    task: str
    row: MetricRow
    documents: int
    right: float
    is_binary: bool
    lost: Sequence[Pair]
    gained: Sequence[Pair]
    p_holm: float = 1.0

    @property
    def corrected(self) -> MetricRow:
        """The row, with the p value that allows for how many metrics are compared."""
        difference = self.row.difference
        return self.row._replace(difference=replace(difference, p=self.p_holm) if difference else None)

    @property
    def judged(self) -> Change:
        return change(self.corrected)

    def to_json(self) -> dict[str, Any]:
        row = self.row
        estimates = {"a": row.base, "b": row.tuned, "difference": row.difference}
        return {
            "task": self.task,
            "metric": row.label,
            "n": row.difference.n if row.difference else 0,
            "documents": self.documents,
            **{name: estimate.to_json() for name, estimate in estimates.items() if estimate},
            "p_holm": self.p_holm,
            "test": "McNemar" if self.is_binary else "swaps",
            "lost": len(self.lost),
            "gained": len(self.gained),
            "better": row.direction or None,
            "result": self.judged or None,
        }


def comparisons(tasks: Sequence[Task]) -> list[Comparison]:
    """One comparison for each metric of each task. Raises UserError if no metric has a number in both logs."""
    table = [one for task in tasks for one in _comparisons_of(task)]
    if not table:
        places = ", ".join(f"{task.first.path} and {task.second.path}" for task in tasks)
        raise UserError(f"{places}: no metric has a number for the same document in both")
    p_values = [one.row.difference.p for one in table if one.row.difference and one.row.difference.p is not None]
    return [replace(one, p_holm=p) for one, p in zip(table, holm(p_values), strict=True)]


def _comparisons_of(task: Task) -> Iterator[Comparison]:
    for name in dict.fromkeys(name for pair in task.pairs for name in pair.first.values):
        pairs = [pair for pair in task.pairs if name in pair.first.values and name in pair.second.values]
        if not pairs:
            continue
        a_values = [pair.first.values[name] for pair in pairs]
        b_values = [pair.second.values[name] for pair in pairs]
        is_binary = {*a_values, *b_values} <= {0.0, 1.0}
        names = [pair.document for pair in pairs]
        direction = _direction(task, name, is_binary)
        row = MetricRow(name, *of_values(a_values, b_values, names), f"{task.name}/{name}", direction)
        right = 0.0 if direction == "lower" else 1.0
        flips = [pair for pair in pairs if pair.first.values[name] != pair.second.values[name]] if is_binary else []
        lost = [pair for pair in flips if pair.first.values[name] == right]
        gained = [pair for pair in flips if pair.second.values[name] == right]
        yield Comparison(task.name, row, len(set(names)), right, is_binary, lost, gained)


def _direction(task: Task, name: str, is_binary: bool) -> Direction:
    """The direction that the log states; else 1 is right, and for other numbers nobody knows which way is better."""
    higher_is_better = {**task.second.higher_is_better, **task.first.higher_is_better}.get(name.partition(",")[0])
    if higher_is_better is None:
        return "higher" if is_binary else ""
    return "higher" if higher_is_better else "lower"


def items(pair: Pair, comparison: Comparison, longest: int | None = None) -> list[Item]:
    """The answers of A and B to one question, for a reader; a question longer than `longest` is cut to its end."""
    name, question = comparison.row.label, pair.first.question
    if longest and len(question) > longest:
        question = f"… {question[-longest:]}"
    return [
        Item(
            id=sample.name,
            question=question,
            answers=(pair.first.target,),
            answer=sample.judged.get(name, sample.answer),
            outcome="right" if sample.values[name] == comparison.right else "wrong",
        )
        for sample in (pair.first, pair.second)
    ]


def flips(table: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """One row for each document that only one of the two has right by a metric."""
    for comparison in table:
        for kind, pairs in (("lost", comparison.lost), ("gained", comparison.gained)):
            for pair in pairs:
                first, second = items(pair, comparison)
                yield {
                    "task": comparison.task,
                    "metric": comparison.row.label,
                    "flip": kind,
                    "id": first.id,
                    "document": pair.document,
                    "question": first.question,
                    "target": pair.first.target,
                    "a": first.answer,
                    "b": second.answer,
                    "a_response": pair.first.response,
                    "b_response": pair.second.response,
                }


def verdict(table: Sequence[Comparison]) -> str:
    """One sentence; nothing is called a change whose interval covers zero or whose corrected p is not below 0.05."""
    parts: list[str] = []
    for word in ("worse", "better"):
        rows = [comparison for comparison in table if comparison.judged == word]
        names = [f"{comparison.task} {comparison.row.label} {_from_to(comparison.row)}" for comparison in rows]
        if rows:
            remainder = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
            parts.append(f"{word} on {len(rows)} ({', '.join(names[:NAMED])}{remainder})")
    for result, words in (("no clear change", "no clear change on"), ("", "not judged")):
        if count := sum(comparison.judged == result for comparison in table):
            parts.append(f"{words} {count}")
    return f"B against A, of {len(table)} metrics: {'; '.join(parts)}."


def _from_to(row: MetricRow) -> str:
    before, after = (number(estimate.value if estimate else None, 2) for estimate in (row.base, row.tuned))
    return f"{before}\u00a0→\u00a0{after}"


def print_comparisons(table: Sequence[Comparison], console: Console) -> None:
    """Prints a line for each metric, below its task."""
    parts: dict[str, list[MetricRow]] = {}
    for comparison in table:
        parts.setdefault(comparison.task, []).append(comparison.corrected)
    by_metric = {comparison.row.metric: comparison for comparison in table}
    extra_columns = {
        "p, Holm": lambda row: p_value(by_metric[row.metric].p_holm),
        "only A": lambda row: f"{len(by_metric[row.metric].lost):,}" if by_metric[row.metric].is_binary else "–",
        "only B": lambda row: f"{len(by_metric[row.metric].gained):,}" if by_metric[row.metric].is_binary else "–",
    }
    print_rows(parts, console, ("A", "B"), " Only A, only B: what one of them alone has right.", extra_columns)
    console.print(verdict(table), markup=False, highlight=False)
