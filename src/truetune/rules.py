"""What the keys of methods and probes may hold, and the kinds of value that all rules are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

from pydantic import Field

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

METHODS: dict[str, Any] = {
    "objective.*.weight": NotNegative,
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
    "objective.*.texts": Count,
    "objective.*.max_tokens": Count,
    "objective.*.epochs": Count,
    "curation.*.unsure": Annotated[str, Field(pattern=r"\S")],
    "curation.*.max_tokens": Count,
    "decoding.*.layers": Literal["low", "high"],
    "decoding.*.plausible": Share,
    "extras.wrong_cost": NotNegative,
}
