"""Checks Hydra's command line before Hydra acts on it: a mistake costs one clear line, exit code 2, and no folder."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import yaml
from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.conf import HydraConf
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException, OverrideParseException
from hydra.utils import get_object
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from truetune.config import secrets
from truetune.config.checks import NAMES, NEEDED, Command
from truetune.config.instantiation import near, no_such_key, nodes
from truetune.config.values import KEYS
from truetune.errors import UserError, first_line, is_job_of_sweep, rank
from truetune.records.earlier import MOVED_KEYS
from truetune.records.record import leaves

if TYPE_CHECKING:
    from truetune.config.run import Prepared

MOST_JOBS_CHECKED = 64
OPEN = ("callbacks", "logger", "trainer")  # a + adds a key to these
CALL = ("_target_", "()", "class")  # the keys by which Hydra, and logging.config, are told what to call
MAY_BE_CALLED = ("hydra", "hydra_plugins", "truetune", "optuna")  # packages, by Hydra's own node
EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "optuna"}  # choices that a plugin brings


def parse(argv: list[str]) -> argparse.Namespace:
    parser = get_args_parser()
    parser.error = _refuse
    arguments = parser.parse_args(argv)
    for folder in (arguments.config_dir, arguments.config_path):
        if folder and not Path(folder).is_dir():
            raise UserError(f"{Path(folder).absolute()}: no such folder of configurations")
    return arguments


def _refuse(message: str) -> NoReturn:
    """Raises UserError, in the place of argparse's exit."""
    flag = message.removeprefix("unrecognized arguments: ")
    if flag != message and not flag.startswith("-"):
        raise UserError(f"{flag}: keys stand on both sides of a flag; type the flags first, then all keys")
    reason = message if flag == message else f"{flag}: no such flag"
    raise UserError(f"{reason}; flags: -m, --cfg job, --help, --hydra-help, --debug; keys look like key=value")


def is_sweep(arguments: argparse.Namespace) -> bool:
    return bool(arguments.multirun) or "hydra.mode=MULTIRUN" in arguments.overrides


def check(
    arguments: argparse.Namespace,
    conf: Path,
    command: Command = "train",
    check_folder: Callable[[DictConfig, Sequence[str]], None] | None = None,
) -> Prepared | None:
    """Composes and checks every job of the command line; returns what a single run has prepared.

    `check_folder` is asked whether a single run may work in its folder, before any data is read.
    """
    from truetune.config.run import prepare, read_data

    secrets.refuse(arguments.overrides)
    is_multirun = is_sweep(arguments)
    if arguments.cfg and is_multirun:
        raise UserError("--cfg shows the configuration of one job; leave -m out")
    read_data.cache_clear()  # files may have changed since they were read
    prepared: Prepared | None = None
    jobs, intervals = _jobs(arguments, conf)
    for overrides in jobs if command == "measure" else jobs[:MOST_JOBS_CHECKED]:
        cfg = compose(conf, overrides, arguments, command)
        check_hydra(cfg, overrides)
        if intervals and str(cfg.hydra.sweeper._target_).endswith(".BasicSweeper"):
            problem = "only a search draws from an interval; type hparams_search=optuna, or a list of values"
            raise UserError(f"{intervals[0]}: {problem}")
        if arguments.cfg:
            return None
        # Its own folder is allowed: so a cluster's sweep goes on.
        if is_multirun and cfg.get("resume") not in (None, cfg.hydra.sweep.dir):
            raise UserError("resume takes up a single run; leave -m out")
        if check_folder and not is_multirun and rank() == 0:  # the other ranks work in the folder of rank 0
            check_folder(cfg, overrides)
        try:
            prepared = prepare(cfg, command)
        except UserError as error:
            raise UserError(f"{error} (job: {' '.join(overrides)})" if is_multirun else str(error)) from None
        parameters = ", ".join(cfg.hydra.sweeper.get("params") or {})
        if parameters and not is_multirun and not cfg.get("resume") and not is_job_of_sweep(overrides):
            notes = [*prepared.data.notes, f"this is one run; to sweep over {parameters}, add -m"]
            prepared = replace(prepared, data=replace(prepared.data, notes=notes))
    return None if is_multirun else prepared


