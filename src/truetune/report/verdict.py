"""One sentence that says what a fine-tune gained, lost and makes up."""

from typing import Any

from truetune.report.summary import MetricRow, change, covers_zero, number, rows

UNFIT_BELOW = 0.8  # a base that knows less than this cannot show how much was lost


def verdict(run: dict[str, Any]) -> str:
    """Speaks only of what was measured, and calls nothing a change whose interval covers zero."""
    found = {row.metric: row for row in rows(run) if row.tuned is not None}
    if not found:
        return f"{_opening(run)}, so there is no final measurement to judge."
    parts = [_task(found), _known(found), _invented(found), _ability(found)]
    sentence = "; ".join(part for part in parts if part) or "none of the metrics that a verdict needs was measured"
    opening = "" if run["status"] == "finished" else f"{_opening(run)}: as far as it came, "
    whole = opening + sentence
    return whole[0].upper() + whole[1:] + "."


def caution(run: dict[str, Any]) -> str:
    """Why the verdict should not be trusted, and when new facts began to be memorised; or nothing."""
    since, measured = run.get("memorising_unknown_since"), run.get("final_step")
    said = f"From step {since['step']:,} on it memorises facts that the base did not know. " if since else ""
    if since and measured is not None and measured < since["step"]:
        said += f"The weights measured at the end are from before that, step {measured:,}. "
    return (said + _unfit(run)).strip()


def _unfit(run: dict[str, Any]) -> str:
    known = (run["base"].get("hallucination/known_exact_match") or {}).get("value")
    if known is None or known >= UNFIT_BELOW:
        return ""
    return (
        f"The base itself answers only {number(known, 2)} of the known questions (at least {UNFIT_BELOW} is needed): "
        "too little to lose for a verdict on forgetting."
    )


def _opening(run: dict[str, Any]) -> str:
    history = run["history"]
    at = f" at step {history[-1]['step']:,}" if history else ""
    ends = {"diverged": "Training diverged", "interrupted": "The run was interrupted", "failed": "The run failed"}
    return ends.get(run["status"], f"The run ended as {run['status']}") + at


def _task(found: dict[str, MetricRow]) -> str:
    row = found.get("task/exact_match")
    unit = "exact match"
    if row is None:
        row, unit = found.get("task/nll_nats_per_token"), "nats per token"
    if row is None:
        return ""
    said = {
        "better": "fine-tuning taught the task",
        "worse": "fine-tuning made the task worse",
        "no clear change": "fine-tuning did not clearly change the task",
        "": "the task moved" if row.base else "the task was measured",
    }[change(row)]
    return f"{said} ({unit} {_from_to(row)}{_unclear(row)})"


def _known(found: dict[str, MetricRow]) -> str:
    lost, right = found.get("hallucination/lost_rate"), found.get("hallucination/known_exact_match")
    if right is None:
        if lost is None or lost.tuned is None:
            return ""
        return f"{number(lost.tuned.value, 2)} of what the base had right is lost"
    said = {
        "better": "known facts are answered better than before",
        "worse": "it cost known facts",
        "no clear change": "no clear change in what the base knew",
        "": "known facts moved" if right.base else "known facts were measured",
    }[change(right)]
    share = f", {_percent(lost.tuned.value)} of those the base had are lost" if lost and lost.tuned else ""
    return f"{said} ({_from_to(right)} right{_unclear(right)}{share})"


def _invented(found: dict[str, MetricRow]) -> str:
    row = found.get("hallucination/invented_rate")
    if row is None or row.tuned is None:
        return ""
    now = "now " if row.base else ""
    made_up = f"of {row.tuned.n:,} questions that have no true answer it {now}makes up {_count(row.tuned)}"
    return made_up + (f" (base: {_count(row.base)})" if row.base else "")


def _ability(found: dict[str, MetricRow]) -> str:
    row = found.get("retention/accuracy")
    if row is None or change(row) not in ("better", "worse"):
        return ""
    return f"general ability went {'up' if change(row) == 'better' else 'down'} ({_from_to(row)})"


def _from_to(row: MetricRow) -> str:
    tuned = number(row.tuned.value if row.tuned else None, 2)
    return f"{number(row.base.value, 2)}\u00a0→\u00a0{tuned}" if row.base else tuned  # never broken over two lines


def _unclear(row: MetricRow) -> str:
    shown = row.difference
    if change(row) != "no clear change" or shown is None or shown.ends is None:
        return ""
    covered = ", the difference's 95 % interval covers 0"
    return covered if covers_zero(shown.ends) else f", p = {number(shown.p, 2)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else "none can be told"


def _count(estimate: Any) -> str:
    return f"{round(estimate.value * estimate.n):,}"
