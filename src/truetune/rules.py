"""What the keys of data, methods and probes may hold, and the kinds of value that all rules are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

from pydantic import ConfigDict, Field, with_config
from typing_extensions import NotRequired, TypedDict

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
POPULATIONS = ("school", "known-train", "known-test", "known-select", "new", "never")


@with_config(ConfigDict(extra="forbid"))
class Mix(TypedDict):
    file: Text
    weight: Positive
    columns: NotRequired[dict[str, Text]]


DATA: dict[str, Any] = {
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
    "data.validation_file": Optional[Text],  # noqa: UP045
    "data.name": Text,
    "data.subset": Optional[Text],  # noqa: UP045
    "data.split": Text,
    "data.revision": Optional[Text],  # noqa: UP045
    "data.probe_file": Optional[Text],  # noqa: UP045
    "data.retention_file": Optional[Text],  # noqa: UP045
    "data.probe_questions": CountOrZero,
    "data.validation_rows": CountOrZero,
    "data.held_out_share": Annotated[float, Field(gt=0, lt=1, strict=True)],
    "data.prompt_template": Text,
    "data.chat_template": Optional[Text],  # noqa: UP045
    "data.columns.*": Optional[Text],  # noqa: UP045
    "data.mixture": list[Mix],
    "data.on_bad_row": Literal["error", "skip"],
    "data.batch_size": Count,
    "data.over_long": OverLong,
    "data.num_workers": CountOrZero,
    "data.group_by_length": YesOrNo,
    "data.packing": YesOrNo,
}

METHODS: dict[str, Any] = {
    "objective.*.weight": NotNegative,
    "objective.*.chunk": Optional[Count],  # noqa: UP045
    "objective.*.positions": Literal["target", "all"],
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
    "probe.*.wrong_cost": NotNegative,
    "probe.*.samples": Count,
    "probe.*.temperature": NotNegative,
    "probe.*.questions": Count,
    "probe.*.seed": Seed,
    "extras.wrong_cost": NotNegative,
}
