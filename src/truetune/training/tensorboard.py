"""What TensorBoard shows beyond the curves: final metrics beside the hyper-parameters, and answers before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from truetune.records.record import leaves
from truetune.scoring.item import Item, Measurement
from truetune.scoring.metrics import metric
from truetune.scoring.paired import delta

SAMPLES = 20
NOT_HYPER_PARAMETERS = ("data.world", "paths", "resume", "callbacks", "logger", "measure.abstention_phrases")


def log_final(
    loggers: Sequence[Any], config: Mapping[str, Any], base: Measurement, final: Measurement, step: int
) -> None:
    """Lightning's own call writes hyper-parameters before there are metrics, so its HPARAMS tab stays empty."""
    scalars = {f"baseline/{name}": e.value for name, e in base.metrics.items()}
    scalars |= {f"delta/{name}": e.value for name, e in delta(base, final).items()}
    metrics = {name: e.value for name, e in final.metrics.items()}
    settings = {key: value for key, value in leaves(config) if not key.startswith(NOT_HYPER_PARAMETERS)}
    hyper = {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in settings.items() if "_target_" not in k}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for probe, items in final.items.items():
                logger.experiment.add_text(f"samples/{probe}", "\n".join(_table(base.items.get(probe, []), items)), 0)
            logger.log_hyperparams(hyper, metrics, step)
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
