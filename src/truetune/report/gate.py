"""The verdict of a gate for the screen, for CI (junit.xml) and for a job summary (gate.md), from run.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from truetune.records.files import write_atomic
from truetune.report.summary import in_brackets
from truetune.report.verdict import verdict
from truetune.scoring.estimates import Estimate
from truetune.scoring.metrics import metric

JUNIT, SUMMARY = "junit.xml", "gate.md"
WORDS = {"max": "at most", "min": "at least", "max_drop": "worse by at most"}


def lines(gate: Mapping[str, Any]) -> list[str]:
    """One a limit."""
    return [f"gate: {row['result']:9} {sentence(row)}" for row in gate["limits"]]


def sentence(row: Mapping[str, Any]) -> str:
    """What was measured, the limit, and why that decides nothing where it does not."""
    text = f"{row['metric']} {allowed(row)}: {measured(row)}, n {row['n']:,}"
    return f"{text}; {remark}" if (remark := why(row)) else text


def allowed(row: Mapping[str, Any]) -> str:
    return f"{WORDS[row['bound']]} {row['limit']:g}"


def measured(row: Mapping[str, Any]) -> str:
    """The value, or how much worse than the base's, with the interval that decided."""
    return in_brackets(Estimate.from_json(dict(row)), digits=3, signed=row["bound"] == "max_drop")


def why(row: Mapping[str, Any]) -> str:
    """Of a limit that is undecided, what would decide; of one without an interval, that the value decided."""
    if row["low"] is not None:
        needed = f"about {row['needed']:,} questions would decide" if row["needed"] else "it lies on the limit"
        return needed if row["result"] == "undecided" else ""
    if row["value"] is None:
        return "nothing was asked that counts"
    if metric(row["metric"]).is_share:
        return "no interval: too few different things were asked"
    return "no interval is known: decided by the value alone"


def write(run_dir: Path, record: Mapping[str, Any]) -> None:
    """junit.xml and gate.md in the run's folder."""
    write_atomic(run_dir / JUNIT, _junit(record))
    write_atomic(run_dir / SUMMARY, _summary(record))


def _junit(record: Mapping[str, Any]) -> str:
    """One test a limit; an undecided one is skipped, unless `gate.undecided` says what it counts as."""
    gate = record["gate"]
    outcomes = [_outcome(row, gate["undecided"]) for row in gate["limits"]]
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failure")),
        "errors": "0",
        "skipped": str(outcomes.count("skipped")),
    }
    suites = ElementTree.Element("testsuites", counts)
    time = {"time": f"{record['seconds']['total']:.1f}", "timestamp": str(record["created"])}
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "truetune gate", **counts, **time})
    for row, outcome in zip(gate["limits"], outcomes, strict=True):
        names = {"classname": f"gate.{row['bound']}", "name": f"{row['metric']} {allowed(row)}", "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", names)
        if outcome:
            ElementTree.SubElement(case, outcome, {"message": f"{row['result']}: {sentence(row)}"})
        else:
            ElementTree.SubElement(case, "system-out").text = f"{row['result']}: {sentence(row)}"
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _outcome(row: Mapping[str, Any], undecided: str | None) -> str:
    result = undecided or "undecided" if row["result"] == "undecided" else row["result"]
    return {"pass": "", "fail": "failure", "undecided": "skipped"}[result]


def _summary(record: Mapping[str, Any]) -> str:
    """Markdown, as GitHub shows it beside a job."""
    gate = record["gate"]
    rows = [
        f"| **{row['result']}** | `{row['metric']}` | {allowed(row)} | {measured(row)} | {row['n']:,} | {why(row)} |"
        for row in gate["limits"]
    ]
    head = "| result | metric | limit | measured, 95 % interval | n | |\n|---|---|---|---|---|---|"
    return "\n".join([f"## Gate: {gate['result']}\n", head, *rows, "", verdict(record), ""])
