"""The one place that knows omegaconf: a composed configuration becomes plain, checked values and a run's objects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from truetune import checks, secret, settings
from truetune.checks import Job
from truetune.data.dataset import Dataset
from truetune.errors import UserError, first_line
from truetune.record import LAST

if TYPE_CHECKING:
    from truetune.data.curation import Curation
    from truetune.models.adaptation import Adaptation
    from truetune.models.pretrained import Pretrained
    from truetune.models.tiny import Embedded
    from truetune.probes.knowledge import Examiner
    from truetune.training.given import Given
    from truetune.training.module import OptimizerFactory
    from truetune.training.objectives import Objective
    from truetune.training.schedules import Schedule

GIVEN = ("reference", "teacher", "old_texts")
LOADER_KEYS = ("batch_size", "over_long", "num_workers", "group_by_length", "packing")
ALLOWED_PACKAGES = ("truetune", "torch", "lightning")


@dataclass(frozen=True)
class Prepared:
    """All that can be checked without torch: the data read, the model's folder looked at."""

    data: Dataset
    builder: Embedded | Pretrained
    baseline: Pretrained | None = None  # only an audit has one


@dataclass(frozen=True)
class Run:
    """Everything that `truetune.run` needs; `config` is plain and resolved, and is what run.json records."""

    config: dict[str, Any]
    prepared: Prepared
    run_dir: Path

    @property
    def recorded(self) -> dict[str, Any]:
        """The configuration as it is written down: without secrets."""
        return secret.hide(self.config)

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def loader(self) -> dict[str, Any]:
        return {key: self.config["data"].get(key, False) for key in LOADER_KEYS}

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

    def objectives(self, given: Given) -> list[Objective]:
        """An objective is given what its signature names, such as the frozen base as `reference`."""
        from hydra.utils import get_class

        found: list[Objective] = []
        for name, node in self.config["objective"].items():
            wanted = [word for word in inspect.signature(get_class(node["_target_"])).parameters if word in GIVEN]
            found.append(make(node, f"objective.{name}", **{word: getattr(given, word) for word in wanted}))
        return found

    def decoding(self) -> Any:
        """How the tuned model answers the probes, if not greedily; at most one."""
        made = [make(node, f"decoding.{name}") for name, node in (self.config.get("decoding") or {}).items()]
        return made[0] if made else None

    def curations(self) -> dict[str, Curation]:
        return {name: make(node, f"curation.{name}") for name, node in self.config["curation"].items()}

    def adaptations(self) -> list[Adaptation]:
        return [make(node, f"adaptation.{name}") for name, node in self.config["adaptation"].items()]

    def examiner(self) -> Examiner:
        from truetune.probes.knowledge import Examiner

        extras = self.config["extras"]
        return Examiner(
            samples=extras["knowledge_samples"],
            temperature=extras["knowledge_temperature"],
            max_new_tokens=extras["max_new_tokens"],
            batch_size=extras["measure_batch_size"],
            seed=self.seed,
        )

    def probes(self) -> list[Any]:
        from truetune.probes.probe import Asking

        extras = self.config["extras"]
        phrases = tuple(extras["abstention_phrases"])
        asking = Asking(extras["max_new_tokens"], extras["measure_batch_size"], phrases)
        return [make(node, f"probe.{name}", asking=asking) for name, node in self.config["probe"].items()]

    def callbacks(self) -> list[Any]:
        return [make(node, f"callbacks.{name}") for name, node in self.config.get("callbacks", {}).items()]

    def loggers(self) -> list[Any]:
        return [make(node, f"logger.{name}") for name, node in self.config.get("logger", {}).items()]


def prepare(cfg: DictConfig, job: Job = "train") -> Prepared:
    """Checks every key and every cross-field rule, reads the data; raises UserError. No torch is imported."""
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
        checks.methods(config)
        checks.abstentions(config)
    for key, target in _targets(config, ""):
        _allowed(key, target)
    source = {key: value for key, value in config["data"].items() if key not in LOADER_KEYS}
    builder: Any = make(config["model"], "model")
    baseline: Pretrained | None = None
    if job == "measure" and config["baseline"]["name_or_path"] is not None:
        baseline = make(config["baseline"], "baseline", called="baseline")
    models: tuple[Any, ...] = (builder, baseline)
    for model in models:
        if hasattr(model, "check"):
            model.check()
    data = make(source, "data").load()
    if job == "train":
        more = "replay" in config["curation"] or any(not example.prompt for example in data.train)
        data = replace(data, notes=[*data.notes, *checks.length(config, len(data.train), more=more)])
        checks.frontier(config, has_both=bool(data.select_task and data.select_known))
    return Prepared(data, builder, baseline)


def build(cfg: DictConfig, prepared: Prepared, run_dir: Path) -> Run:
    return Run(plain(cfg), prepared, run_dir)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolved, without omegaconf types; raises UserError naming a missing value or environment variable."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    secret.note(str(own))
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


def make(node: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Hydra's instantiate behind an allow-list: a configuration can not call what it likes."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    for found, target in _targets(node, key):
        _allowed(found, target)
        _defined_there(found, target)
    try:
        # Hydra would turn the dataclasses among the extras into dictionaries: they are passed by a call of our own.
        return (
            instantiate({**node, "_partial_": True}, _convert_="all")(**extra)
            if extra
            else instantiate(dict(node), _convert_="all")
        )
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if cause is None or isinstance(cause, (TypeError, ValueError, ImportError, AttributeError)):
            raise UserError(f"{key}: {first_line(cause or error)}") from error
        raise


def _allowed(key: str, target: str) -> None:
    if target.partition(".")[0] not in ALLOWED_PACKAGES:
        raise UserError(
            f"{key}._target_={target}: not allowed; classes come from {', '.join(ALLOWED_PACKAGES)} "
            "(add your package to ALLOWED_PACKAGES in truetune/build.py)"
        )


def _defined_there(key: str, target: str) -> None:
    """`truetune.sweep.subprocess.run` is reached through ours, but is not ours; `torch.load` runs what it reads."""
    from hydra.utils import get_object

    try:
        found = get_object(target)
    except Exception:  # a name that does not exist: instantiate says so in its own words
        return
    home = str(getattr(found, "__module__", ""))
    if not inspect.isclass(found):
        raise UserError(f"{key}._target_={target}: not allowed; it is no class")
    if home.partition(".")[0] not in ALLOWED_PACKAGES:
        raise UserError(f"{key}._target_={target}: not allowed; it belongs to {home or 'no module'}")


def _targets(node: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(node, Mapping):
        own = [(key, str(node["_target_"]))] if "_target_" in node else []
        return own + [pair for name, value in node.items() for pair in _targets(value, f"{key}.{name}".lstrip("."))]
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [pair for index, value in enumerate(node) for pair in _targets(value, f"{key}[{index}]")]
    return []