def compose(conf: Path, overrides: list[str], arguments: argparse.Namespace, command: Command = "train") -> DictConfig:
    """The configuration of one job. Raises UserError for what Hydra cannot compose."""
    logging.getLogger("hydra").setLevel(logging.ERROR)
    setbase("1.3")
    try:
        Hydra.create_main_hydra2("truetune", _search_path(arguments, conf))
        return hydra_compose(arguments.config_name or command, opened(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_in_one_line(error, overrides, conf, command)) from None
    finally:
        GlobalHydra.instance().clear()


def opened(words: Sequence[str]) -> list[str]:
    """The words, with Hydra's ++ before each limit of the gate: it allows any metric, and the gate checks the name."""
    return [f"++{word}" if word.startswith("gate.") else word for word in words]


def _search_path(arguments: argparse.Namespace, conf: Path) -> ConfigSearchPath:
    path = create_config_search_path(str(Path(arguments.config_path or conf).absolute()))
    if arguments.config_dir:
        path.prepend("command-line", f"file://{Path(arguments.config_dir).absolute()}", anchor="schema")
    return path


def _jobs(arguments: argparse.Namespace, conf: Path) -> tuple[list[list[str]], list[str]]:
    """The jobs of the grid that Hydra's basic sweeper makes, and the words whose values a search draws.

    Drawn values are checked by the job that gets them.
    """
    loader = ConfigLoaderImpl(_search_path(arguments, conf))  # for glob(...), which selects among the names of a group
    try:
        overrides = OverridesParser.create(loader).parse_overrides(arguments.overrides)
    except OverrideParseException as error:
        problem = f"cannot be read as key=value ({first_line(error)}); quote special characters"
        raise UserError(f"{error.override}: {problem}") from None
    sweeps = [override for override in overrides if override.is_sweep_override()]
    if sweeps and not arguments.multirun:
        raise UserError(f"{sweeps[0].input_line}: several values make a sweep; add -m")
    constants = [override.input_line or "" for override in overrides if override not in sweeps]
    value_lists = [override for override in sweeps if override.is_discrete_sweep()]
    for override in value_lists:
        if isinstance(override.value(), Glob) and not list(override.sweep_string_iterator()):
            choices = ", ".join(loader.get_group_options(override.key_or_group))
            raise UserError(f"{override.input_line}: no such choice; {override.key_or_group} may be {choices}")
    grid = BasicSweeper.split_arguments(value_lists, None)
    intervals = [override.input_line or "" for override in sweeps if override not in value_lists]
    return [[*constants, *values] for values in grid[0]], intervals


def check_hydra(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Checks Hydra's own node: Hydra would answer a mistake in it with exit code 1, and call whatever it names."""
    if old_words := [word for word in overrides if word.lstrip("+").startswith("paths.output_dir=")]:
        raise UserError(f"{old_words[0]}: the run folder is Hydra's; type hydra.run.dir=... instead")
    cfg = cfg.copy()
    # Hydra sets these two only once the job runs.
    OmegaConf.update(cfg, "hydra.job", {"id": "0", "num": 0}, force_add=True)
    OmegaConf.update(cfg, "hydra.runtime.output_dir", ".", force_add=True)
    names = ["env", *(field.name for field in fields(HydraConf))]
    if unknown := [str(key) for key in cfg.hydra if key not in names]:
        raise UserError(f"hydra.{unknown[0]}: no such key{near(unknown[0], names)} (--cfg hydra shows all)")
    try:
        for key in cfg.hydra:
            if key not in ("job", "overrides", "runtime") and OmegaConf.is_config(cfg.hydra[key]):
                for place, node in nodes(OmegaConf.to_container(cfg.hydra[key], resolve=True), f"hydra.{key}", CALL):
                    for name in CALL:
                        if name in node:
                            _check_called(f"{place}.{name}", str(node[name]))
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'hydra'}: {first_line(error)}") from None
    for part in ("launcher", "sweeper"):
        if not OmegaConf.is_config(cfg.hydra[part]) or "_target_" not in cfg.hydra[part]:
            choices = ", ".join(_choices(f"hydra/{part}"))
            raise UserError(f"hydra.{part}={cfg.hydra[part]}: names no {part}; hydra/{part} may be {choices}")
    n_jobs = cfg.hydra.launcher.get("n_jobs", 1)
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs < 1:
        raise UserError(f"hydra.launcher.n_jobs={n_jobs}: should be at least 1")


def _check_called(key: str, target: str) -> None:
    """Refuses a name unless it and the module that defines it are allowed: `logging.os.system` is not logging's."""
    is_logging = key.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
    packages = ("logging", "colorlog") if is_logging else MAY_BE_CALLED
    try:
        module = target if target.partition(".")[0] not in packages else str(get_object(target).__module__)
    except Exception:  # no such name, or one that Hydra blocks
        module = ""
    if module.partition(".")[0] not in packages:
        raise UserError(f"{key}={target}: not allowed; Hydra may call only its own classes")


def _in_one_line(error: Exception, overrides: list[str], conf: Path, command: Command) -> str:
    """Hydra's message in one line, with the near names of an unknown key or choice, which Hydra leaves out."""
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        key, places = match[1], _places(conf, command)
        if key in places and key not in MOVED_KEYS:
            return f"{key}: not a key of what is chosen; type {' or '.join(places[key])} beside it"
        groups = [path.relative_to(conf).as_posix() for path in conf.rglob("*") if path.is_dir()]
        names = list(dict.fromkeys([*places, *KEYS, *groups]))
        hint_to_add = f"; +{key}=... adds one" if key.partition(".")[0] in OPEN else ""
        refusal = no_such_key(key, [] if key in names else names)  # a key of the other command is no misspelling
        return f"{refusal} ({NAMES[command]} --cfg job shows all{hint_to_add})"
    if match := re.search(r"Could not (?:find|load) '([^']+)'", str(error)):
        group, _, name = match[1].rpartition("/")
        if extra := EXTRAS.get(name):
            return f"{group}={name} needs a package; type: pip install 'truetune[{extra}]'"
        if group == "extras":
            return no_such_key(group, [])
        choices = _choices(group) or sorted(path.stem for path in (conf / group).glob("*.yaml"))
        other_groups = [file.parent.relative_to(conf).as_posix() for file in conf.rglob("*.yaml") if file.stem == name]
        hint = f"; type {other_groups[0]}={name}" if len(other_groups) == 1 else near(name, choices)
        return f"{group}={name}: no such choice{hint}; {group} may be {', '.join(choices)}"
    reason = f": {first_line(error.__cause__)}" if error.__cause__ else ""
    return " ".join(f"{first_line(error)}{reason}".split()) + f" (from: {' '.join(overrides)})"


def _places(conf: Path, command: Command) -> dict[str, list[str]]:
    """Each key with the choices that have it: `data=jsonl` for data.train_file, `method=replay` for a curation's."""
    places: dict[str, list[str]] = {}
    for group in ("method", "callbacks", *NEEDED["train"]) if command == "train" else NEEDED[command]:
        prefix, group_places = "" if group == "method" else f"{group}.", dict[str, list[str]]()
        for file in sorted((conf / group).glob("*.yaml")):
            for key, _ in leaves(yaml.safe_load(file.read_text(encoding="utf-8")) or {}, prefix):
                group_places.setdefault(key, []).append(f"{group}={file.stem}")
        places = {**group_places, **places}
    return places


def _choices(group: str) -> list[str]:
    """The choices that Hydra and its plugins bring for a group such as hydra/launcher."""
    with suppress(OSError):
        names = ConfigStore.instance().list(group) if group.startswith("hydra/") else []
        return sorted(name.removesuffix(".yaml") for name in names)
    return []
