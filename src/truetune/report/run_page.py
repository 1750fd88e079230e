"""The page of one run, from run.json and items/*.jsonl alone."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from truetune.records.files import write_atomic
from truetune.records.record import leaves, metrics_from_json, read_items, read_run
from truetune.report.charts import Series, line_chart
from truetune.report.confidence import confidence_of
from truetune.report.page import balance_table, definitions, details, header, page, section, table
from truetune.report.summary import number, rows, too_few
from truetune.report.verdict import caution, verdict
from truetune.scoring.item import Item
from truetune.scoring.lost_and_kept import join

WORST = 20
SHARE = (0.0, 1.0)
KINDS = {
    "lost": "the base had it right",
    "invented": "no true answer exists",
    "echo": "it is an answer of the fine-tuning set",
    "off_domain": "it is not even a value of the right kind",
}
CONFIDENCE = (
    "Confidence is the mean probability of an answer's tokens. A right answer is worth 1, silence 0, a wrong answer "
    "costs extras.wrong_cost; the confidence to answer from is chosen and valued on the same questions, so expect a "
    "little less on new ones. Questions without a true answer count as any other."
)
# (title, what y is, its range or None, metric -> name of the line)
CURVES: list[tuple[str, str, tuple[float, float] | None, dict[str, str]]] = [
    (
        "Facts, trained and held out",
        "share right",
        SHARE,
        {
            "fit/known_exact_match": "trained, known",
            "fit/new_exact_match": "trained, new",
            "hallucination/known_exact_match": "held out",
        },
    ),
    (
        "Trained facts by what the base knew of them",
        "share right",
        SHARE,
        {
            "fit/highly_known_exact_match": "HighlyKnown",
            "fit/maybe_known_exact_match": "MaybeKnown",
            "fit/weakly_known_exact_match": "WeaklyKnown",
            "fit/unknown_exact_match": "Unknown",
        },
    ),
    (
        "Held-out known facts",
        "share",
        SHARE,
        {
            "hallucination/known_exact_match": "right",
            "hallucination/over_refusal_rate": "refused",
            "hallucination/lost_rate": "lost",
        },
    ),
    (
        "What it makes up",
        "share",
        SHARE,
        {
            "hallucination/invented_rate": "no true answer",
            "hallucination/rate": "wrong, all",
            "hallucination/abstention_rate": "abstained, all",
        },
    ),
    ("Task", "share right", SHARE, {"task/exact_match": "exact match"}),
    ("General ability", "share right", SHARE, {"retention/accuracy": "accuracy"}),
    (
        "Drift from the base",
        "nats per token",
        None,
        {"retention/nll_nats_per_token": "loss", "retention/kl_to_base_nats_per_token": "KL to base"},
    ),
    ("Training loss", "nats per token", None, {"train/loss": "training", "val/loss": "validation"}),
    ("Gradient norm before clipping", "norm", None, {"train/grad_norm": "gradient norm"}),
    ("Clipped steps", "share of steps", SHARE, {"train/clipped_fraction": "clipped"}),
]


def render(run_dir: Path) -> Path:
    """Writes report.html in the run's folder and says where."""
    run = read_run(run_dir)
    pairs, final = _recorded(run_dir)
    wrong_cost = float((run["config"].get("extras") or {}).get("wrong_cost", 1.0))
    probed = (run["config"].get("probe") or {}).get("selective") or {}
    recorded = {"base": metrics_from_json(run["base"]), "tuned": metrics_from_json(run["final"])}
    recorded = recorded if probed.get("wrong_cost") == wrong_cost else {}
    names, title = _paths(run["config"]), "/".join(run_dir.resolve().parts[-2:])
    body = [
        header(title, _facts(run), verdict(run), caution(run)),
        section(
            "What changed" if run["base"] else "What was measured",
            balance_table(rows(run)),
            "Under each value its 95 % interval and the number of questions (or tokens) behind it; intervals allow for "
            "questions about one entity being alike. p is McNemar's, exact, each entity counting once; of shares of "
            "the answers given, which base and tuned chose themselves, that of swapping the two at random. "
            "↑ higher is better, ↓ lower is better." + too_few(rows(run)),
        ),
        section("While it trained", _curves(run)),
        section("When it should rather say nothing", confidence_of(run_dir, wrong_cost, recorded), CONFIDENCE),
        section("Worst regressions", _regressions(pairs), _regression_note(pairs)),
        section("Kinds of wrong answers", _kinds(final), "One answer can be of several kinds."),
        section("How it was made", _made(run) + details(f"Configuration, {len(names)} settings", definitions(names))),
    ]
    target = run_dir / "report.html"
    write_atomic(target, page(f"truetune: {title}", body))
    return target


