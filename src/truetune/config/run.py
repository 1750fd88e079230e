"""A composed configuration becomes plain, checked values and a run's objects."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from pydantic import Field

from truetune.config import checks, make, secrets
from truetune.config.checks import Command
from truetune.data.dataset import Dataset
from truetune.data.values import CountOrZero, YesOrNo
from truetune.errors import UserError, first_line
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
    from truetune.training.module import OptimizerFactory
    from truetune.training.objectives import Objective
    from truetune.training.schedules import Schedule


@dataclass(frozen=True)
class RunSettings:
    """What a run does beside training and measuring."""

    threads: Annotated[int, Field(ge=1, le=1024, strict=True)] | None = None
    on_nonfinite: Literal["stop", "skip_step"] = "stop"
    final: Literal["last", "best"] = "last"
    save_model: YesOrNo = True
    preview: CountOrZero = 0


@dataclass(frozen=True)
class Prepared:
    """What is there before the run folder is: the data read, the model's folder looked at, the classes to trust."""

    data: Dataset
    builder: Embedded | Pretrained
    baseline: Pretrained | None = None  # only an audit has one
    trusted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Run:
    """Everything that the main job needs; `config` is plain and resolved, and is what run.json records."""

    config: dict[str, Any]
    prepared: Prepared
    run_dir: Path

    def _make(self, key: str, **extra: Any) -> Any:
        return make.make(self.config[key], key, self.prepared.trusted, **extra)

    def made(self, group: str, **extra: Any) -> dict[str, Any]:
        nodes, trusted = self.config.get(group) or {}, self.prepared.trusted
        return {name: make.make(node, f"{group}.{name}", trusted, **extra) for name, node in nodes.items()}

    @property
    def recorded(self) -> dict[str, Any]:
        """The configuration as it is written down: without secrets."""
        return secrets.hide(self.config)

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def cache(self) -> Path:
        return Path(self.config["paths"]["cache_dir"])

    @property
    def trainer(self) -> dict[str, Any]:
        """Arguments of Lightning's Trainer."""
        return {key: value for key, value in self.config["trainer"].items() if key != "_target_"}

    @property
    def checkpoint(self) -> Path | None:
        """Where a resumed run goes on."""
        resume = self.config.get("resume")
        return None if not resume else Path(resume) if resume.endswith(".ckpt") else self.run_dir / LAST

    @cached_property
    def settings(self) -> RunSettings:
        return self._make("run")

    @cached_property
    def measure(self) -> MeasureSettings:
        return self._make("measure")

    @cached_property
    def asking(self) -> Asking:
        return self.measure.asking(self._make("asking"))

    @cached_property
    def knowledge(self) -> Examiner:
        return self._make("knowledge")

    @cached_property
    def loader(self) -> Loader:
        return self._make("loader")

    def optimizer(self) -> OptimizerFactory:
        return self._make("optimizer")

    def schedule(self) -> Schedule:
        return self._make("schedule")

    def objectives(self) -> list[Objective]:
        return list(self.made("objective").values())

    def decoding(self) -> Any:
        """How the tuned model answers the probes, if not greedily; at most one."""
        return next(iter(self.made("decoding").values()), None)

    def curations(self) -> dict[str, Curation]:
        return self.made("curation")

    def adaptations(self) -> list[Adaptation]:
        return list(self.made("adaptation").values())

    def probes(self, asking: Asking | None = None) -> list[Any]:
        return list(self.made("probe", asking=asking or self.asking).values())

    def battery(self) -> Standard | None:
        """What is asked elsewhere: of pretrained models, on rows that do not bring questions of that kind."""
        data = self.prepared.data
        applies = hasattr(self.prepared.builder, "check_files") and data.pretraining is None and data.choose is None
        return self._make("battery") if self.config.get("battery") and applies else None

    def callbacks(self) -> list[Any]:
        return list(self.made("callbacks").values())

    def loggers(self) -> list[Any]:
        return list(self.made("logger").values())


