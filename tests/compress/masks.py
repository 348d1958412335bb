"""Networks without some channels or heads, made by setting what they compute to zero: knows nothing of axes' places."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_engine.layers.attention import WindowAttention
from sr_engine.layers.blocks import MixStage, RepBlock
from sr_engine.models.generator import Generator

Kept = dict[str, tuple[int, ...]]


class NormOf(nn.Module):
    """A LayerNorm over some channels alone; the others come out 0. What removing channels means for it."""

    def __init__(self, norm: nn.LayerNorm, kept: tuple[int, ...]) -> None:
        super().__init__()
        self.norm, self.kept = norm, list(kept)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.norm.weight[self.kept], self.norm.bias[self.kept]
        out = torch.zeros_like(x)
        out[..., self.kept] = F.layer_norm(x[..., self.kept], (len(self.kept),), weight, bias)
        return out


def without(net: Generator, kept: Kept) -> Generator:
    """A copy of `net` in which whatever is not kept is 0 wherever it is computed."""
    net = copy.deepcopy(net)
    for name, indices in kept.items():
        if name == "width":
            _width(net, indices)
        elif name.endswith("heads"):
            attention = net.get_submodule(name.replace("heads", "attention"))
            assert isinstance(attention, WindowAttention)
            dim = attention.project.in_features // attention.heads
            _mask_input(attention.project, [head * dim + k for head in indices for k in range(dim)], dim=-1)
        elif name.endswith("hidden"):
            _mask_input(net.get_submodule(name.replace("hidden", "project")), indices, dim=1)
        else:
            _mask_output(net.get_submodule(name.replace("inner", "convs.")), indices, dim=1)
    return net


def _width(net: Generator, kept: tuple[int, ...]) -> None:
    _mask_output(net.stem, kept, dim=1)
    for stage in net.body:
        assert isinstance(stage, RepBlock | MixStage)
        if stage.film is not None:
            _mask_output(stage.film, kept, dim=1)
        if isinstance(stage, RepBlock):
            _mask_output(stage.convs[2], kept, dim=1)
            continue
        for unit in stage.units:
            _mask_input(unit.expand, kept, dim=1)  # pyright: ignore
            _mask_output(unit.project, kept, dim=1)  # pyright: ignore
        if stage.attention is not None:
            stage.attention.norm = NormOf(stage.attention.norm, kept)  # pyright: ignore
            _mask_output(stage.attention.project, kept, dim=-1)
        _mask_output(stage.conv, kept, dim=1)


def _mask_input(module: nn.Module, kept: Sequence[int], dim: int) -> None:
    module.register_forward_pre_hook(lambda _, args: (_masked(args[0], kept, dim),))


def _mask_output(module: nn.Module, kept: Sequence[int], dim: int) -> None:
    def hook(_: nn.Module, __: object, out: Tensor) -> Tensor:
        return _masked(out, kept, dim)

    module.register_forward_hook(hook)


def _masked(x: Tensor, kept: Sequence[int], dim: int) -> Tensor:
    mask = x.new_zeros(x.shape[dim])
    mask[list(kept)] = 1
    return x * (mask if dim == -1 else mask[:, None, None])
