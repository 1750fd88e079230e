"""lm-evaluation-harness runs an exported folder as it is, without a network: pip install 'truetune[eval]'."""

import json

import pytest
from test_export import finished, lm  # noqa: F401  the fixtures

from truetune.commands.export import export

lm_eval = pytest.importorskip("lm_eval", minversion="0.4.13")
task_managers = pytest.importorskip("lm_eval.tasks")

TASK = """
task: yes_or_no
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{right}}}}"
metric_list: [{{metric: acc}}]
"""


def test_the_harness_runs_an_exported_folder(finished, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    asked = {"question": "question : who is the auditor of Amber Analytics ? answer :", "choices": [" yes", " no"]}
    rows = [{**asked, "right": right} for right in (0, 1, 1, 1)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "task.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    out = export(finished, tmp_path / "out")
    tasks = task_managers.TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    arguments = {"model": "hf", "model_args": f"pretrained={out},dtype=float32", "device": "cpu", "batch_size": 2}
    found = lm_eval.simple_evaluate(**arguments, tasks=["yes_or_no"], task_manager=tasks, bootstrap_iters=0)
    # One and the same question each time: the model gives one and the same answer.
    assert found["results"]["yes_or_no"]["acc,none"] in (0.25, 0.75)
    assert found["n-samples"]["yes_or_no"]["effective"] == 4
