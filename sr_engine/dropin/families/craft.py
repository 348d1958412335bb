"""CRAFT (Li et al., arXiv 2308.05022): windows as DAT's without padding, and channel attention to high frequencies.

The network hands its bias index and offsets to every block. It rolls shifted windows without a mask.
"""

from collections.abc import Hashable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_index, has, scale_logits, takes, tokens
from sr_engine.dropin.families.rectangles import attend, cuts, expect_branches, free_tables
from sr_engine.dropin.families.restormer import CrossTransposed, cross
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K

NO_MASK = (None, None)


class CRAFTWindows(Fused):
    """SRWAB on tokens (B, H * W, C): norm, windows in two branches beside a convolution, residual, norm, MLP, residual.

    A caller that passes masks, which CRAFT itself never does, gets the original.
    """

    family = "CRAFT window block"
    bypassed = ("attns.0", "attns.1", "attns.0.softmax", "attns.1.softmax")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, norm1=nn.Module, qkv=nn.Module, proj=nn.Module, get_v=nn.Module, norm2=nn.Module, mlp=nn.Module)
            and has(module, dim=int, shift_size=(list, tuple), attns=nn.ModuleList)
            and all(_is_branch(branch) for branch in module.attns)
            and takes(module, "x", "x_size", "params", "attn_mask")
        )

    @classmethod
    def check(cls, site: Site) -> None:
        block, network = site.module, site.owner("relative_position_index_h")
        expect(network is not None, "no network around it holds its bias index")
        expect_branches(block.dim, block.attns, block.attns[0].split_size, block.shift_size)
        rows, columns = block_cuts(block)
        expect_index(rows, network.relative_position_index_h, len(network.biases_h))
        expect_index(columns, network.relative_position_index_v, len(network.biases_v))

    @classmethod
    def key(cls, site: Site) -> Hashable:
        block = site.module
        return block.dim, block_cuts(block), tuple((branch.num_heads, branch.scale) for branch in block.attns)

    @classmethod
    def trials(cls, site: Site) -> Sequence[tuple[Any, ...]]:
        network = site.owner("relative_position_index_h")
        params = {
            "rpi_sa_h": network.relative_position_index_h,
            "rpi_sa_v": network.relative_position_index_v,
            "biases_h": network.biases_h.float(),
            "biases_v": network.biases_v.float(),
        }
        longer = max(site.module.attns[0].split_size)
        size = (2 * longer, 3 * longer)
        return [(tokens(site.device, 1, *size, site.module.dim), size, params, NO_MASK)]

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.qkv)
        free_tables(module.attns)

    def fused(self, x: Tensor, x_size: tuple[int, int], params: dict[str, Tensor], attn_mask: Any = NO_MASK) -> Tensor:
        block = cast(Any, self)
        if any(block.shift_size) and any(mask is not None for mask in attn_mask):
            return block.original.forward(block, x, x_size, params, attn_mask)
        qkv = block.qkv(block.norm1(x)).unflatten(1, x_size)
        tables = [branch.pos(params[name]) for branch, name in zip(block.attns, ("biases_h", "biases_v"), strict=True)]
        local = block.get_v(qkv.chunk(3, -1)[2].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + block.proj((attend(qkv, block.attns, tables, block_cuts(block)) + local).flatten(1, 2))
        return x + block.mlp(block.norm2(x))


class CRAFTFusion(CrossTransposed):
    """The attention of a fusion block: queries from the map of high frequencies, keys and values from the other."""

    family = "CRAFT fusion attention"
    bypassed = ("softmax",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return super().recognises(module) and has(module, softmax=nn.Module) and takes(module, "low", "high")

    def fused(self, low: Tensor, high: Tensor) -> Tensor:
        return cross(cast(Any, self), high, low)


def block_cuts(block: Any) -> tuple[K.Windows, K.Windows]:
    """The windows of both branches of a block."""
    return cuts(block.attns[0].split_size, block.shift_size, penalty=0.0)


def _is_branch(module: Any) -> bool:
    numbers = {"scale": float, "dim": int, "num_heads": int, "H_sp": int, "W_sp": int}
    return has(module, pos=nn.Module, softmax=nn.Module, split_size=(list, tuple), **numbers)
