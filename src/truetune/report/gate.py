"""Shows the results of a gate on the screen, to CI (junit.xml) and in a job summary (gate.md), from run.json alone."""

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
    """One line for each limit."""
    return [f"gate: {row['result']:9} {sentence(row)}" for row in gate["limits"]]


def sentence(row: Mapping[str, Any]) -> str:
    """The limit, what was measured and, if there is one, the remark of `why`."""
    text = f"{row['metric']} {allowed(row)}: {measured(row)}, n {row['n']:,}"
    return f"{text}; {remark}" if (remark := why(row)) else text


def allowed(row: Mapping[str, Any]) -> str:
    return f"{WORDS[row['bound']]} {row['limit']:g}"


def measured(row: Mapping[str, Any]) -> str:
    """The value, or how much worse than the base's, with the interval that decided."""
    return in_brackets(Estimate.from_json(dict(row)), digits=3, signed=row["bound"] == "max_drop")


def why(row: Mapping[str, Any]) -> str:
    """A remark: what would decide an undecided limit; for one without an interval, that the value alone decided."""
    if row["low"] is not None:
        advice = f"about {row['needed']:,} questions would decide" if row["needed"] else "it lies on the limit"
        return advice if row["result"] == "undecided" else ""
    if row["value"] is None:
        return "nothing was asked that counts"
    if metric(row["metric"]).is_share:
        return "no interval: too few different things were asked"
    return "no interval is known: decided by the value alone"


def write(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Writes junit.xml and gate.md in the run's folder."""
    write_atomic(run_dir / JUNIT, _junit(record))
    write_atomic(run_dir / SUMMARY, _summary(record))


def _junit(record: Mapping[str, Any]) -> str:
    """JUnit's XML, one test for each limit; an undecided one is skipped, unless `gate.undecided` says otherwise."""
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


def _outcome(row: Mapping[str, Any], default: str | None) -> str:
    result = default or "undecided" if row["result"] == "undecided" else row["result"]
    return {"pass": "", "fail": "failure", "undecided": "skipped"}[result]


def _summary(record: Mapping[str, Any]) -> str:
    """The gate in Markdown, as GitHub shows it beside a job."""
    gate = record["gate"]
    rows = [
        f"| **{row['result']}** | `{row['metric']}` | {allowed(row)} | {measured(row)} | {row['n']:,} | {why(row)} |"
        for row in gate["limits"]
    ]
    head = "| result | metric | limit | measured, 95 % interval | n | |\n|---|---|---|---|---|---|"
    return "\n".join([f"## Gate: {gate['result']}\n", head, *rows, "", verdict(record), ""])
