"""What a setting may hold: the types with which a configured class annotates its fields.

Strict, since YAML has no types: a text that looks like a number would pass and fail in the middle of a run.
"""

from typing import Annotated, Literal

from pydantic import Field

Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Part = Annotated[float, Field(gt=0, le=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]
Rate = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False, strict=True)]  # above it an optimizer's sums overflow
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
YesOrNo = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Dtype = Literal["float32", "bfloat16", "float16"]
