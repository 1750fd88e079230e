"""`model.init=meta`: weights are read from safetensors into pieces; no process ever holds a whole model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from truetune.errors import UserError
from truetune.models.sharding import shard

# The places of each weight, several if it is tied: (module, name in it, full name).
Owners = dict[Tensor, list[tuple[nn.Module, str, str]]]


@contextmanager
def parameters_on_meta() -> Generator[None]:
    """Inside this context, new modules get weights that are only shapes, but real buffers, which they compute."""
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register


def empty_model(name_or_path: str, dtype: torch.dtype, **options: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with parameters_on_meta():
        config = AutoConfig.from_pretrained(name_or_path, **options)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=options["trust_remote_code"])
    if (Path(name_or_path) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(name_or_path)
    return model


def fill_and_shard(model: Any, folder: Path, mesh: Any, device: torch.device) -> None:
    """Reads and cuts up each layer before the next one is read. Raises UserError for weights that are not there."""
    owners: Owners = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(parameter, []).append((module, name, f"{prefix}.{name}".lstrip(".")))
    files = files_of(owners, folder)
    shard(model, mesh, first=lambda part: fill(part, owners, files, device))


def files_of(owners: Owners, folder: Path) -> dict[str, Path]:
    """The file of each stored weight, by name; raises UserError for a weight in no file, or in another shape there."""
    shapes: dict[str, tuple[Path, list[int]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: (path, list(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path}: {error}") from None
    for parameter, places in owners.items():
        names = [full_name for _, _, full_name in places]
        stored_name = next((name for name in names if name in shapes), None)
        if stored_name is None:
            raise UserError(
                f"model.name_or_path={folder}: model.init=meta reads weights by the model's own names, and {names[0]} "
                "is not in the files; leave model.init out, or save the model again with save_pretrained"
            )
        if shapes[stored_name][1] != list(parameter.shape):
            raise UserError(
                f"model.name_or_path={folder}: {stored_name} is {tuple(shapes[stored_name][1])}, config.json says "
                f"{tuple(parameter.shape)}; use the config.json that belongs to these weights"
            )
    return {name: path for name, (path, _) in shapes.items()}


@torch.no_grad()
def fill(part: nn.Module, owners: Owners, files: dict[str, Path], device: torch.device) -> None:
    """Reads the weights of one part. Files are opened for it alone: what is mapped into memory counts as used."""
    with ExitStack() as stack:
        open_file = cache(lambda path: stack.enter_context(safe_open(path, "pt")))
        for empty in [each for each in part.parameters() if each.is_meta]:
            stored_name = next(full_name for _, _, full_name in owners[empty] if full_name in files)
            weights = open_file(files[stored_name]).get_tensor(stored_name).to(device, empty.dtype)
            parameter = nn.Parameter(weights, requires_grad=empty.requires_grad)
            for module, name, _ in owners[empty]:
                setattr(module, name, parameter)
