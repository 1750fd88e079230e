"""lm-evaluation-harness: what `lm_eval --log_samples` writes, one JSON object for a document and a filter."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from truetune.data.eval_logs.log import FILES, Log, Sample, digest, text_of
from truetune.data.rows.json_rows import lines
from truetune.data.rows.row import BadRow, Reading, named
from truetune.errors import UserError

NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)$")
NOT_METRICS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}
ABOUT = (
    *("num_fewshot", "doc_to_text", "doc_to_choice", "doc_to_target", "description", "fewshot_delimiter"),
    *("target_delimiter", "filter_list", "metric_list", "generation_kwargs"),
)

SHORTEST = 10  # characters of a document's text to be looked for in the prompt: a shorter one may stand there by chance


def read(path: Path) -> Log:
    """Reads a log; raises UserError with file and line for what is no such log, or only half of one."""
    name = NAME.match(path.stem)
    log = Log(name["task"] if name else path.stem.removeprefix("samples_"), path, path.absolute().parent.name)
    if name:
        _add_results(log, path.with_name(f"results_{name['date']}.json"))
    for record in lines(path, Reading(constants=True)):
        if isinstance(record.content, BadRow):
            raise UserError(f"{record.content}; {FILES}")
        if record.content is not None:
            try:
                log.samples.append(_sample(record.content, record.source, log))
            except (AttributeError, IndexError, KeyError, TypeError) as error:
                raise UserError(f"{record.source}: not a sample of lm_eval ({error!r}); {FILES}") from None
    if not log.samples:
        raise UserError(f"{path}: the log holds no documents; {FILES}")
    return log


def date(path: Path) -> str:
    """When the log was written, as its name says."""
    name = NAME.match(path.stem)
    return name["date"] if name else ""


def _add_results(log: Log, path: Path) -> None:
    """Model, versions and directions from the results that lm_eval writes beside the samples, if they are there."""
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = results.get("configs", {}).get(log.task, {})
        log.model = str(results.get("model_name") or log.model)
        log.about = {key: text_of(config[key]) for key in ABOUT if config.get(key) is not None}
        log.about |= {"version": text_of(results.get("versions", {}).get(log.task))}
        log.about |= {"chat template": str(results.get("chat_template_sha"))[:12]}
        log.higher_is_better = dict(results.get("higher_is_better", {}).get(log.task, {}))
    except (OSError, ValueError, AttributeError, TypeError):
        return  # the samples alone are enough


def _sample(row: dict[str, Any], source: str, log: Log) -> Sample:
    doc, doc_hash = row.get("doc"), row.get("doc_hash")
    if doc is None and not doc_hash:
        raise UserError(f"{source}: no document (doc or doc_hash), found the fields {named(list(row))}; {FILES}")
    names = row.get("metrics")
    names = [str(name) for name in names] if isinstance(names, list) else [n for n in row if n not in NOT_METRICS]
    filter_name = str(row.get("filter") or "none")
    values: dict[str, float] = {}
    for name in names:
        value = row.get(name)
        if isinstance(value, (bool, int, float)):
            if math.isfinite(value):
                values[_metric_name(name, filter_name)] = float(value)
        elif value is not None:
            log.no_numbers[name] = None
    requests = _requests(row.get("arguments"))
    prompts = [[part for part in request if not isinstance(part, dict)] for request in requests]
    question, target, answer, judged_texts = _texts(row, prompts)
    responses = row.get("resps")
    first = responses[0] if isinstance(responses, list) and responses else ""
    response = "" if len(requests) > 1 else _response(first)
    return Sample(
        document="" if doc is None else digest(doc),
        values=values,
        question=question,
        target=target,
        answer=answer,
        response="" if response == answer else response,
        judged={_metric_name(name, filter_name): text for name, text in judged_texts.items()},
        doc_hash=str(doc_hash or ""),
        name=str(row.get("doc_id", "")),
        filter=filter_name,
        prompt=digest(prompts) if requests else str(row.get("prompt_hash") or ""),
        settings=digest([[part for part in request if isinstance(part, dict)] for request in requests]),
    )


def _metric_name(metric: str, filter_name: str) -> str:
    """The metric with its filter, as lm_eval's own tables write it."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def _requests(arguments: object) -> list[list[Any]]:
    """What the model was asked, once for each choice: {"gen_args_0": {"arg_0": ...}}, or lists in older logs."""
    if isinstance(arguments, dict):
        keys = takewhile(arguments.__contains__, map("gen_args_{}".format, count()))
        requests: list[Any] = [arguments[key] for key in keys]
        return [list(request.values()) if isinstance(request, dict) else [request] for request in requests]
    if isinstance(arguments, list):
        return [list(request) if isinstance(request, list) else [request] for request in arguments]
    return []


def _texts(row: dict[str, Any], prompts: Sequence[Sequence[object]]) -> tuple[str, str, str, dict[str, str]]:
    """(question, target, answer, answers by metric) as text: choices by what they say, not by their numbers."""
    target, responses = text_of(row.get("target")), row.get("filtered_resps")
    responses = responses if isinstance(responses, list) else [responses]
    texts = [[text_of(part) for part in prompt] for prompt in prompts]
    question = _question(texts[0][0], row.get("doc")) if texts and texts[0] else text_of(row.get("doc"))
    likelihoods = [_likelihood(response) for response in responses]
    pairs = [text for text in texts if len(text) == 2]
    if len(responses) < 2 or len(pairs) < len(responses) or None in likelihoods:
        return question, target, _response(responses[0] if responses else ""), {}
    pairs = pairs[: len(responses)]
    if pairs[0][0].strip():  # with acc_mutual_info each choice comes a second time, without its question
        pairs = [pair for pair in pairs if pair[0].strip()]
    choice_part = 1 if len({pair[1] for pair in pairs}) > 1 else 0  # winogrande's choices stand before what is rated
    choices = [pair[choice_part].strip() for pair in pairs]
    question = _question(pairs[0][1 - choice_part], row.get("doc"))
    choice_values = [value for value in likelihoods if value is not None][: len(choices)]
    by_length = [value / max(1, len(choice)) for value, choice in zip(choice_values, choices, strict=True)]
    likeliest = choices[max(range(len(choices)), key=choice_values.__getitem__)]
    per_character = choices[max(range(len(choices)), key=by_length.__getitem__)]
    if target.isdigit() and int(target) < len(choices):
        target = choices[int(target)]
    return question, target, likeliest, {"acc_norm": per_character}


def _question(prompt: str, doc: object) -> str:
    """The part of the prompt that the document's own texts span: without examples before it and a chat template."""
    values: list[object] = list(doc.values()) if isinstance(doc, dict) else [doc]
    spans = [(prompt.rfind(text), len(text)) for text in values if isinstance(text, str) and len(text) >= SHORTEST]
    spans = [(start, start + length) for start, length in spans if start >= 0]
    return prompt[min(spans)[0] : max(end for _, end in spans)] if spans else prompt


def _likelihood(response: object) -> float | None:
    """The log-likelihood of a choice, which is logged with whether it is the likeliest continuation."""
    if not isinstance(response, list) or len(response) != 2 or str(response[1]) not in ("True", "False"):
        return None
    try:
        return float(response[0])
    except (TypeError, ValueError):
        return None


def _response(response: object) -> str:
    """The text of a response, or the texts of all repeats."""
    if isinstance(response, list):
        return " | ".join(_response(repeat) for repeat in response)
    return text_of(response)
