"""What each key of the configuration may hold. YAML has no types: this table is where `optimizer.lr=abc` is refused.

A pattern's `*` stands for one part of a key. Every key in conf/ has a row here (a test says so); nodes whose `_target_`
is not ours (a user's own class, Lightning's callbacks and loggers) are checked by that class's signature instead.
"""

# ruff: noqa: UP045 (type checkers know no `|` of two Annotated)
from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

from pydantic import ConfigDict, Field, with_config
from typing_extensions import NotRequired, TypedDict

# Strict: a text that looks like a number or a truth value would pass the check and fail in the middle of a run.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Part = Annotated[float, Field(gt=0, le=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
YesOrNo = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Target = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")]
# Beyond it an optimizer's own sums overflow.
Rate = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False, strict=True)]
Precision = Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "32", "bf16", "16", 32, 16]
OverLong = Literal["error", "truncate", "skip"]
POPULATIONS = ("school", "known-train", "known-test", "known-select", "new", "never")


@with_config(ConfigDict(extra="forbid"))
class Mix(TypedDict):
    file: Text
    weight: Positive
    columns: NotRequired[dict[str, Text]]


RULES: dict[str, Any] = {
    "task_name": Annotated[str, Field(pattern=r"^[\w.-]+$")],
    "tags": list[str],
    "seed": Seed,
    "resume": Optional[Text],
    "optimized_metric": Optional[Text | Annotated[list[Text], Field(min_length=1)]],
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
    "data.validation_file": Optional[Text],
    "data.name": Text,
    "data.subset": Optional[Text],
    "data.split": Text,
    "data.validation_split": Optional[Text],
    "data.probe_split": Optional[Text],
    "data.revision": Optional[Text],
    "data.probe_file": Optional[Text],
    "data.retention_file": Optional[Text],
    "data.probe_questions": CountOrZero,
    "data.validation_rows": CountOrZero,
    "data.held_out_share": Annotated[float, Field(gt=0, lt=1, strict=True)],
    "data.prompt_template": Text,
    "data.chat_template": Optional[Text],
    "data.columns.*": Optional[Text],
    "data.mixture": list[Mix],
    "data.on_bad_row": Literal["error", "skip"],
    "data.batch_size": Count,
    "data.over_long": OverLong,
    "data.max_tokens": Optional[Annotated[int, Field(ge=8, strict=True)]],
    "data.num_workers": CountOrZero,
    "data.group_by_length": YesOrNo,
    "data.packing": YesOrNo,
    "model.hidden_size": Count,
    "model.intermediate_size": Count,
    "model.layers": Count,
    "model.heads": Count,
    "model.context_length": Annotated[int, Field(ge=8, strict=True)],
    "model.vocabulary_size": Annotated[int, Field(ge=300, strict=True)],
    "model.cell": Literal["lstm", "gru", "rnn"],
    "model.dropout": BelowOne,
    "model.pretraining.steps": Count,
    "model.pretraining.lr": Rate,
    "model.pretraining.warmup_steps": CountOrZero,
    "model.pretraining.weight_decay": NotNegative,
    "model.pretraining.gradient_clip_val": Positive,
    "model.name_or_path": Text,
    "model.dtype": Literal["float32", "bfloat16", "float16"],
    "model.trust_remote_code": YesOrNo,
    "model.gradient_checkpointing": YesOrNo,
    "model.compile": YesOrNo,
    "model.quant_type": Literal["nf4", "fp4"],
    "model.double_quant": YesOrNo,
    "model.revision": Optional[Text],
    "baseline.name_or_path": Optional[Text],
    "baseline.dtype": Literal["float32", "bfloat16", "float16"],
    "baseline.trust_remote_code": YesOrNo,
    "baseline.revision": Optional[Text],
    "optimizer.lr": Rate,
    "optimizer.betas": tuple[BelowOne, BelowOne],
    "optimizer.eps": Positive,
    "optimizer.weight_decay": NotNegative,
    "optimizer.fused": Optional[YesOrNo],
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
    "trainer.gradient_clip_val": Optional[Positive],
    "trainer.gradient_clip_algorithm": Literal["norm", "value"],
    "trainer.limit_train_batches": Annotated[float, Field(gt=0, le=1, strict=True)] | Count,
    "trainer.*": Any,
    "objective.*.weight": NotNegative,
    "objective.*.chunk": Optional[Count],
    "objective.*.positions": Literal["target", "all"],
    "curation.*.answer": Text,
    "curation.*.weight": Part,
    "curation.*.ratio": Part,
    "adaptation.*.patterns": Annotated[list[Text], Field(min_length=1)],
    "adaptation.*.alphas": Annotated[list[Share], Field(min_length=1)],
    "adaptation.*.r": Count,
    "adaptation.*.alpha": Positive,
    "adaptation.*.dropout": BelowOne,
    "adaptation.*.target_modules": Optional[Annotated[list[Text], Field(min_length=1)]],
    "adaptation.*.use_rslora": YesOrNo,
    "adaptation.*.use_dora": YesOrNo,
    "probe.*.wrong_cost": NotNegative,
    "probe.*.samples": Count,
    "probe.*.temperature": NotNegative,
    "probe.*.questions": Count,
    "probe.*.seed": Seed,
    "objective.*.texts": Count,
    "objective.*.max_tokens": Count,
    "objective.*.epochs": Count,
    "curation.*.unsure": Annotated[str, Field(pattern=r"\S")],
    "curation.*.max_tokens": Count,
    "decoding.*.layers": Literal["low", "high"],
    "decoding.*.plausible": Share,
    "extras.wrong_cost": NotNegative,
    "callbacks.early_stopping.patience": CountOrZero,
    "callbacks.median_pruning.runs": Count,
    "callbacks.median_pruning.epochs": Count,
    "callbacks.*": Any,
    "logger.*": Any,
    "paths.*": Text,
    "extras.preview": CountOrZero,
    "extras.measure_points": Count,
    "extras.max_new_tokens": Count,
    "extras.measure_batch_size": Count,
    "extras.abstention_phrases": list[Text],
    "extras.threads": Optional[Annotated[int, Field(ge=1, le=1024, strict=True)]],
    "extras.on_nonfinite": Literal["stop", "skip_step", "rewind"],
    "extras.final": Literal["last", "best"],
    "extras.save_model": YesOrNo,
    "extras.label_facts": YesOrNo,
    "extras.knowledge_samples": Count,
    "extras.knowledge_temperature": Positive,
    "extras.knowledge_shots": CountOrZero,
    "extras.knowledge_prompts": Count,
}
