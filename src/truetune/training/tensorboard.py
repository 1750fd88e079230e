"""What TensorBoard shows beyond the curves: final metrics beside the hyper-parameters, and answers before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from truetune.records.record import leaves
from truetune.scoring.estimates import Estimate
from truetune.scoring.item import Item, Measurement
from truetune.scoring.metrics import metric

SAMPLES = 20
NOT_HYPER_PARAMETERS = ("data.world", "paths", "resume", "callbacks", "logger", "measure.abstention_phrases")


def log_final(
    loggers: Sequence[Any],
    config: Mapping[str, Any],
    base: Measurement,
    final: Measurement,
    deltas: Mapping[str, Estimate],
    step: int,
) -> None:
    """Lightning's own call writes hyper-parameters before there are metrics, so its HPARAMS tab stays empty."""
    scalars = {f"baseline/{name}": e.value for name, e in base.metrics.items()}
    scalars |= {f"delta/{name}": e.value for name, e in deltas.items()}
    metrics = {name: e.value for name, e in final.metrics.items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_hyper_parameters(config), metrics, step)
            logger.log_metrics(scalars, step)
            lines = [f"| `{name}` | {metric(name).label} | {metric(name).definition} |" for name in metrics]
            logger.experiment.add_text("metrics", "\n".join(["| name | label | meaning |", "|---|---|---|", *lines]), 0)
        else:
            logger.log_metrics({**metrics, **scalars}, step)
        logger.save()
        logger.finalize("success")


def _hyper_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = ((key, value) for key, value in leaves(config) if not key.startswith(NOT_HYPER_PARAMETERS))
    return {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in kept if not k.endswith("_target_")}


def log_samples(loggers: Sequence[Any], base: Measurement, final: Measurement) -> None:
    """One Markdown table a probe: question, truth, the base's answer, the tuned answer; changed ones first."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for probe, items in final.items.items():
                table = "\n".join(_table(base.items.get(probe, []), items))
                logger.experiment.add_text(f"samples/{probe}", table, 0)


def _table(before: Sequence[Item], after: Sequence[Item]) -> Iterator[str]:
    yield "| question | truth | base | tuned | |"
    yield "|---|---|---|---|---|"
    pairs = sorted(zip(before, after, strict=False), key=lambda pair: pair[0].outcome == pair[1].outcome)
    for old, new in pairs[:SAMPLES]:
        cells = (new.question, " / ".join(new.answers) or "(none)", old.answer, new.answer, new.outcome)
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
