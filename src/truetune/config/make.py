"""Objects that a configuration names by `_target_`: only classes, and only of allowed packages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from truetune.errors import UserError, first_line

ALLOWED_PACKAGES = ("truetune", "torch", "lightning")


def make(node: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Hydra's instantiate behind an allow-list: a configuration can not call what it likes."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    for found, target in targets(node, key):
        check_allowed(found, target)
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
        refused = type(cause).__name__ == "MisconfigurationException"  # Lightning's, which is not imported here
        if cause is None or refused or isinstance(cause, (TypeError, ValueError, ImportError, AttributeError)):
            raise UserError(f"{key}: {first_line(cause or error)}") from error
        raise


def check_allowed(key: str, target: str) -> None:
    if target.partition(".")[0] not in ALLOWED_PACKAGES:
        raise UserError(
            f"{key}._target_={target}: not allowed; classes come from {', '.join(ALLOWED_PACKAGES)} "
            "(add your package to ALLOWED_PACKAGES in truetune/config/make.py)"
        )


def _defined_there(key: str, target: str) -> None:
    """`truetune.cli.os.system` is reached through ours, but is not ours; `torch.load` runs what it reads."""
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


def targets(node: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(node, Mapping):
        own = [(key, str(node["_target_"]))] if "_target_" in node else []
        return own + [pair for name, value in node.items() for pair in targets(value, f"{key}.{name}".lstrip("."))]
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [pair for index, value in enumerate(node) for pair in targets(value, f"{key}[{index}]")]
    return []
