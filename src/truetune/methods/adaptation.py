"""How the weights may move: which are trained, through what, and how far the result goes from the base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor

from truetune.data.dataset import Dataset
from truetune.data.values import BelowOne, Count, Positive, Share, Text, YesOrNo
from truetune.errors import Say, UserError, first_line
from truetune.probes.selection import can_select


@dataclass(frozen=True)
class Trained:
    """A model after training, the weights it started from, and `score()`: `val/score` of the model as it stands.

    `keep(name, value)` puts a value into run.json.
    """

    model: Any
    start: dict[str, Tensor]
    score: Callable[[], float]
    say: Say
    keep: Callable[[str, Any], None] = lambda name, value: None


class Adaptation(Protocol):
    """Both return the model to go on with."""

    def prepare(self, model: Any) -> Any: ...

    def finish(self, trained: Trained) -> Any: ...


@dataclass(frozen=True)
class Freeze:
    """Parameters whose name matches one of the patterns are not trained."""

    patterns: Annotated[list[Text], Field(min_length=1)]

    def prepare(self, model: Any) -> Any:
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        for pattern in self.patterns:
            matches = [parameter for name, parameter in parameters.items() if fnmatch(name, pattern)]
            if not matches:
                examples = ", ".join([*parameters][:12])
                raise UserError(f"adaptation.freeze: {pattern!r} matches no parameter; there are {examples}, ...")
            for parameter in matches:
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in parameters.values()):
            raise UserError(
                f"adaptation.freeze: {', '.join(self.patterns)} freezes every parameter; nothing would train"
            )
        return model

    def finish(self, trained: Trained) -> Any:
        return trained.model.requires_grad_(True)


@dataclass(frozen=True)
class Interpolate:
    """Weights (1 - alpha) * base + alpha * tuned, alpha chosen by `val/score` (Wortsman et al. 2022, WiSE-FT)."""

    alphas: Annotated[list[Share], Field(min_length=1)]

    def check(self, config: Mapping[str, Any], data: Dataset) -> list[str]:
        if not can_select(config, data):
            raise UserError(
                "adaptation.interpolate: this data source, with these probes, has no selection questions; leave it out"
            )
        return []

    def prepare(self, model: Any) -> Any:
        return model

    @torch.no_grad()
    def finish(self, trained: Trained) -> Any:
        end = {name: value.detach().clone() for name, value in trained.model.named_parameters()}

        def set_weights(alpha: float) -> None:
            for name, parameter in trained.model.named_parameters():
                parameter.copy_(torch.lerp(trained.start[name].to(parameter), end[name], alpha))

        scores: dict[float, float] = {}
        for alpha in self.alphas:
            set_weights(alpha)
            scores[alpha] = trained.score()
        best = max(scores, key=lambda alpha: scores[alpha])
        set_weights(best)
        trained.keep("interpolation", {"alpha": list(scores), "val/score": list(scores.values())})
        listing = ", ".join(f"{alpha:g}: {score:.3f}" for alpha, score in scores.items())
        trained.say(f"interpolation between base and tuned weights, val/score at alpha {listing}; {best:g} is kept")
        return trained.model


@dataclass(frozen=True)
class Lora:
    """Low-rank updates beside frozen weights (Hu et al. 2022), merged at the end; without modules named, all linear."""

    conflicts: ClassVar[tuple[str, ...]] = ("freeze", "interpolate", "l2_sp", "ewc")

    r: Count
    alpha: Positive
    dropout: BelowOne
    target_modules: Annotated[list[Text], Field(min_length=1)] | None
    use_rslora: YesOrNo
    use_dora: YesOrNo
    intruders: Share | None = None

    @property
    def keeps_adapter(self) -> bool:
        """Whether the model that is measured is exactly the base with the adapter merged into it."""
        return self.intruders is None

    def prepare(self, model: Any) -> Any:
        if self.intruders is not None and hasattr(model, "hf_quantizer"):
            raise UserError("adaptation.lora.intruders: weights of 4 bits have no singular vectors; leave it out")
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise UserError("adaptation.lora needs the package peft; type: pip install 'truetune[lora]'") from None
        settings = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules) if self.target_modules else "all-linear",
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            task_type="CAUSAL_LM",
        )
        try:
            return get_peft_model(model, settings)
        except ValueError as error:
            linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
            layers = ", ".join(sorted(linear))
            raise UserError(f"adaptation.lora: {first_line(error)[:160]}; layers: {layers}") from None

    def finish(self, trained: Trained) -> Any:
        """With `intruders`, that share is left of leading directions that the base lacks (Shuttleworth et al. 2024)."""
        if self.intruders is not None:
            from peft.tuners.lora.intruders import reduce_intruder_dimension

            lines: list[str] = []
            reduce_intruder_dimension(trained.model, mitigation_lambda=self.intruders, logging_sink=lines.append)
            layers = sum("Intruders:" in line for line in lines)
            trained.say(f"lora: intruding directions in {layers} layers, {self.intruders:g} of each is left")
        return merged(trained.model)


def merged(model: Any) -> Any:
    """The model inside an adapter, with the adapter's updates added to its weights.

    Weights of 4 bits are made whole first: in them the updates would be rounded to 4 bits as well.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    if hasattr(model.get_base_model(), "hf_quantizer"):
        settings, updates = model.peft_config["default"], get_peft_model_state_dict(model)
        model = get_peft_model(model.unload().dequantize(), settings)
        set_peft_model_state_dict(model, updates)
    return model.merge_and_unload()
