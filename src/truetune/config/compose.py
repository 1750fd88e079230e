"""Hydra's command line checked before Hydra acts on it: one clear line, exit code 2, and no folder made."""

from __future__ import annotations

import argparse
import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from truetune.config import hydra_node, secrets
from truetune.config.checks import CHOSEN, COMMAND, Job
from truetune.config.settings import OPEN, RULES, near
from truetune.errors import UserError, first_line, is_job_of_sweep, rank
from truetune.records.record import leaves

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from truetune.config.run import Prepared
    from truetune.data.dataset import Dataset

MOST_JOBS_CHECKED = 64


def parse(argv: list[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse
    arguments = parser.parse_args(argv)
    for folder in (arguments.config_dir, arguments.config_path):
        if folder and not Path(folder).is_dir():
            raise UserError(f"{Path(folder).absolute()}: no such folder of configurations")
    return arguments


def _refuse(message: str) -> NoReturn:
    flag = message.removeprefix("unrecognized arguments: ")
    if flag != message and not flag.startswith("-"):
        raise UserError(f"{flag}: keys stand on both sides of a flag; type the flags first, then all keys")
    said = message if flag == message else f"{flag}: no such flag"
    raise UserError(f"{said}; flags: -m, --cfg job, --help, --hydra-help, --debug; keys look like key=value")


def runs_something(arguments: argparse.Namespace) -> bool:
    """--help, --hydra-help and --info only print; --cfg prints too, but a bad key must be said there as well."""
    return not (arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion)


def is_sweep(arguments: argparse.Namespace) -> bool:
    return bool(arguments.multirun) or "hydra.mode=MULTIRUN" in arguments.overrides


def check(
    arguments: argparse.Namespace,
    conf: Path,
    job: Job = "train",
    check_folder: Callable[[DictConfig, Sequence[str]], None] | None = None,
) -> Prepared | None:
    """Composes and checks every job of the command line; returns what a single run has prepared.

    `check_folder` is asked whether a single run may work in its folder, before any data is read.
    """
    from truetune.config.run import prepare

    secrets.refuse(arguments.overrides)
    many = is_sweep(arguments)
    if arguments.cfg and many:
        raise UserError("--cfg shows the configuration of one job; leave -m out")
    jobs = list(itertools.islice(_jobs(arguments), MOST_JOBS_CHECKED))
    prepared: Prepared | None = None
    read: dict[str, Dataset] = {}
    for overrides in jobs:
        cfg = compose(conf, overrides, arguments, job)
        hydra_node.check(cfg, overrides)
        if arguments.cfg:
            return None
        if many and cfg.get("resume"):
            raise UserError("resume takes up a single run; leave -m out")
        if check_folder and not many and rank() == 0:  # the other ranks work in the folder of rank 0
            check_folder(cfg, overrides)
        try:
            prepared = prepare(cfg, job, read)
        except UserError as error:
            raise UserError(f"{error} (job: {' '.join(overrides)})" if many else str(error)) from None
        swept = ", ".join(cfg.hydra.sweeper.get("params") or {})
        if swept and not many and not cfg.get("resume") and not is_job_of_sweep(overrides):
            notes = [*prepared.data.notes, f"this is one run; to sweep over {swept}, add -m"]
            prepared = replace(prepared, data=replace(prepared.data, notes=notes))
    return None if many else prepared


def compose(conf: Path, overrides: list[str], arguments: argparse.Namespace, job: Job = "train") -> DictConfig:
    """Raises UserError for what Hydra can not compose."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = arguments.config_dir or arguments.config_path or str(conf)
    logging.getLogger("hydra").setLevel(logging.ERROR)
    try:
        with initialize_config_dir(str(Path(folder).absolute() if arguments.config_path else conf), version_base="1.3"):
            extra = (
                [f"hydra.searchpath=[file://{Path(arguments.config_dir).absolute()}]"] if arguments.config_dir else []
            )
            return hydra_compose(arguments.config_name or job, [*overrides, *extra], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_in_one_line(error, overrides, conf, job)) from None
    finally:
        GlobalHydra.instance().clear()


def _jobs(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The grid that Hydra's basic sweeper makes; other sweepers draw their own values, which their jobs check."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(arguments.overrides)
    except OverrideParseException as error:
        raise UserError(
            f"{error.override}: cannot be read as key=value ({first_line(error)}); quote special characters"
        ) from None
    choices: list[list[str]] = []
    for override in parsed:
        if not override.is_sweep_override():
            choices.append([override.input_line or ""])
        elif not arguments.multirun:
            raise UserError(f"{override.input_line}: several values make a sweep; add -m")
        elif override.is_choice_sweep() or override.is_range_sweep():
            key = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    for combination in itertools.product(*[choice for choice in choices if choice]):
        yield list(combination)


def _in_one_line(error: Exception, overrides: list[str], conf: Path, job: Job) -> str:
    """Hydra's message with the near names that it leaves out."""
    text = str(error)
    if key := re.search(r"Could not override '([^']+)'", text):
        if elsewhere := _choices_with(conf, key[1], job):
            return f"{key[1]}: not a key of what is chosen; type {' or '.join(elsewhere)} beside it"
        known = [pattern for pattern in RULES if "*" not in pattern] + _groups(conf)
        others = [] if key[1] in known else known  # a key of the other command is no slip of the fingers
        adds = f"; +{key[1]}=... adds one" if key[1].partition(".")[0] in OPEN else ""
        return f"{key[1]}: no such key{near(key[1], others)} ({COMMAND[job]} --cfg job shows all{adds})"
    if choice := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, name = choice[1].rpartition("/")
        if extra := hydra_node.EXTRAS.get(name):
            return f"{group}={name} needs a package; type: pip install 'truetune[{extra}]'"
        found = hydra_node.choices(group) or sorted(path.stem for path in (conf / group).glob("*.yaml"))
        elsewhere = [file.parent.relative_to(conf).as_posix() for file in conf.rglob("*.yaml") if file.stem == name]
        hint = f"; type {elsewhere[0]}={name}" if len(elsewhere) == 1 else near(name, found)
        return f"{group}={name}: no such choice{hint}; {group} may be {', '.join(found)}"
    empty = [word for word in overrides if word.endswith("=null") and word[:-5] in _groups(conf)]
    if empty and "group override must be" in text:
        found = sorted(path.stem for path in (conf / empty[0][:-5]).glob("*.yaml"))
        return f"{empty[0]}: chooses nothing; {empty[0][:-5]} may be {', '.join(found)}"
    reason = f": {first_line(error.__cause__)}" if error.__cause__ else ""
    return " ".join(f"{first_line(error)}{reason}".split()) + f" (from: {' '.join(overrides)})"


def _choices_with(conf: Path, key: str, job: Job) -> list[str]:
    """The choices that have the key: `data=jsonl` for data.train_file, `method=replay` for curation.replay.ratio."""
    from omegaconf import OmegaConf

    group, _, name = key.partition(".")
    for at, inside in (("method", key), (group, name)):
        chosen = (*CHOSEN[job], "callbacks", "method") if job == "train" else CHOSEN[job]
        files = sorted((conf / at).glob("*.yaml")) if name and at in chosen else []
        plain: list[tuple[str, Any]] = [(file.stem, OmegaConf.to_container(OmegaConf.load(file))) for file in files]
        if found := [f"{at}={stem}" for stem, node in plain if isinstance(node, dict) and inside in dict(leaves(node))]:
            return found
    return []


def _groups(conf: Path) -> list[str]:
    return sorted(str(path.relative_to(conf)) for path in conf.rglob("*") if path.is_dir())
