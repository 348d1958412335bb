"""Window attention against torchvision's Swin and Swin V2 blocks, output and every gradient.

A map that is no whole number of windows is padded, then rolled, before the projection to q, k and v: the padding
carries the projection's bias.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from tests.zoo.modules import DEVICES, IMPLS, agree, cosine_attention, public, randomise, randomise_v2, spread

swin = public("torchvision.models.swin_transformer")

DIM, HEADS = 20, 2

CASES = pytest.mark.parametrize(
    ("window", "shift", "size"),
    [
        ((7, 7), (0, 0), (14, 21)),
        ((7, 7), (3, 3), (14, 21)),
        ((8, 8), (4, 4), (16, 24)),
        ((7, 7), (3, 3), (16, 10)),
        ((7, 7), (0, 0), (16, 10)),
        ((7, 7), (3, 3), (7, 20)),
        ((7, 7), (3, 3), (5, 4)),
        ((4, 6), (2, 3), (11, 20)),
        ((4, 6), (2, 0), (8, 13)),
    ],
)


def windows_of(window: tuple[int, int], shift: tuple[int, int], size: tuple[int, int]) -> K.Windows:
    """torchvision drops the shift along an axis that one window covers."""
    rows, columns = (s if w < n else 0 for s, w, n in zip(shift, window, size, strict=True))
    return K.Windows(window, (rows, columns), outside="token", order="pad_roll")


@IMPLS
@CASES
def test_torchvision_block(window, shift, size, impl):
    block: Any = swin.SwinTransformerBlock(DIM, HEADS, list(window), list(shift), mlp_ratio=2)
    randomise(block.to(DEVICES[impl]))
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        out = K.window_attention(
            attn.qkv(block.norm1(x)),
            spread(attn.relative_position_bias_table),
            heads=HEADS,
            windows=windows_of(window, shift, size),
            pad_token=attn.qkv.bias,
            impl=impl,
        )
        x = x + attn.proj(out)
        return x + block.mlp(block.norm2(x))

    agree(block, block, twin, torch.randn(2, *size, DIM, device=DEVICES[impl]))


@IMPLS
@CASES
def test_torchvision_v2_block(window, shift, size, impl):
    block: Any = swin.SwinTransformerBlockV2(DIM, HEADS, list(window), list(shift), mlp_ratio=2)
    randomise_v2(block.to(DEVICES[impl]))
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        q_bias, k_bias, v_bias = attn.qkv.bias.chunk(3)
        qkv_bias = torch.cat([q_bias, torch.zeros_like(k_bias), v_bias])
        out = cosine_attention(attn, x, qkv_bias, windows_of(window, shift, size), impl)
        x = x + block.norm1(attn.proj(out))
        return x + block.norm2(block.mlp(x))

    agree(block, block, twin, torch.randn(2, *size, DIM, device=DEVICES[impl]), cancelling="logit_scale")
