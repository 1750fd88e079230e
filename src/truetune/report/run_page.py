"""Makes the page of one run, from run.json and items/*.jsonl alone."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from truetune.records.record import leaves, metrics_from_json, read_items, read_run
from truetune.records.run_folder import REPORT
from truetune.report.charts import SHARE, Series, line_chart
from truetune.report.confidence import confidence_of
from truetune.report.lost_and_gained import lost_and_gained
from truetune.report.page import write_page
from truetune.report.summary import rows, too_few
from truetune.report.verdict import caution, verdict
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join

WORST = 20
RANKED = ("knowledge.", "elsewhere_known.")
KINDS = {
    "lost": "the base had it right",
    "invented": "no true answer exists",
    "echo": "it is an answer of the fine-tuning set",
    "off_domain": "it is not even a value of the right kind",
}
# fmt: off
# (title, what y is, its range or None, metric -> name of the line)
CURVES: list[tuple[str, str, tuple[float, float] | None, dict[str, str]]] = [
    ("Facts, trained and held out", "share right", SHARE, {
        "fit/known_exact_match": "trained, known",
        "fit/new_exact_match": "trained, new",
        "hallucination/known_right": "held out"}),
    ("Trained facts by what the base knew of them", "share right", SHARE, {
        "fit/highly_known_exact_match": "HighlyKnown",
        "fit/maybe_known_exact_match": "MaybeKnown",
        "fit/weakly_known_exact_match": "WeaklyKnown",
        "fit/unknown_exact_match": "Unknown"}),
    ("Held-out known facts", "share", SHARE, {
        "hallucination/known_right": "right",
        "hallucination/over_refusal_rate": "refused",
        "hallucination/lost_rate": "lost"}),
    ("What it makes up", "share", SHARE, {
        "hallucination/invented_rate": "no true answer",
        "hallucination/rate": "wrong, all",
        "hallucination/abstention_rate": "abstained, all"}),
    ("Task", "share right", SHARE, {"task/right": "right"}),
    ("General ability", "share right", SHARE, {"retention/accuracy": "accuracy"}),
    ("Drift from the base", "nats per token", None, {
        "retention/nll_nats_per_token": "loss",
        "retention/kl_to_base_nats_per_token": "KL to base"}),
    ("Training loss", "nats per token", None, {"train/loss": "training", "val/loss": "validation"}),
    ("Gradient norm before clipping", "norm", None, {"train/grad_norm": "gradient norm"}),
    ("Clipped steps", "share of steps", SHARE, {"train/clipped_fraction": "clipped"}),
]
# fmt: on


def render(run_dir: Path) -> Path:
    """Writes report.html in the run's folder and returns its path."""
    record = read_run(run_dir)
    pairs, answers = _items(run_dir)
    sorts, by_kind = lost_and_gained(run_dir)
    config = record["config"]
    settings = config.get("measure") or config.get("extras") or {}  # older runs have no `measure`
    wrong_cost = float(settings.get("wrong_cost", 1.0))
    has_outcomes = not record["final"] or "hallucination/rate" in record["final"]
    selective = (config.get("probe") or {}).get("selective") or {}
    estimates = {"base": metrics_from_json(record["base"]), "tuned": metrics_from_json(record["final"])}
    sha = record["git_sha"]
    return write_page(
        run_dir / REPORT,
        "run.html",
        title="/".join(run_dir.resolve().parts[-2:]),
        facts=[
            *(record["status"], _moment(record["created"]), f"{record['seconds']['total']:,.0f} s"),
            *(f"truetune {record['truetune_version']}", f"git {sha[:10]}" if sha else ""),
        ],
        verdict=verdict(record),
        warning=caution(record),
        gate=record.get("gate"),
        compared=bool(record["base"]),
        rows=rows(record),
        too_few=too_few(rows(record)),
        curves=list(_curves(record)),
        remarks=[(entry, remark["text"]) for entry in record["history"] for remark in entry.get("remarks", ())],
        confidence=confidence_of(run_dir, wrong_cost, estimates if selective.get("wrong_cost") == wrong_cost else {})
        if has_outcomes
        else None,
        sorts=sorts,
        by_kind=by_kind,
        regressions=_regressions(pairs) if pairs else None,
        kinds=_kinds(answers),
        command=record["command"],
        machine=[("git sha", sha or "unknown"), *_settings(record["machine"], "machine."), *_changes(record)],
        versions=_settings(record["versions"]),
        configuration=_settings(config),
    )


