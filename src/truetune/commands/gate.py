"""The gate: limits held against what a run has recorded, by the run itself or afterwards by `truetune-report`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from truetune.config.gate import Gate
from truetune.errors import GateBroken, GateUndecided, UserError
from truetune.records.disk import writing
from truetune.records.files import owned
from truetune.records.record import files_of, metrics_from_json, read_run, write_run
from truetune.report import gate as gate_report
from truetune.report import run_page
from truetune.scoring.gate import Decision, Limit, decide, overall
from truetune.scoring.metrics import metric


def judge(run_dir: Path, gate: Gate) -> None:
    """Prints and records the result of each limit, and makes the page again; raises GateBroken or GateUndecided."""
    with writing(run_dir), owned(run_dir, "a run is working in this folder; wait for it to end"):
        record = read_run(run_dir)
        decisions = decided(record, gate, run_dir)
        result = overall([decision.result for decision in decisions], gate.undecided)
        rows = [decision.to_json() for decision in decisions]
        record["gate"] = {"result": result, "undecided": gate.undecided, "limits": rows}
        gate_report.write(run_dir, record)
        record["files"] = files_of(run_dir)
        write_run(run_dir, record)
        run_page.render(run_dir)
    for line in gate_report.lines(record["gate"]):
        print(line, flush=True)
        logging.getLogger("truetune").info(line)
    if result != "pass":
        count = sum(row["result"] != "pass" for row in rows)
        error = GateBroken if result == "fail" else GateUndecided
        raise error(f"gate: {result}: {count} of {len(rows)} limits not passed; all was recorded ({run_dir})")


def decided(record: dict[str, Any], gate: Gate, run_dir: Path) -> list[Decision]:
    """One decision for each limit. Raises UserError for a metric that the run did not measure."""
    final, delta = metrics_from_json(record["final"]), metrics_from_json(record["delta"])
    decisions: list[Decision] = []
    for limit in gate.limits([name for name in final if not name.startswith("val/")]):
        if limit.metric not in (delta if limit.bound == "max_drop" else final):
            raise UserError(_not_measured(limit, record, run_dir))
        decisions.append(decide(limit, final[limit.metric], delta.get(limit.metric)))
    return decisions


def _not_measured(limit: Limit, record: dict[str, Any], run_dir: Path) -> str:
    """The refusal of a limit on a metric that was not measured; the record stays, for other limits to be held to it."""
    text = f"gate.{limit.bound}: {limit.metric} was not measured"
    if not record["final"]:
        text += f", for the run is {record['status']}"
    elif not record["base"] and (limit.bound == "max_drop" or metric(limit.metric).needs_base):
        text += ", for there was no base (baseline.name_or_path=...)"
    return f"{text}; all else was recorded, and truetune-report {run_dir} gate... holds other limits against it"
