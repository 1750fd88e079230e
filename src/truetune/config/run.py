"""Turns a composed configuration into plain, checked values and the objects of a run."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from pydantic import Field

from truetune.config import checks, instantiation, secrets
from truetune.config.checks import Command
from truetune.config.gate import Gate
from truetune.data.dataset import Dataset
from truetune.data.file_cache import kept
from truetune.data.values import CountOrZero, YesOrNo
from truetune.errors import UserError, first_line, tell
from truetune.records.record import has_base
from truetune.records.run_folder import LAST

if TYPE_CHECKING:
    from truetune.data.battery import Standard
    from truetune.data.module import Loader
    from truetune.methods.adaptation import Adaptation
    from truetune.methods.curation import Curation
    from truetune.models.pretrained import Pretrained
    from truetune.models.tiny import Embedded
    from truetune.probes.asking import Asking
    from truetune.probes.knowledge import Examiner
    from truetune.probes.measure import MeasureSettings
    from truetune.probes.probe import Probe
    from truetune.training.module import OptimizerFactory
    from truetune.training.objectives import Objective
    from truetune.training.schedules import Schedule


@dataclass(frozen=True)
class RunSettings:
    """What a run does beside training and measuring."""

    threads: Annotated[int, Field(ge=1, le=1024, strict=True)] | None = None
    on_nonfinite: Literal["stop", "skip_step"] = "stop"
    final: Literal["last", "best", "earliest_best"] = "last"
    save_model: YesOrNo = True
    merge: YesOrNo = False
    preview: CountOrZero = 0


@dataclass(frozen=True)
class Prepared:
    """What is made before the run folder: the data, the builders of the models, the classes to trust."""

    data: Dataset
    builder: Embedded | Pretrained
    baseline: Pretrained | None = None  # only an audit has one
    trusted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Run:
    """Everything that an audit or a run needs; `config` is plain and resolved, and is what run.json records."""

    config: dict[str, Any]
    prepared: Prepared
    run_dir: Path
    cache: Path
    settings: RunSettings
    measure: MeasureSettings
    asking: Asking
    battery: Standard | None
    gate: Gate
    judging: Any  # compares the base's answers with the tuned model's, if anything does

    def probes(self, asking: Asking | None = None) -> list[Probe]:
        """The probes, which ask as configured or, if `asking` is given, as a model turned out to be asked best."""
        extra = {"asking": asking or self.asking}
        return list(instantiation.make_all(self.config, "probe", self.prepared.trusted, **extra).values())


@dataclass(frozen=True)
class TrainingRun(Run):
    seed: int
    checkpoint: Path | None  # where a resumed run goes on
    trainer: dict[str, Any]  # arguments of Lightning's Trainer
    loader: Loader
    knowledge: Examiner
    optimizer: OptimizerFactory
    schedule: Schedule
    objectives: list[Objective]
    curations: dict[str, Curation]
    adaptations: list[Adaptation]
    decoding: Any  # how the tuned model answers the probes; None is greedily
    callbacks: list[Any]
    loggers: list[Any]


def prepare(cfg: DictConfig, command: Command = "train") -> Prepared:
    """Checks every key, makes every object once and reads the data; raises UserError for what cannot be a run."""
    cfg = cfg.copy()
    cfg.paths.output_dir = "."  # known once Hydra has made the folder
    config = plain(cfg)
    hydra = _hydra(cfg)
    words = [] if hydra is None else [str(word) for word in hydra.overrides.task]  # as typed
    key_notes = checks.keys(config, command, words)
    trusted = instantiation.trusted_classes(hydra, config, words)
    instantiation.check_allowed(config, "", trusted)
    # The model's folder and the data are looked at before the first class that imports torch, which takes seconds.
    builder: Any = instantiation.make(config["model"], "model", trusted)
    models = [builder]
    if command == "measure" and has_base(config):
        models.append(instantiation.make(config["baseline"], "baseline", trusted, called="baseline"))
    for model in models:
        if command == "train" and not getattr(model, "has_weights", True):
            raise UserError(f"{model.named}: only answers, and training needs weights; truetune-measure measures it")
        if hasattr(model, "check_files"):
            model.check_files()
    source, data = read_data(json.dumps(config["data"]), trusted, os.getcwd(), config["paths"]["cache_dir"])
    if "torch" not in sys.modules and sys.stderr.isatty():  # elsewhere a refusal is one line
        tell("loading torch, lightning and transformers" if command == "train" else "loading torch and transformers")
    objects: dict[str, Any] = {"data": source, "model": builder, **({"baseline": models[1]} if models[1:] else {})}
    trains = command == "train"
    extras = [key for key in ("gate", "judging") if config.get(key)]
    for key in ("run", "measure", "asking", *extras, *(("knowledge", "loader", "schedule") if trains else ())):
        objects[key] = instantiation.make(config[key], key, trusted)
    for group in ("probe", *(("objective", "curation", "adaptation", "decoding", "callbacks") if trains else ())):
        extra = {"asking": objects["measure"].asking(objects["asking"])} if group == "probe" else {}
        members = instantiation.make_all(config, group, trusted, **extra)
        objects |= {f"{group}.{name}": value for name, value in members.items()}
    if trains:
        for key in ("optimizer", "trainer"):
            instantiation.check(config[key], key, trusted)
        for name, node in (config.get("logger") or {}).items():
            owner = instantiation.check(node, f"logger.{name}", trusted)  # not made: it might reach for its server
            package = checks.PACKAGES_OF_LOGGERS.get(owner.__name__)
            if package and find_spec(package) is None:
                raise UserError(f"logger={name} needs the package {package}; type: pip install {package}")
    prepared = Prepared(data, *models, trusted=trusted)
    objects["battery"] = _battery(config, prepared)
    notes = [*key_notes, *data.notes, *checks.questions(data.task), *checks.together(config, data, objects)]
    return replace(prepared, data=replace(data, notes=notes))


def _battery(config: dict[str, Any], prepared: Prepared) -> Standard | None:
    """The questions beside the rows: for pretrained models, on rows that do not bring such questions themselves."""
    data = prepared.data
    applies = hasattr(prepared.builder, "check_files") and data.pretraining is None and data.choose is None
    return (
        instantiation.make(config["battery"], "battery", prepared.trusted)
        if config.get("battery") and applies
        else None
    )


@lru_cache(1)
def read_data(node: str, trusted: frozenset[str], _folder: str, cache_dir: str) -> tuple[Any, Dataset]:
    """The data source and what it has read, cached: a sweep over other keys reads its files once.

    `_folder`, the working folder, is only a part of the cache's key: relative paths start there.
    """
    source = instantiation.make(json.loads(node), "data", trusted)
    return source, kept(source, Path(cache_dir))


def _hydra(cfg: DictConfig) -> Any:
    """Hydra's own settings; None where it has not composed the configuration."""
    return cfg.hydra if "hydra" in cfg else HydraConfig.get() if HydraConfig.initialized() else None


