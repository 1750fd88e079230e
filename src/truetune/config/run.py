"""The one place that knows omegaconf: a composed configuration becomes plain, checked values and a run's objects."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from truetune.config import checks, secrets, settings
from truetune.config.checks import Job
from truetune.config.make import check_allowed, make, targets
from truetune.data.dataset import Dataset
from truetune.errors import UserError, first_line
from truetune.records.run_folder import LAST

if TYPE_CHECKING:
    from truetune.data.module import Loader
    from truetune.methods.adaptation import Adaptation
    from truetune.methods.curation import Curation
    from truetune.models.pretrained import Pretrained
    from truetune.models.tiny import Embedded
    from truetune.probes.knowledge import Examiner
    from truetune.probes.measure import MeasureSettings
    from truetune.training.module import OptimizerFactory
    from truetune.training.objectives import Objective
    from truetune.training.schedules import Schedule

LOADER_KEYS = ("batch_size", "over_long", "max_tokens", "num_workers", "group_by_length", "packing")


@dataclass(frozen=True)
class Prepared:
    """All that can be checked without torch: the data read, the model's folder looked at."""

    data: Dataset
    builder: Embedded | Pretrained
    baseline: Pretrained | None = None  # only an audit has one


@dataclass(frozen=True)
class Run:
    """Everything that `truetune.commands.train` needs; `config` is plain and resolved, and is what run.json records."""

    config: dict[str, Any]
    prepared: Prepared
    run_dir: Path

    @property
    def recorded(self) -> dict[str, Any]:
        """The configuration as it is written down: without secrets."""
        return secrets.hide(self.config)

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def loader(self) -> Loader:
        from truetune.data.module import Loader

        return Loader(**{key: value for key, value in self.config["data"].items() if key in LOADER_KEYS})

    @property
    def cache(self) -> Path:
        return Path(self.config["paths"]["cache_dir"])

    @property
    def trainer(self) -> dict[str, Any]:
        return {key: value for key, value in self.config["trainer"].items() if key != "_target_"}

    @property
    def checkpoint(self) -> Path | None:
        """Where a resumed run goes on."""
        resume = self.config.get("resume")
        return None if not resume else Path(resume) if resume.endswith(".ckpt") else self.run_dir / LAST

    def optimizer(self) -> OptimizerFactory:
        return make(self.config["optimizer"], "optimizer")

    def schedule(self) -> Schedule:
        return make(self.config["schedule"], "schedule")

    def objectives(self) -> list[Objective]:
        return list(self._made("objective").values())

    def _made(self, group: str, **extra: Any) -> dict[str, Any]:
        return {name: make(node, f"{group}.{name}", **extra) for name, node in (self.config.get(group) or {}).items()}

    def decoding(self) -> Any:
        """How the tuned model answers the probes, if not greedily; at most one."""
        return next(iter(self._made("decoding").values()), None)

    def curations(self) -> dict[str, Curation]:
        return self._made("curation")

    def adaptations(self) -> list[Adaptation]:
        return list(self._made("adaptation").values())

    def callbacks(self) -> list[Any]:
        return list(self._made("callbacks").values())

    def loggers(self) -> list[Any]:
        return list(self._made("logger").values())

    @property
    def measure(self) -> MeasureSettings:
        from truetune.probes.measure import MeasureSettings

        extras = self.config["extras"]
        return MeasureSettings(
            points=extras["measure_points"],
            max_new_tokens=extras["max_new_tokens"],
            batch_size=extras["measure_batch_size"],
            abstention_phrases=extras["abstention_phrases"],
            wrong_cost=extras["wrong_cost"],
        )

    @property
    def knowledge(self) -> Examiner:
        from truetune.probes.knowledge import Examiner

        extras = self.config["extras"]
        return Examiner(
            label=extras["label_facts"],
            samples=extras["knowledge_samples"],
            temperature=extras["knowledge_temperature"],
            shots=extras["knowledge_shots"],
            prompts=extras["knowledge_prompts"],
        )

    def probes(self) -> list[Any]:
        return list(self._made("probe", asking=self.measure.asking).values())


def prepare(cfg: DictConfig, job: Job = "train", read: dict[str, Dataset] | None = None) -> Prepared:
    """Checks every key and every cross-field rule, reads the data; raises UserError. No torch is imported.

    `read` holds the data that the job before has read: a sweep over other keys reads its files once.
    """
    cfg = cfg.copy()
    cfg.paths.output_dir = "."  # known once Hydra has made the folder
    config = plain(cfg)
    if job == "train":
        checks.trainable(config)
    settings.check(config, needs_loader=job == "train")
    checks.groups(config, job)
    checks.probes(config)
    if job == "train":
        checks.together(config)
        checks.precision(config)
        checks.trainer(config)
        checks.methods(config)
        checks.abstentions(config)
    for key, target in targets(config, ""):
        check_allowed(key, target)
    source = {key: value for key, value in config["data"].items() if key not in LOADER_KEYS}
    builder: Any = make(config["model"], "model")
    baseline: Pretrained | None = None
    if job == "measure" and config["baseline"]["name_or_path"] is not None:
        baseline = make(config["baseline"], "baseline", called="baseline")
    models: tuple[Any, ...] = (builder, baseline)
    for model in models:
        if hasattr(model, "check"):
            model.check()
    read = {} if read is None else read
    wanted = json.dumps(source, sort_keys=True, default=str)
    if wanted not in read:
        read.clear()
        read[wanted] = make(source, "data").load()
    data = read[wanted]
    data = replace(data, notes=[*data.notes, *checks.questions(data.task)])
    if job == "train":
        more = "replay" in config["curation"] or any(not example.prompt for example in data.train)
        data = replace(data, notes=[*data.notes, *checks.length(config, len(data.train), more=more)])
        asking = {"task", "hallucination"} & {*config["probe"]}
        checks.old_texts(config, there=data.pretraining is not None)
        checks.selection(config, task=bool(asking and data.select_task), known=bool(data.select_known))
    return Prepared(data, builder, baseline)


def build(cfg: DictConfig, prepared: Prepared, run_dir: Path) -> Run:
    return Run(plain(cfg), prepared, run_dir)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolved, without omegaconf types; raises UserError naming a missing value or environment variable."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    secrets.note(str(own))
    try:
        found: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a key"
        raise UserError(f"{key} has no value; type {key}=...") from None
    except InterpolationResolutionError as error:
        if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
            raise UserError(f"{missing[1]} has no value; type {missing[1]}=...") from None
        raise UserError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from None
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from None
    return found