def prepare(cfg: DictConfig, command: Command = "train") -> Prepared:
    """Checks every key, makes every object once and reads the data; raises UserError for what cannot be a run."""
    cfg = cfg.copy()
    cfg.paths.output_dir = "."  # known once Hydra has made the folder
    config = plain(cfg)
    checks.keys(config, command)
    trusted = _trusted(cfg, config)
    make.check_allowed(config, "", trusted)
    # The model's folder and the data are looked at before the first class that imports torch, which takes seconds.
    builder: Any = make.make(config["model"], "model", trusted)
    models = [builder]
    if command == "measure" and config["baseline"]["name_or_path"] is not None:
        models.append(make.make(config["baseline"], "baseline", trusted, called="baseline"))
    for model in models:
        if hasattr(model, "check_files"):
            model.check_files()
    source, data = _read(json.dumps(config["data"]), trusted, os.getcwd())
    run = Run(config, Prepared(data, builder, *models[1:], trusted=trusted), Path("."))
    objects: dict[str, Any] = {"data": source, "model": builder, "run": run.settings, "measure": run.measure}
    groups = ["probe"]
    if command == "train":
        objects |= {"knowledge": run.knowledge, "loader": run.loader, "schedule": run.schedule()}
        groups += ["objective", "curation", "adaptation", "decoding", "callbacks"]
        for key in ("optimizer", "trainer"):
            make.check(config[key], key, trusted)
        for name, node in (config.get("logger") or {}).items():
            make.check(node, f"logger.{name}", trusted)  # made, it might reach for its server
    if config.get("battery"):
        objects["battery"] = run.battery()
    for group in groups:
        extra = {"asking": run.asking} if group == "probe" else {}
        objects |= {f"{group}.{name}": made for name, made in run.made(group, **extra).items()}
    notes = [*data.notes, *checks.questions(data.task), *checks.together(config, data, objects)]
    return replace(run.prepared, data=replace(data, notes=notes))


@lru_cache(1)
def _read(node: str, trusted: frozenset[str], _folder: str) -> tuple[Any, Dataset]:
    """The data source and what it has read: a sweep over other keys reads its files once."""
    source = make.make(json.loads(node), "data", trusted)
    return source, source.load()


def forget_data() -> None:
    """Files may have changed since they were read."""
    _read.cache_clear()


def _trusted(cfg: DictConfig, config: dict[str, Any]) -> frozenset[str]:
    """Beside our own classes: packages allowed by `+allow=[...]`, and classes that files of the user's conf/ name.

    What stands before `resume=` was read from a run folder, which anyone may have made: it allows nothing.
    """
    from hydra.core.hydra_config import HydraConfig

    packages = {target.partition(".")[0] for _, target in make.targets(config, "")}
    if packages <= {*make.ALLOWED_PACKAGES} or not ("hydra" in cfg or HydraConfig.initialized()):
        return frozenset()
    hydra: Any = cfg.hydra if "hydra" in cfg else HydraConfig.get()
    words = [str(word) for word in hydra.overrides.task]
    resumed = [at for at, word in enumerate(words) if word.startswith("resume=") and word != "resume=null"]
    typed = words[resumed[-1] + 1 :] if resumed else words
    allowed: list[str] = config.get("allow") or []
    trusted = set(allowed if any(word.lstrip("+").startswith("allow=") for word in typed) else ())
    for source in hydra.runtime.config_sources:
        if source.schema == "file" and not (resumed and source.provider == "hydra.searchpath in command-line"):
            for file in Path(source.path).rglob("*.yaml"):
                trusted.update(re.findall(r"_target_:\s*[\"']?([\w.]+)", file.read_text(encoding="utf-8")))
    return frozenset(trusted)


def build(cfg: DictConfig, prepared: Prepared, run_dir: Path) -> Run:
    return Run(plain(cfg), prepared, run_dir)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolved, without omegaconf types; raises UserError naming a missing value or environment variable."""
    ours = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    secrets.note(str(ours))
    try:
        config: Any = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a key"
        raise UserError(f"{key} has no value; type {key}=...") from None
    except InterpolationResolutionError as error:
        if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
            raise UserError(f"{missing[1]} has no value; type {missing[1]}=...") from None
        raise UserError(f"{getattr(error, 'full_key', '')}: {first_line(error)}") from None
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from None
    return config