def build(cfg: DictConfig, prepared: Prepared, run_dir: Path) -> Run:
    """A TrainingRun, or the Run of an audit if there is a `baseline` in the configuration."""
    config = plain(cfg)
    trainer = {key: value for key, value in config.get("trainer", {}).items() if key != "_target_"}
    if trainer.get("precision") == "auto":
        trainer["precision"], note = _precision(prepared.builder, trainer["accelerator"])
        prepared = replace(prepared, data=replace(prepared.data, notes=[*prepared.data.notes, *note]))

    def one(key: str) -> Any:
        return instantiation.make(config[key], key, prepared.trusted)

    def each(group: str) -> list[Any]:
        return list(instantiation.make_all(config, group, prepared.trusted).values())

    measure: MeasureSettings = one("measure")
    cache, asking = Path(config["paths"]["cache_dir"]), measure.asking(one("asking"))
    gate = one("gate") if config.get("gate") else Gate()
    judging = one("judging") if config.get("judging") else None
    values = (config, prepared, run_dir, cache, one("run"), measure, asking, _battery(config, prepared), gate, judging)
    if "baseline" in config:
        return Run(*values)
    resume: str | None = config.get("resume")
    return TrainingRun(
        *values,
        config["seed"],
        checkpoint=(Path(resume) if resume.endswith(".ckpt") else run_dir / LAST) if resume else None,
        trainer=trainer,
        loader=one("loader"),
        knowledge=one("knowledge"),
        optimizer=one("optimizer"),
        schedule=one("schedule"),
        objectives=each("objective"),
        curations=instantiation.make_all(config, "curation", prepared.trusted),
        adaptations=each("adaptation"),
        decoding=next(iter(each("decoding")), None),
        callbacks=each("callbacks"),
        loggers=each("logger"),
    )


def _precision(builder: Embedded | Pretrained, accelerator: str) -> tuple[str, list[str]]:
    """The precision that `auto` stands for, and a note if it is not that of the weights."""
    fast_precision = getattr(builder, "fast_precision", None)  # our own models are small
    precision = fast_precision(accelerator) if fast_precision else "32-true"
    note = f"trainer.precision=auto: {precision}, in which this device is fast; 32-true computes in the weights' own"
    return precision, [] if precision == "32-true" else [note]


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration, resolved, without omegaconf types; raises UserError naming a missing value or variable."""
    without_hydra = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    secrets.note(str(without_hydra))
    try:
        config: Any = OmegaConf.to_container(without_hydra, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        missing_key = getattr(error, "full_key", None) or "a key"
    except OmegaConfBaseException as error:
        match = re.search(r"Missing mandatory value: (\S+)", str(error))
        if not match:
            key = f"{error.full_key}: " if isinstance(error, InterpolationResolutionError) else ""
            raise UserError(f"{key}{first_line(error)}") from None
        missing_key = match[1]
    else:
        for group in checks.COLLECTIONS:
            if isinstance(members := config.get(group), dict):  # `objective.next_token: null` takes a member out
                config[group] = {name: node for name, node in members.items() if node is not None}
        return config
    raise UserError(f"{missing_key} has no value; type {missing_key}=...")
