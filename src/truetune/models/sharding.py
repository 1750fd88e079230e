"""A model in pieces (FSDP2): each process of a run holds a part of every weight, and all must call it together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

IN_BODY = "pass_through_body"  # the method that runs a model in pieces without its head


def shard(model: Any, mesh: Any, first: Callable[[nn.Module], None] = lambda part: None) -> None:
    """Cuts up the model in place: layer by layer, so that a pass holds one of them whole, then the rest.

    The rest (embeddings, head) stays whole from a forward pass to the end of its backward pass. `first` is called with
    each part before it is cut up.
    """
    for part in [*layers(model), model]:
        first(part)
        fully_shard(part, mesh=mesh)
    setattr(model, IN_BODY, lambda **inputs: model.base_model(**inputs))
    register_fsdp_forward_method(model, IN_BODY)


def layers(model: nn.Module) -> list[nn.Module]:
    """The members of the ModuleList that holds most of the weights; none if the model has no such list."""

    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=size)) if lists else []


def is_sharded(model: Any) -> bool:
    return any(isinstance(module, FSDPModule) for module in model.modules())


def put_away(model: Any) -> None:
    """Puts all weights back into pieces, so that none is held whole."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """This process's part of the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, the same on every process; all of them must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def gathered_state(model: Any, keep: bool) -> dict[str, Tensor]:
    """The whole weights and buffers on the CPU of the process that is to `keep` them; nothing on the others."""
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        full = whole(tensor.detach())
        if keep:
            state[name] = full.cpu().clone()
    return state
