"""Hydra's own part of the configuration, which Hydra would answer with exit code 1, or obey whatever it says."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truetune.config.settings import near
from truetune.errors import UserError, first_line, is_job_of_sweep

if TYPE_CHECKING:
    from omegaconf import DictConfig

PLUGINS = ("launcher", "sweeper")
HELD = ("job", "overrides", "runtime")  # what Hydra notes down of what was typed
ALLOWED = ("hydra", "hydra_plugins", "truetune", "optuna")
EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "optuna"}  # choices that a plugin brings
DATABASES = ("sqlite", "postgresql", "mysql")
LOGGING = ("logging", "colorlog")


def check(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Raises UserError naming the key. Values that are known only once the job runs are stood in for."""
    from hydra.conf import HydraConf
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if moved := [word for word in overrides if word.lstrip("+").startswith("paths.output_dir=")]:
        raise UserError(f"{moved[0]}: the run folder is Hydra's; type hydra.run.dir=... instead")
    cfg = cfg.copy()
    OmegaConf.update(cfg, "hydra.job", {"id": "0", "num": 0}, force_add=True)
    OmegaConf.update(cfg, "hydra.runtime.output_dir", ".", force_add=True)
    known = ["env", *(field.name for field in fields(HydraConf))]
    for key in cfg.hydra:
        if key not in known:
            raise UserError(f"hydra.{key}: no such key{near(str(key), known)} (--cfg hydra shows all)")
    node: dict[str, Any] = {}
    try:
        for key in (str(key) for key in cfg.hydra if key not in HELD):
            value = cfg.hydra[key]
            node[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'hydra'}: {first_line(error)}") from None
    for part in PLUGINS:
        if not isinstance(node[part], dict) or "_target_" not in node[part]:
            raise UserError(f"hydra.{part}={node[part]}: names no {part}; hydra/{part} may be {_listed(part)}")
    jobs = node["launcher"].get("n_jobs", 1)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise UserError(f"hydra.launcher.n_jobs={jobs}: should be at least 1")
    metrics = _several(cfg.get("optimized_metric"))
    if "direction" in node["sweeper"] and not (cfg.get("resume") or is_job_of_sweep(overrides)):
        _search(node["sweeper"], metrics, overrides)  # but not of a search's own job, new or taken up again
    if metrics and OmegaConf.is_config(cfg.get("probe")):
        _measured(metrics, OmegaConf.to_container(cfg.probe))
    for key, called in _called(node, "hydra"):
        logs = key.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        if _home(called, LOGGING if logs else ALLOWED) is None:
            raise UserError(f"{key}={called}: not allowed; Hydra may call only its own classes")


def _search(sweeper: Mapping[str, Any], metrics: Sequence[str], overrides: Sequence[str]) -> None:
    """What Optuna would answer with a traceback, some of it after the last run."""
    directions = _several(sweeper["direction"])
    for direction in directions:
        if direction not in ("minimize", "maximize"):
            raise UserError(f"hydra.sweeper.direction={direction}: may be minimize or maximize")
    if len(directions) != len(metrics):
        raise UserError(
            f"hydra.sweeper.direction=[{','.join(directions)}] needs as many metrics, and there are {len(metrics)}: "
            f"optimized_metric=[{','.join(metrics)}]; give one direction to each"
        )
    if sweeper["n_trials"] < 1:
        raise UserError(f"hydra.sweeper.n_trials={sweeper['n_trials']}: should be at least 1")
    if (storage := sweeper.get("storage")) is not None:
        _storage(str(storage))
        _study(str(storage), str(sweeper["study_name"]), directions, overrides)


def _study(url: str, name: str, directions: Sequence[str], overrides: Sequence[str]) -> None:
    """One that goes on must have the same directions, and another seed: with the same it draws the same again."""
    import optuna

    logging.getLogger("optuna").setLevel(logging.WARNING)
    if url.startswith("sqlite") and not _file(url).exists():
        return
    try:
        found = {study.study_name: study for study in optuna.get_all_study_summaries(url)}.get(name)
    except Exception as error:  # whatever the database's driver raises
        raise UserError(f"hydra.sweeper.storage={url}: cannot be opened ({first_line(error)})") from None
    if found is None:
        return
    if [direction.name.lower() for direction in found.directions] != list(directions):
        had = ",".join(direction.name.lower() for direction in found.directions)
        raise UserError(f"hydra.sweeper.storage={url}: study {name} has directions [{had}]; name another study_name")
    if found.n_trials and not any(word.startswith("hydra.sweeper.sampler.seed=") for word in overrides):
        raise UserError(
            f"hydra.sweeper.storage={url}: study {name} has {found.n_trials} runs already, and the same seed would "
            f"draw them again; type hydra.sweeper.sampler.seed={found.n_trials}"
        )


def _measured(metrics: Sequence[str], probes: Any) -> None:
    """Whether any probe could report it; one that this run's probes do not is said after the first run."""
    from truetune.scoring.metrics import METRICS

    if not all(called.startswith("truetune.") for _, called in _called(probes, "probe")):
        return
    known = [*METRICS, "val/score", "val/exact_match", "val/known_exact_match"]
    for name in metrics:
        if name not in known and not name.startswith("fit/"):  # whose groups are the data's
            raise UserError(f"optimized_metric={name}: no such metric{near(name, known)}")


def _storage(url: str) -> None:
    kind, _, place = url.partition("://")
    if kind.partition("+")[0] not in DATABASES or not place:
        raise UserError(f"hydra.sweeper.storage={url}: may be null or a database such as sqlite:///study.db")
    folder = _file(url).parent
    if kind.startswith("sqlite") and not folder.is_dir():
        raise UserError(f"hydra.sweeper.storage={url}: there is no folder {folder}; make it first")


def _file(url: str) -> Path:
    """Of an SQLite database."""
    return Path(url.partition("://")[2].removeprefix("/")).absolute()


def _several(given: Any) -> list[str]:
    """A list as it is, one value as a list of one; Optuna's directions are names of an enumeration."""
    found = [] if given is None else [given] if isinstance(given, (str, Enum)) else list(given)
    return [each.name if isinstance(each, Enum) else str(each) for each in found]


def _home(called: str, allowed: Sequence[str]) -> str | None:
    """The module that defines it, if both it and the name are allowed: `logging.os.system` is not logging's."""
    from hydra.utils import get_object

    if called.partition(".")[0] not in allowed:
        return None
    try:
        home = str(getattr(get_object(called), "__module__", ""))
    except Exception:  # no such name, or one that Hydra blocks
        return None
    return home if home.partition(".")[0] in allowed else None


def choices(group: str) -> list[str]:
    """What Hydra and its plugins bring for a group such as hydra/launcher."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    try:
        return sorted(name.removesuffix(".yaml") for name in store.list(group)) if group.startswith("hydra/") else []
    except OSError:
        return []


def _listed(part: str) -> str:
    return ", ".join(choices(f"hydra/{part}"))


def _called(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every key that names something to call: `_target_`, and what logging.config calls."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name in ("_target_", "()", "class"):
                yield f"{key}.{name}", str(value)
            yield from _called(value, f"{key}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _called(value, f"{key}[{index}]")
