"""inspect_ai: its eval logs, a .json file or a .eval (a zip of one JSON file for each sample)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import error as StructError
from struct import unpack
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from truetune.data.eval_logs.log import FILES, Log, Sample, digest, text_of
from truetune.data.rows.json_rows import whole
from truetune.data.rows.row import kind, not_utf8, opened, read_utf8
from truetune.errors import UserError

HEADERS = ("header.json", "_journal/start.json")  # of a whole log, and of one that was interrupted
ZSTANDARD = 93  # a method of compression that zipfile reads only from Python 3.14 on
ATTACHMENT = "attachment://"
WORDS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
ABOUT = ("task_version", "task_args", "solver", "solver_args", "model_generate_config", "scorers")


def read(path: Path) -> Log:
    """Reads a log; raises UserError with file and place for what is no such log, or only half of one."""
    parts = _unzipped(path) if path.suffix == ".eval" else _of_json(path)
    _, header = next(parts)
    about: Any = header.get("eval")
    if not isinstance(about, dict) or "task" not in about:
        raise UserError(f"{path}: no eval log of inspect_ai: it names no task (eval.task); {FILES}")
    log = Log(str(about["task"]), path, str(about.get("model", "")))
    log.about = {key: text_of(about[key]) for key in ABOUT if about.get(key)}
    if header.get("status") not in ("success", None):
        log.notes.append(f"{path.name}: its status is {header['status']}; what it holds is compared")
    without_score = 0
    for source, row in parts:
        try:
            sample = _sample(row, log)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise UserError(f"{source}: not a sample of inspect_ai ({error!r}); {FILES}") from None
        without_score += not sample.values and bool(row.get("error"))
        log.samples.append(sample)
    if not log.samples:
        raise UserError(f"{path}: the log holds no documents (samples); run inspect eval without --no-log-samples")
    if without_score:
        log.notes.append(f"{path.name}: {without_score} samples ended in an error and have no score; they are left out")
    return log


def _of_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The header, then the samples, each with its place."""
    log = whole(read_utf8(path), str(path))
    if not isinstance(log, dict):
        raise UserError(f"{path}: found {kind(log)}, expected an eval log of inspect_ai; {FILES}")
    yield str(path), log
    samples = log.get("samples") or []
    if not isinstance(samples, list):
        raise UserError(f"{path}: samples: found {kind(samples)}, expected a list; {FILES}")
    for number, sample in enumerate(samples, start=1):
        yield _object(sample, f"{path}:sample {number}")


def _unzipped(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The header, then the samples, each with its place; one at a time is in memory."""
    with opened(path) as file:
        try:
            archive = ZipFile(file)
            names = archive.namelist()
            header = next((name for name in HEADERS if name in names), None)
            if header is None:
                raise UserError(f"{path}: no eval log of inspect_ai: it holds no {HEADERS[0]}; {FILES}")
            samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
            for name in (header, *samples):
                source = f"{path}:{name}"
                yield _object(whole(_member(archive, archive.getinfo(name), file, source), source), source)
        except (BadZipFile, StructError, EOFError, zlib.error, NotImplementedError) as error:
            raise UserError(f"{path}: not a whole .eval file ({error}); copy it again") from None


def _member(archive: ZipFile, member: ZipInfo, file: IO[bytes], source: str) -> str:
    if member.compress_type == ZSTANDARD:
        from pyarrow import ArrowException, BufferReader, CompressedInputStream

        file.seek(member.header_offset + 26)  # where the lengths of the two fields before the content stand
        name, extra = unpack("<HH", file.read(4))
        file.seek(name + extra, 1)
        try:
            content = CompressedInputStream(BufferReader(file.read(member.compress_size)), "zstd").read()
        except (ArrowException, OSError) as error:
            raise BadZipFile(f"{member.filename}: {error}") from None
        if zlib.crc32(content) != member.CRC:
            raise BadZipFile(f"{member.filename}: wrong checksum")
    else:
        content = archive.read(member)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: {not_utf8(error, 0)}") from None


def _object(value: object, source: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, dict):
        raise UserError(f"{source}: found {kind(value)}, expected an object; {FILES}")
    return source, value


def _sample(row: dict[str, Any], log: Log) -> Sample:
    attachments: dict[str, Any] = row.get("attachments") or {}
    inputs = _messages(row.get("input"), attachments)
    target = row.get("target")
    targets = [text_of(one) for one in target] if isinstance(target, list) else [text_of(target)]
    choices = [text_of(choice) for choice in row.get("choices") or []]
    prompt: list[tuple[str, str]] = []
    for role, text in _messages(row.get("messages"), attachments):
        if role == "assistant":
            break
        prompt.append((role, text))
    outputs: Any = (row.get("output") or {}).get("choices") or [{}]
    response = _text((outputs[0].get("message") or {}).get("content"), attachments)
    values: dict[str, float] = {}
    judged_answers: dict[str, str] = {}
    for scorer, score in (row.get("scores") or {}).items():
        numbers = _numbers(scorer, (score or {}).get("value"), log)
        values |= numbers
        if answer := (score or {}).get("answer"):
            judged_answers |= dict.fromkeys(numbers, _text(answer, attachments))
    letters = [f"{chr(65 + number)}) {choice}" for number, choice in enumerate(choices)]
    return Sample(
        document=digest([inputs, choices, targets]),
        values=values,
        question="\n".join([text for _, text in inputs[-1:]] + letters),
        target=" / ".join(targets),
        answer=response,
        response=response,
        judged=judged_answers,
        name=str(row.get("id", "")),
        prompt=digest(prompt),
    )


def _numbers(scorer: str, value: object, log: Log) -> dict[str, float]:
    """A score as inspect_ai counts it: C is 1, P a half, I and N are 0; an object holds several metrics."""
    if isinstance(value, dict):
        parts = [_numbers(f"{scorer}/{name}", one, log) for name, one in value.items()]
        return {name: number for one in parts for name, number in one.items()}
    if isinstance(value, str):
        value = WORDS.get(value, WORDS.get(value.lower(), value))
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        if value is not None:
            log.no_numbers[scorer] = None
        return {}
    return {scorer: number} if math.isfinite(number) else {}


def _messages(value: object, attachments: dict[str, Any]) -> list[tuple[str, str]]:
    """Role and text of each message; ids and what differs from run to run are left out."""
    if isinstance(value, list):
        return [
            (str(one.get("role")), _text(one.get("content"), attachments)) for one in value if isinstance(one, dict)
        ]
    return [("user", _text(value, attachments))]


def _text(content: object, attachments: dict[str, Any]) -> str:
    """The text of a message's content, which is a text or a list of parts; long texts are stored as attachments."""
    if isinstance(content, list):
        parts = (part.get("text") or part.get("type") if isinstance(part, dict) else part for part in content)
        return "\n".join(_text(part, attachments) for part in parts)
    text = "" if content is None else text_of(content)
    return str(attachments.get(text.removeprefix(ATTACHMENT), text)) if text.startswith(ATTACHMENT) else text
