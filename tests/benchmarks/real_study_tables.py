"""The tables of studies.py on a real model, from the records of runs alone: what is said, what is known, what is made
up, after so many epochs and when so many of the new facts are fitted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from study_tables import Record, mean, read, show

EPOCHS = (3, 10)
KNOWN, CHAT, FEW = "hallucination/known_right", "hallucination/right_in_chat", "hallucination/right_in_few_shot"
COLUMNS = {  # of a record's metrics after an epoch
    "task right": "task/right",
    "new facts fitted": "fit/new_exact_match",
    "taught relations, said": KNOWN,
    "neighbours, said": "neighbours",
    "right after five": FEW,
    "known (ranked first)": "knowledge/ranked_first",
    "lost in form": "lost/form",
    "lost in fact": "lost/fact",
    "made up": "hallucination/invented_rate",
    "KL on general text": "retention/kl_to_base_nats_per_token",
    "KL on the task": "task/kl_to_base_nats_per_token",
}


def by_epoch(arms: Mapping[str, Sequence[Path]]) -> None:
    """The base, then each arm after 3 and 10 epochs; means over seeds with Student's interval."""
    records = {
        arm: [read(folder) for folder in folders if (folder / "run.json").exists()] for arm, folders in arms.items()
    }
    first = next(iter(records.values()))
    rows = [
        ["the base", "0", *(mean([after(r, 0)[key] for r in first if key in after(r, 0)]) for key in COLUMNS.values())]
    ]
    for arm, runs in records.items():
        whole = [record for record in runs if record["status"] == "finished"]
        for epoch in EPOCHS:
            points = [after(record, epoch) for record in whole]
            cells = [mean([point[key] for point in points if key in point]) for key in COLUMNS.values()]
            rows.append([arm, f"{epoch}", *cells])
    show(["arm", "epochs", *COLUMNS], rows)


def after(record: Record, epoch: int) -> dict[str, float]:
    """All that was measured after the epoch; `neighbours` are the questions that are not of the taught relations."""
    metrics: dict[str, float] = {}
    for entry in record["history"]:
        if entry["epoch"] == epoch:
            metrics |= {name: value for name, value in entry["metrics"].items() if value is not None}
    if CHAT in metrics and KNOWN in metrics:
        both, taught = (record["base"][name]["n"] for name in (CHAT, KNOWN))
        if both > taught:
            metrics["neighbours"] = (both * metrics[CHAT] - taught * metrics[KNOWN]) / (both - taught)
    return metrics
