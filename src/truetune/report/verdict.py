"""Says in one sentence what a fine-tune gained, lost and makes up."""

from collections.abc import Mapping
from typing import Any

from truetune.report.summary import UNFIT, Change, MetricRow, change, covers_zero, number, rows, unfit

UNFIT_BELOW = 0.8  # a base made for the questions that knows less than this cannot show how much was lost
ENDS = {"diverged": "Training diverged", "interrupted": "The run was interrupted", "failed": "The run failed"}


def verdict(record: Mapping[str, Any]) -> str:
    """The sentence; it speaks only of what was measured, and calls nothing a change whose interval covers zero."""
    metrics = {row.metric: row for row in rows(record) if row.tuned is not None}
    status, history = record["status"], record["history"]
    opening = ENDS.get(status, f"The run ended as {status}") + (f" at step {history[-1]['step']:,}" if history else "")
    if not metrics:
        return f"{opening}, so there is no final measurement to judge."
    known_clause = _known(metrics) if unfit(record) is None else ""
    parts = [_task(metrics), known_clause, _invented(metrics), _ability(metrics)]
    if elsewhere := _elsewhere(metrics):
        parts = [f"on your rows {parts[0]}" if parts[0] else "", *parts[1:], f"elsewhere, {elsewhere}"]
    sentence = "; ".join(part for part in parts if part) or "none of the metrics that a verdict needs was measured"
    if status != "finished":
        sentence = f"{opening}: as far as it came, {sentence}"
    return sentence[0].upper() + sentence[1:] + "."


def caution(record: Mapping[str, Any]) -> str:
    """Why the verdict should not be trusted, and when new facts began to be memorised; or an empty text."""
    sentences: list[str] = []
    memorising, final_step = record.get("memorising_unknown_since"), record.get("final_step")
    if memorising:
        sentences.append(f"From step {memorising['step']:,} on it memorises facts that the base did not know.")
    if memorising and final_step is not None and final_step < memorising["step"]:
        sentences.append(f"The weights measured at the end are from before that, step {final_step:,}.")
    known_share = (record["base"].get("hallucination/known_right") or {}).get("value")
    if (share := unfit(record)) is not None:
        sentences.append(
            f"The base answers {number(share, 2)} of these questions rightly in the form of asking that suits it best "
            f"(at least {UNFIT} is needed), so nothing is said of what was lost, better or worse on them: ask what it "
            "can answer, or in another form (asking.forms)."
        )
    elif known_share is not None and known_share < UNFIT_BELOW and "knowledge/ranked_first" not in record["base"]:
        sentences.append(
            f"The base itself answers only {number(known_share, 2)} of the known questions (at least {UNFIT_BELOW} is "
            "needed): too little to lose for a verdict on forgetting."
        )
    by_order = (record["final"].get("pairwise/decided_by_order") or {}).get("value")
    if by_order is not None and "pairwise/win_rate" not in record["final"]:
        sentences.append(f"The judge is unfit: the order decides {number(by_order, 2)} of the pairs (see the notes).")
    return " ".join(sentences)


def _task(metrics: Mapping[str, MetricRow]) -> str:
    row, unit = metrics.get("task/right"), "right"
    if row is None:
        row, unit = metrics.get("task/nll_nats_per_token"), "nats per token"
    if row is None:
        return ""
    words: dict[Change, str] = {
        "better": "fine-tuning taught the task",
        "worse": "fine-tuning made the task worse",
        "no clear change": "fine-tuning did not clearly change the task",
        "": "the task moved" if row.base else "the task was measured",
    }
    return f"{words[change(row)]} ({unit} {_from_to(row)}{_reason(row)})"


def _known(metrics: Mapping[str, MetricRow]) -> str:
    right, lost = metrics.get("hallucination/known_right"), metrics.get("hallucination/lost_rate")
    share = lost.tuned.value if lost and lost.tuned else None
    if right is None:
        return "" if share is None else f"{number(share, 2)} of what the base had right is lost"
    words: dict[Change, str] = {
        "better": "known facts are answered better than before",
        "worse": "it cost known facts",
        "no clear change": "no clear change in what the base knew",
        "": "known facts moved" if right.base else "known facts were measured",
    }
    loss = ""
    if clause := _lost(metrics, "lost/form", "lost/fact"):
        loss = f"; {clause}"
    elif share is not None:
        percent = f"{100 * share:.0f} %" if share == share else "none can be told"  # NaN differs from itself
        loss = f", {percent} of those the base had are lost"
    return f"{words[change(right)]} ({_from_to(right)} right{_reason(right)}{loss})"


def _lost(metrics: Mapping[str, MetricRow], form: str, fact: str) -> str:
    """A clause on how many of the base's facts are no longer said, and how many of those are still known."""
    parts = [row.tuned for name in (form, fact) if (row := metrics.get(name)) and row.tuned]
    if len(parts) < 2:
        return ""
    n, still_known = parts[0].n, round(parts[0].value * parts[0].n)
    lost = still_known + round(parts[1].value * n)
    return (
        f"of {n:,} facts that the base answered, {lost:,} are no longer said, {still_known:,} of which it still knows"
    )


def _elsewhere(metrics: Mapping[str, MetricRow]) -> str:
    lost, made_up, ability = (metrics.get(f"elsewhere/{name}") for name in ("lost_rate", "made_up_rate", "ability"))
    parts = [_lost(metrics, "elsewhere/lost_form", "elsewhere/lost_fact")]
    if not parts[0] and lost and lost.tuned:
        parts = [f"{number(lost.tuned.value, 2)} of what the base answered is no longer said"]
    if made_up and made_up.tuned:
        parts.append(f"of {made_up.tuned.n:,} things that do not exist it makes up {_from_to(made_up)}")
    if ability and ability.tuned:
        parts.append(f"instructions followed {_from_to(ability)}")
    return ", ".join(part for part in parts if part)


def _invented(metrics: Mapping[str, MetricRow]) -> str:
    row = metrics.get("hallucination/invented_rate")
    if row is None or row.tuned is None:
        return ""
    tuned_count, base_count = (f"{round(e.value * e.n):,}" if e else "" for e in (row.tuned, row.base))
    adverb, of_base = ("now ", f" (base: {base_count})") if row.base else ("", "")
    return f"of {row.tuned.n:,} questions that have no true answer it {adverb}makes up {tuned_count}{of_base}"


def _ability(metrics: Mapping[str, MetricRow]) -> str:
    row = metrics.get("retention/accuracy")
    if row is None or change(row) not in ("better", "worse"):
        return ""
    return f"general ability went {'up' if change(row) == 'better' else 'down'} ({_from_to(row)})"


def _from_to(row: MetricRow) -> str:
    tuned = number(row.tuned.value if row.tuned else None, 2)
    return f"{number(row.base.value, 2)}\u00a0→\u00a0{tuned}" if row.base else tuned  # never broken over two lines


def _reason(row: MetricRow) -> str:
    """Why a difference is no clear change, or an empty text."""
    difference = row.difference
    if change(row) != "no clear change" or difference is None or difference.ends is None:
        return ""
    reason = ", the difference's 95 % interval covers 0"
    return reason if covers_zero(difference.ends) else f", p = {number(difference.p, 2)}"
