"""What TensorBoard shows beyond the curves: final metrics beside the hyper-parameters, and answers before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from truetune.errors import UserError
from truetune.records.record import leaves
from truetune.records.run_folder import WORDS, hydra_setting, noted, swept
from truetune.scoring.item import Item, Measurement
from truetune.scoring.metrics import metric
from truetune.scoring.paired import delta

SAMPLES = 20
MOST = 15  # hyper-parameters: of more, TensorBoard's parallel coordinates show nothing
ALWAYS = ("seed", "model", "data", "method")
NOT_HYPER_PARAMETERS = ("paths", "hydra", "resume", "callbacks", "logger", "run.save_model", "run.merge", "allow")


def hyper_parameters(folder: Path, config: Mapping[str, Any]) -> dict[str, int | float | str]:
    """What a sweep varies, what else was typed, and the keys of ALWAYS, with their values in `config`.

    The value of a group (`method=lora`) is the choice. Without Hydra's notes in the folder only the seed is known.
    """
    choices: dict[str, Any] = {}
    words: list[str] = []
    with suppress(UserError):
        words = [str(word) for word in noted(folder, WORDS)]
        choices = dict(hydra_setting(folder, "runtime.choices") or {})
    values = {**dict(leaves(config)), **{key: choice for key, choice in choices.items() if choice is not None}}
    typed_keys = [word.lstrip("+").partition("=")[0] for word in words]
    keys = [key for key in [*swept(folder), *typed_keys] if key in values and not key.startswith(NOT_HYPER_PARAMETERS)]
    keys = [key for key in dict.fromkeys(keys) if key not in ALWAYS or key in swept(folder)]
    always = [key for key in ALWAYS if key in values and key not in keys]
    parameters = {key: values[key] for key in [*keys[: MOST - len(always)], *always]}
    return {key: value if isinstance(value, (int, float, str)) else str(value) for key, value in parameters.items()}


def log_final(trainer: Trainer, folder: Path, config: Mapping[str, Any], base: Measurement, final: Measurement) -> None:
    """Writes hyper-parameters and metrics together: Lightning's own call is too early and leaves HPARAMS empty."""
    loggers, step = trainer.loggers if trainer.is_global_zero else [], trainer.global_step
    scalars = {f"baseline/{name}": e.value for name, e in base.metrics.items()}
    scalars |= {f"delta/{name}": e.value for name, e in delta(base, final).items()}
    names = sorted(final.metrics, key=lambda name: (name != "balance/score", not name.startswith("balance/")))
    metrics = {name: final.metrics[name].value for name in names}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for probe, items in final.items.items():
                logger.experiment.add_text(f"samples/{probe}", "\n".join(_table(base.items.get(probe, []), items)), 0)
            logger.log_hyperparams(hyper_parameters(folder, config), metrics, step)
            logger.log_metrics(scalars, step)
            lines = [f"| `{name}` | {metric(name).label} | {metric(name).definition} |" for name in metrics]
            logger.experiment.add_text("metrics", "\n".join(["| name | label | meaning |", "|---|---|---|", *lines]), 0)
        else:
            logger.log_metrics({**metrics, **scalars}, step)
        logger.save()
        logger.finalize("success")


def _table(before: Sequence[Item], after: Sequence[Item]) -> Iterator[str]:
    """Markdown, one row a question: its truth, the base's answer, the tuned answer; changed ones first."""
    yield "| question | truth | base | tuned | |"
    yield "|---|---|---|---|---|"
    pairs = sorted(zip(before, after, strict=False), key=lambda pair: pair[0].outcome == pair[1].outcome)
    for old, new in pairs[:SAMPLES]:
        cells = (new.question, " / ".join(new.answers) or "(none)", old.answer, new.answer, new.outcome)
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
