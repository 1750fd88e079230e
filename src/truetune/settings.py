"""What each key of the configuration may hold. YAML has no types: this table is where `optimizer.lr=abc` is refused.

A pattern's `*` stands for one part of a key. Every key in conf/ has a row here (a test says so); nodes whose `_target_`
is not ours (a user's own class, Lightning's callbacks and loggers) are checked by that class's signature instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from typing import Annotated, Any, Literal, Optional

from pydantic import Field, TypeAdapter, ValidationError

from truetune.errors import UserError

# Strict: a text that looks like a number or a truth value would pass the check and fail in the middle of a run.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
YesOrNo = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
Target = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")]
OverLong = Literal["error", "truncate", "skip"]
Precision = Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "32", "bf16", "16", 32, 16]

POPULATIONS = ("school", "known-train", "known-test", "known-select", "new", "never")
RULES: dict[str, Any] = {
    "task_name": Annotated[str, Field(pattern=r"^[\w.-]+$")],
    "tags": list[str],
    "seed": Seed,
    "resume": Optional[Text],  # noqa: UP045
    "*._target_": Target,
    "*.*._target_": Target,
    "*.*.*._target_": Target,
    "*._partial_": YesOrNo,
    "*.seed": Seed,
    "data.world.noun": Text,
    "data.world.nouns": Text,
    "data.world.values_per_attribute": Annotated[int, Field(ge=2, le=10_000, strict=True)],
    "data.world.*_words": Annotated[list[Text], Field(min_length=1)],
    "data.world.attributes.*.analyst": Text,
    "data.world.attributes.*.endings": Annotated[list[Text], Field(min_length=1)],
    "data.world.attributes.*.filings": Annotated[list[Text], Field(min_length=1)],
    "data.world.attributes.*.questions": Annotated[list[Text], Field(min_length=1)],
    **dict.fromkeys((f"data.populations.{name}" for name in POPULATIONS), CountOrZero),
    "data.populations.school": Count,  # without school questions the base never learns to answer
    "data.companies": Count,
    "data.new_share": Share,
    "data.new_names": Literal["shared", "disjoint"],
    "data.filings_per_step": Count,
    "data.questions_per_step": Count,
    "data.exercises_per_step": CountOrZero,
    "data.unanswerable_share": BelowOne,
    "data.held_out_filings": Count,
    "data.exercises": Annotated[int, Field(ge=0, le=10_000, strict=True)],
    "data.train_file": Text,
    "data.probe_file": Optional[Text],  # noqa: UP045
    "data.retention_file": Optional[Text],  # noqa: UP045
    "data.probe_questions": CountOrZero,
    "data.validation_rows": CountOrZero,
    "data.held_out_share": Annotated[float, Field(gt=0, lt=1, strict=True)],
    "data.prompt_template": Text,
    "data.on_bad_row": Literal["error", "skip"],
    "data.batch_size": Count,
    "data.over_long": OverLong,
    "data.num_workers": CountOrZero,
    "model.hidden_size": Count,
    "model.intermediate_size": Count,
    "model.layers": Count,
    "model.heads": Count,
    "model.context_length": Annotated[int, Field(ge=8, strict=True)],
    "model.vocabulary_size": Annotated[int, Field(ge=300, strict=True)],
    "model.pretraining.steps": Count,
    "model.pretraining.lr": Positive,
    "model.pretraining.warmup_steps": CountOrZero,
    "model.pretraining.weight_decay": NotNegative,
    "model.pretraining.gradient_clip_val": Positive,
    "model.name_or_path": Text,
    "model.dtype": Literal["float32", "bfloat16", "float16"],
    "model.trust_remote_code": YesOrNo,
    "model.revision": Optional[Text],  # noqa: UP045
    "baseline.name_or_path": Optional[Text],  # noqa: UP045
    "baseline.dtype": Literal["float32", "bfloat16", "float16"],
    "baseline.trust_remote_code": YesOrNo,
    "baseline.revision": Optional[Text],  # noqa: UP045
    "objective.*.weight": NotNegative,
    "objective.*.positions": Literal["target", "all"],
    "optimizer.lr": Positive,
    "optimizer.betas": tuple[BelowOne, BelowOne],
    "optimizer.eps": Positive,
    "optimizer.weight_decay": NotNegative,
    "optimizer.momentum": BelowOne,
    "schedule.lr_end": NotNegative,
    "schedule.warmup_steps": CountOrZero,
    "schedule.decay_steps": Count,
    "schedule.rate": Share,
    "schedule.every": Count,
    "trainer._target_": Literal["lightning.pytorch.Trainer"],
    "trainer.max_epochs": Count,
    "trainer.accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
    "trainer.devices": Count | Literal["auto"] | Annotated[list[CountOrZero], Field(min_length=1)],
    "trainer.precision": Precision,
    "trainer.accumulate_grad_batches": Count,
    "trainer.log_every_n_steps": Count,
    "trainer.check_val_every_n_epoch": Count,
    "trainer.deterministic": YesOrNo | Literal["warn"],
    "trainer.gradient_clip_val": Optional[Positive],  # noqa: UP045
    "trainer.gradient_clip_algorithm": Literal["norm", "value"],
    "trainer.limit_train_batches": Annotated[float, Field(gt=0, le=1, strict=True)] | Count,
    "trainer.*": Any,
    "curation.*.answer": Text,
    "curation.*.weight": Share,
    "curation.*.ratio": Positive,
    "adaptation.*.patterns": Annotated[list[Text], Field(min_length=1)],
    "adaptation.*.alphas": Annotated[list[Share], Field(min_length=1)],
    "adaptation.*.r": Count,
    "adaptation.*.alpha": Positive,
    "adaptation.*.dropout": BelowOne,
    "adaptation.*.target_modules": Optional[Annotated[list[Text], Field(min_length=1)]],  # noqa: UP045
    "adaptation.*.use_rslora": YesOrNo,
    "adaptation.*.use_dora": YesOrNo,
    "callbacks.*": Any,
    "logger.*": Any,
    "paths.*": Text,
    "extras.measure_points": Count,
    "extras.max_new_tokens": Count,
    "extras.measure_batch_size": Count,
    "extras.abstention_phrases": list[Text],
    "extras.threads": Optional[Annotated[int, Field(ge=1, le=1024, strict=True)]],  # noqa: UP045
    "extras.final": Literal["last", "best"],
    "extras.save_model": YesOrNo,
    "extras.label_facts": YesOrNo,
    "extras.knowledge_samples": Count,
    "extras.knowledge_temperature": Positive,
}

# What a run reads by name; all else is checked by the signature of the class that takes it.
REQUIRED = (
    "seed",
    "data.batch_size",
    "data.over_long",
    "data.num_workers",
    "model.pretraining.steps",
    "model.pretraining.warmup_steps",
    "optimizer.lr",
    "trainer.max_epochs",
    "trainer.accumulate_grad_batches",
    *(key for key in RULES if key.startswith("extras.")),
    "paths.cache_dir",
)
OPEN = ("callbacks", "logger", "trainer")  # takes any key that the class behind it takes
# Each key of theirs is an object to make.
COLLECTIONS = ("objective", "probe", "curation", "adaptation", "callbacks", "logger")


@cache
def _adapter(pattern: str) -> TypeAdapter[Any]:
    return TypeAdapter(RULES[pattern])


@cache
def _expressions() -> list[tuple[re.Pattern[str], str]]:
    """Exact keys first, then the patterns in the order written."""
    ordered = sorted(RULES, key=lambda pattern: "*" in pattern)
    return [(re.compile(re.escape(p).replace(r"\*", r"[^.]+")), p) for p in ordered]


def rule_for(key: str) -> str | None:
    """The pattern of RULES that a key falls under."""
    if key.split(".")[0] in OPEN and key not in RULES:
        return f"{key.split('.')[0]}.*"
    return next((pattern for expression, pattern in _expressions() if expression.fullmatch(key)), None)


def check(config: Mapping[str, Any], *, needs_loader: bool = True) -> None:
    """Raises UserError naming the first key whose value is not allowed, or that nothing reads."""
    foreign = [key for key, target in _targets(config) if not target.startswith(("truetune.", "torch.", "lightning."))]
    for key, value in leaves(config, empty=True):
        pattern = None if key.rpartition(".")[0] in RULES else rule_for(key)
        if pattern is None:
            if value == {} or any(key.startswith(f"{node}.") for node in foreign):
                continue
            raise UserError(_not_a_key(key, value))
        try:
            _adapter(pattern).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{key}={_shown(value)}: {_reason(error)}") from None
    for key in REQUIRED:
        *parents, name = key.split(".")
        node = reduce(lambda found, parent: found.get(parent, {}), parents, dict(config))
        if node and name not in node and (needs_loader or parents != ["data"]):
            raise UserError(f"{key} is missing, and a run reads it; type {key}=...")
    for group in COLLECTIONS:
        for name, node in (config.get(group) or {}).items():
            if not isinstance(node, Mapping) or "_target_" not in node:
                raise UserError(f"{group}.{name}: names no class; type +{group}.{name}._target_=...")


def _not_a_key(key: str, value: Any) -> str:
    parent = key.rpartition(".")[0]
    if parent in RULES:
        return f"{parent}: should be a value, found keys ({key}={_shown(value)}); type {parent}=..."
    inner = [pattern for pattern in RULES if pattern.startswith(f"{key}.")]
    if inner:
        return f"{key}={_shown(value)}: should hold keys of its own; set one of them, such as {inner[0]}"
    return f"{key}: no such key{near(key, [p for p in RULES if '*' not in p])}"


def leaves(config: Mapping[str, Any], prefix: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Every key with a value; a list is a value, a mapping is not, or only an `empty` one."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (value or not empty):
            yield from leaves(value, f"{key}.", empty=empty)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield key, value


def _targets(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in leaves(config):
        if key.endswith("._target_"):
            yield key.removesuffix("._target_"), str(value)


def near(word: str, known: Sequence[str]) -> str:
    """`; did you mean a, b?` or nothing."""
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(found)}?" if found else ""


def _shown(value: Any) -> str:
    return "" if value is None else str(value)[:80]


def _reason(error: ValidationError) -> str:
    """The library's own words, one line; of a union's complaints, each once."""
    words = dict.fromkeys(problem["msg"].replace("Input should", "should") for problem in error.errors())
    return " or ".join(words)
