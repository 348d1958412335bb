"""SRFormer's permuted self-attention (Zhou et al., arXiv 2303.09735): keys and values at half resolution.

Each key takes a quarter of its channels from each of 2x2 pixels. The shifted blocks of its first release build a mask
that is constant along the keys, so the softmax cancels it; later ones mask as Swin does. The mask of the native size
is stored with the weights, that of any other size is built, so a file of the first release in a later block has one
rule for the native size and another for the rest.
"""

from typing import Any, ClassVar, cast

from torch import Tensor, nn

from sr_engine.dropin.checks import expect, expect_heads, expect_index, has, scale_logits, takes
from sr_engine.dropin.families.masks import expect_own_masks, two_by_three
from sr_engine.dropin.families.swinir import SwinIRBlock
from sr_engine.dropin.fused import Fused
from sr_engine.dropin.sites import Site
from sr_kernels import functional as K

PARTS = ("after_norm1", "after_attention", "residual_after_attention", "after_norm2", "after_mlp", "residual_after_mlp")


class PermutedBlock(SwinIRBlock):
    """PSA_Block: norm, shifted windows, residual, norm, MLP with a convolution, residual on tokens (B, H * W, C)."""

    family = "SRFormer block"
    masked: ClassVar[tuple[bool, bool]] = (True, True)  # on its native map, on any other

    @classmethod
    def recognises(cls, module: Any) -> bool:
        return (
            has(module, attn__q=nn.Module, attn__kv=nn.Module, attn__proj=nn.Module, attn__proj_drop=nn.Module)
            and has(module, attn__relative_position_bias_table=Tensor, attn__aligned_relative_position_index=Tensor)
            and has(module, attn__attn_drop=nn.Module, attn__softmax=nn.Module, attn__permuted_window_size=tuple)
            and has(module, norm1=nn.Module, norm2=nn.Module, mlp=nn.Module, drop_path=nn.Module)
            and has(module, window_size=int, shift_size=int, input_resolution=(tuple, list))
            and has(module, **dict.fromkeys(PARTS, nn.Module))
            and callable(getattr(module, "calculate_mask", None))
            and takes(module, "x", "x_size")
            and cls.masked == _masked(module)
        )

    @classmethod
    def check(cls, site: Site) -> None:
        block, attn = site.module, site.module.attn
        expect_heads(attn.dim, attn.num_heads)
        expect(attn.dim % 4 == 0, f"its {attn.dim} channels do not divide into quarters")
        window, shift = block.window_size, block.shift_size
        expect(window % 2 == 0 and shift % 2 == 0, f"windows of {window} shifted by {shift} have no half")
        half = (window // 2, window // 2)
        expect(tuple(attn.permuted_window_size) == half, f"its key windows are {attn.permuted_window_size}, not {half}")
        native, other = (cls._windows(block, masked) for masked in cls.masked)
        expect_index(other, attn.aligned_relative_position_index, len(attn.relative_position_bias_table))
        expect_own_masks(block, native, other)

    @classmethod
    def excite(cls, module: Any) -> None:
        scale_logits(module.attn.q, module.attn.kv)

    @staticmethod
    def _windows(block: Any, masked: bool) -> K.Windows:
        window = block.window_size
        return K.Windows(window, block.shift_size, key_step=window // 2, penalty=-100.0 if masked else 0.0)

    def fused(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        block = cast(Any, self)
        attn, (native, other) = block.attn, self.masked
        x = x.contiguous()  # rows of channels, as SwinIRBlock says
        masked = native if native == other or block.input_resolution == x_size else other
        y = block.after_norm1(block.norm1(x)).unflatten(1, x_size)
        k, v = _permuted(attn.kv(y), attn.num_heads)
        out = K.window_attention(
            (attn.q(y).unflatten(-1, (attn.num_heads, -1)), k, v),
            attn.relative_position_bias_table,
            heads=attn.num_heads,
            windows=self._windows(block, masked),
            scale=attn.scale,
        )
        out = block.after_attention(attn.proj_drop(attn.proj(out.flatten(1, 2))))
        x = block.residual_after_attention(x + block.drop_path(out))
        out = block.after_mlp(block.mlp(block.after_norm2(block.norm2(x)), x_size))
        return block.residual_after_mlp(x + block.drop_path(out))


class UnmaskedPermutedBlock(PermutedBlock):
    """As first released: rolled, and in effect not masked."""

    masked = (False, False)


class NativelyUnmaskedPermutedBlock(PermutedBlock):
    """A later block with the stored masks of the first release."""

    masked = (False, True)


class NativelyMaskedPermutedBlock(PermutedBlock):
    """A block of the first release with the stored masks of a later one."""

    masked = (True, False)


PERMUTED_BLOCKS: list[type[Fused]] = [
    PermutedBlock,
    UnmaskedPermutedBlock,
    NativelyUnmaskedPermutedBlock,
    NativelyMaskedPermutedBlock,
]


def _masked(block: Any) -> tuple[bool, bool]:
    """Whether a block masks on its native map and on any other, as far as its last window tells."""
    if not block.shift_size:
        return True, True
    try:
        native, other = block.attn_mask[-1], block.calculate_mask(two_by_three(block))[-1]
        return bool((native != native[:, :1]).any()), bool((other != other[:, :1]).any())
    except Exception:  # `check` will say what is wrong with it
        return True, True


def _permuted(kv: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(B, H, W, C / 2) of keys and values -> each (B, H / 2, W / 2, heads, C / heads)."""
    cells = kv.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).unflatten(-1, (2, -1))
    k, v = cells.permute(5, 0, 1, 3, 2, 4, 6).flatten(4).unflatten(-1, (heads, -1)).unbind(0)
    return k, v
