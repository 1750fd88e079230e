"""Refuses what `trainer=fsdp` and `model.init=meta` cannot do, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from truetune.data.dataset import Dataset
from truetune.errors import UserError


def check(config: Mapping[str, Any], data: Dataset, objects: Mapping[str, Any]) -> None:
    """Raises UserError for what needs whole weights where they are cut up, or a base that no process has."""
    is_sharded = str(config["trainer"].get("strategy")) == "fsdp"
    for key, item in objects.items():
        if is_sharded and getattr(item, "needs_whole_weights", False):
            raise UserError(
                f"{key} needs whole weights while training, and trainer=fsdp cuts them up; type trainer=ddp"
            )
    if is_sharded and config["model"].get("compile"):
        raise UserError("model.compile=true with trainer=fsdp has not been tried; leave one of the two out")
    if config["model"].get("init") != "meta":
        return
    folder = config["model"]["name_or_path"]
    if not is_sharded:
        raise UserError("model.init=meta reads weights into pieces; type trainer=fsdp, or leave it out")
    if not Path(folder).is_dir():
        raise UserError(f"model.init=meta reads a folder, and {folder} is none here; download it, then name its folder")
    if not (Path(folder) / "config.json").is_file():
        raise UserError(f"model.init=meta reads a whole model's folder, and {folder} is none; merge the adapter first")
    _refuse_what_asks_the_base(config, data, objects)


def _refuse_what_asks_the_base(config: Mapping[str, Any], data: Dataset, objects: Mapping[str, Any]) -> None:
    groups = ("curation", "adaptation", "decoding")
    keys = [key for key, item in objects.items() if key.partition(".")[0] in groups or hasattr(item, "bind")]
    settings = {
        "knowledge.label": config["knowledge"].get("label"),
        "measure.noise_floor": config["measure"].get("noise_floor"),
    }
    keys += [f"{key}=true" for key, value in settings.items() if value]
    keys += ["data, which is chosen by what the base knows,"] if data.choose is not None else []
    if keys:
        raise UserError(
            f"{keys[0]} needs a whole base beside the model, which no process has with model.init=meta; "
            "leave one of the two out"
        )