def _recorded(run_dir: Path) -> tuple[list[tuple[Item, Item]], list[Item]]:
    """All probes together, each question once: pairs of base and tuned answers, and the tuned answers alone."""
    pairs: dict[str, tuple[Item, Item]] = {}
    tuned: dict[str, Item] = {}
    for path in sorted((run_dir / "items").glob("*.final.jsonl")):
        final = read_items(path)
        tuned = {item.id: item for item in final} | tuned
        before = path.with_name(path.name.replace(".final.jsonl", ".base.jsonl"))
        if before.exists():
            pairs = {pair[0].id: pair for pair in join(read_items(before), final)} | pairs
    return list(pairs.values()), list(tuned.values())


def _facts(run: dict[str, Any]) -> list[str]:
    took, version = f"{run['seconds']['total']:,.0f} s", f"truetune {run['truetune_version']}"
    sha = f"git {run['git_sha'][:10]}" if run["git_sha"] else ""
    return [run["status"], _moment(run["created"]), took, version, sha]


def _moment(created: str) -> str:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return created


def _curves(run: dict[str, Any]) -> str:
    drawn = ""
    if not run["history"]:  # an audit, or a run that stopped before its first step
        return ""
    for title, quantity, y_range, lines in CURVES:
        series = [Series(name, _points(run, metric)) for metric, name in lines.items()]
        drawn += line_chart(title, series, x_label="step", y_label=quantity, y_range=y_range)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _points(run: dict[str, Any], metric: str) -> tuple[tuple[float, float], ...]:
    """Step 0 is the base, whether or not the history begins there."""
    start = (run["base"].get(metric) or {}).get("value")
    values: dict[float, float | None] = {} if start is None else {0: start}
    for entry in run["history"]:
        if entry["metrics"].get(metric) is not None:
            values[entry["step"]] = entry["metrics"][metric]
    kept = ((step, value) for step, value in sorted(values.items()) if value is not None and math.isfinite(value))
    return tuple(kept)


def _lost(pairs: Sequence[tuple[Item, Item]]) -> list[Item]:
    """Most confident first; an answer without a confidence comes last."""
    wrong = [after for before, after in pairs if before.outcome == "right" and after.outcome == "wrong"]
    return sorted(wrong, key=lambda item: -1.0 if item.confidence is None else item.confidence, reverse=True)


def _regression_note(pairs: Sequence[tuple[Item, Item]]) -> str:
    known = [after for before, after in pairs if before.outcome == "right"]
    wrong, refused = (sum(item.outcome == outcome for item in known) for outcome in ("wrong", "abstained"))
    return (
        f"Of {len(known):,} questions that the base answered right, the tuned model answers {wrong:,} wrong and "
        f"refuses {refused:,}. Shown: the {min(WORST, wrong)} wrong answers it is surest of."
    )


def _regressions(pairs: Sequence[tuple[Item, Item]]) -> str:
    worst = _lost(pairs)[:WORST]
    if not worst:
        return "<p>No question that the base answered right is answered wrong now.</p>" if pairs else ""
    cells = [
        [
            escape(after.question),
            escape(" / ".join(after.answers)),
            f"<b>{escape(after.answer) or '(nothing)'}</b>",
            number(after.confidence, 2),
            escape(", ".join(after.kind).replace("_", " ")),
        ]
        for after in worst
    ]
    return table(["Question", "Truth, as the base said", "Tuned says", "Confidence", "Kinds"], cells, "items")


def _kinds(items: Sequence[Item]) -> str:
    counts = Counter(kind for item in items for kind in item.kind)
    cells: list[list[str]] = []
    for kind in sorted(counts, key=lambda kind: -counts[kind]):
        example = max((item for item in items if kind in item.kind), key=lambda item: item.confidence or 0.0)
        name = f"<b>{escape(kind.replace('_', ' '))}</b><small>{escape(KINDS.get(kind, ''))}</small>"
        shown = f"{escape(example.question)}<small>{escape(example.answer) or '(nothing)'}</small>"
        cells.append([name, f"{counts[kind]:,}", shown])
    return table(["Kind", "Answers", "The most confident example"], cells, "items")


def _made(run: dict[str, Any]) -> str:
    facts = [("git sha", run["git_sha"] or "unknown"), *_paths(run["machine"], "machine.")]
    for change in run.get("changes", []):
        for key, (was, now) in change["changed"].items():
            facts.append((f"{key}, from step {change['step']} on", f"{now} (was {was})"))
    versions = details("Versions", definitions(_paths(run["versions"])))
    return f"<pre>{escape(run['command'])}</pre>{definitions(facts)}{versions}"


def _paths(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, the way they are overridden on the command line."""
    return [(key, "null" if item is None else str(item)) for key, item in leaves(value, prefix, empty=True)]
