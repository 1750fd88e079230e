"""What the logs of other tools are read into: a sample for each document that a model answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

FILES = "name a samples_TASK_DATE.jsonl of lm_eval --log_samples, a .eval or .json of inspect_ai, or a folder of them"


@dataclass(frozen=True)
class Sample:
    """A document as one model answered it, judged by the metrics that give a number for each document.

    `doc_hash` is the tool's own hash, `document` ours, of the document's text; `prompt` and `settings` are digests of
    what the model was given. `judged` maps a metric to the text that it judged, where not `answer`.
    """

    document: str
    values: Mapping[str, float]
    question: str
    target: str
    answer: str
    response: str = ""  # the whole response, where the answer is a part of it
    judged: Mapping[str, str] = field(default_factory=dict[str, str])
    doc_hash: str = ""
    name: str = ""  # the tool's own name, for a reader who looks it up
    filter: str = ""
    prompt: str = ""
    settings: str = ""


@dataclass
class Log:
    """One task's samples. `about` is what the log says of the task: versions and settings that should be equal."""

    task: str
    path: Path
    model: str = ""
    samples: list[Sample] = field(default_factory=list[Sample])
    about: dict[str, str] = field(default_factory=dict[str, str])
    higher_is_better: dict[str, bool] = field(default_factory=dict[str, bool])
    no_numbers: dict[str, None] = field(default_factory=dict[str, None])  # metrics that give no number for a document
    notes: list[str] = field(default_factory=list[str])


def digest(value: object) -> str:
    """Hash of any JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def text_of(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