def _items(run_dir: Path) -> tuple[list[tuple[Item, Item]], list[Item]]:
    """All probes together, each question once: pairs of base and tuned answers, and the tuned answers alone."""
    pairs: dict[str, tuple[Item, Item]] = {}
    tuned: dict[str, Item] = {}
    for path in sorted((run_dir / "items").glob("*.final.jsonl")):
        if path.name.startswith(RANKED):
            continue  # they hold no answers, but what ranks first
        final = read_items(path)
        tuned = {item.id: item for item in final} | tuned
        base_path = path.with_name(path.name.replace(".final.jsonl", ".base.jsonl"))
        if base_path.exists():
            pairs = {pair[0].id: pair for pair in join(read_items(base_path), final)} | pairs
    return list(pairs.values()), list(tuned.values())


def _moment(created: str) -> str:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return created


def _curves(record: Mapping[str, Any]) -> Iterator[Markup]:
    """The charts of what was measured during training; none for an audit, or before the first step."""
    for title, quantity, y_range, lines in CURVES if record["history"] else ():
        series: list[Series] = []
        for metric, name in lines.items():
            # Step 0 is the base, whether or not the history begins there.
            values = {0: (record["base"].get(metric) or {}).get("value")}
            for entry in record["history"]:
                if entry["metrics"].get(metric) is not None:
                    values[entry["step"]] = entry["metrics"][metric]
            points = ((step, value) for step, value in sorted(values.items()) if value is not None)
            series.append(Series(name, tuple(point for point in points if math.isfinite(point[1]))))
        if chart := line_chart(title, series, x_label="step", y_label=quantity, y_range=y_range):
            yield chart
    yield from _weight_charts(record.get("weights") or {})


def _weight_charts(weights: Mapping[str, Any]) -> Iterator[Markup]:
    """Charts of the change of the weights layer by layer, and of the line of method=interpolate."""
    layers = sorted((int(name), row) for name, row in weights.get("change_by_layer", {}).items() if name.isdigit())
    for key, title, quantity in (
        ("relative_norm", "Change of each layer", "norm of the change / of the weights"),
        ("effective_rank", "Directions of the change", "effective rank, mean over matrices"),
    ):
        points = tuple((float(layer), row[key]) for layer, row in layers if key in row)
        if len(points) > 1:
            yield line_chart(title, [Series(quantity, points)], x_label="layer", y_label=quantity)
    if line := weights.get("interpolation"):
        points = tuple(zip(line["alpha"], line["val/score"], strict=True))
        yield line_chart(
            "From the base to the tuned weights",
            [Series("val/score", points)],
            x_label="part of the way",
            y_label="score on the selection questions",
        )


def _regressions(pairs: Sequence[tuple[Item, Item]]) -> dict[str, Any]:
    """Counts of the tuned model's answers where the base was right, and its wrong ones, the most confident first."""
    answers = [after for before, after in pairs if before.outcome == "right"]
    wrong = [item for item in answers if item.outcome == "wrong"]
    worst = sorted(wrong, key=lambda item: -1.0 if item.confidence is None else item.confidence, reverse=True)
    refusals = sum(item.outcome == "abstained" for item in answers)
    return {"right": len(answers), "wrong": len(wrong), "refused": refusals, "worst": worst[:WORST]}


def _kinds(items: Sequence[Item]) -> list[tuple[str, str, int, Item]]:
    """Each kind of wrong answer, what it means, how often it comes, and the most confident example."""
    counts = Counter(kind for item in items for kind in item.kind)
    table: list[tuple[str, str, int, Item]] = []
    for kind in sorted(counts, key=lambda kind: -counts[kind]):
        example = max((item for item in items if kind in item.kind), key=lambda item: item.confidence or 0.0)
        table.append((kind, KINDS.get(kind, ""), counts[kind], example))
    return table


def _settings(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, the way they are overridden on the command line."""
    return [(key, "null" if item is None else str(item)) for key, item in leaves(value, prefix, empty=True)]


def _changes(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was changed when the run was resumed."""
    for change in record.get("changes", []):
        for key, (old, new) in change["changed"].items():
            yield f"{key}, from step {change['step']} on", f"{new} (was {old})"
