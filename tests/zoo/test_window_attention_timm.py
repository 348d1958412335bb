"""Window attention against timm's Swin and Swin V2 blocks, output and every gradient.

A map that is no whole number of windows is rolled, then padded, before the projection to q, k and v: the padding
carries the projection's bias.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from tests.zoo.modules import DEVICES, IMPLS, agree, cosine_attention, public, randomise, randomise_v2, spread

swin = public("timm.models.swin_transformer")
swin_v2 = public("timm.models.swin_transformer_v2")

DIM, HEADS = 20, 2

CASES = pytest.mark.parametrize(
    ("window", "shift", "native", "size", "options"),
    [
        pytest.param(7, 0, (14, 21), (14, 21), {}, id="unshifted"),
        pytest.param(7, 3, (14, 21), (14, 21), {}, id="shifted"),
        pytest.param(8, 4, (16, 24), (16, 24), {}, id="shifted-window8"),
        pytest.param(7, 3, (16, 10), (16, 10), {}, id="padded-shifted"),
        pytest.param(7, 3, (7, 20), (7, 20), {}, id="shifted-in-columns-only"),
        pytest.param(7, 3, (5, 20), (5, 20), {}, id="window-shrunk-in-rows"),
        pytest.param(7, 3, (5, 4), (5, 4), {"always_partition": True}, id="map-smaller-than-the-window"),
        pytest.param(7, 0, (14, 14), (10, 17), {}, id="foreign-unshifted"),
        pytest.param(7, 3, (14, 14), (10, 17), {"dynamic_mask": True}, id="foreign-shifted"),
        pytest.param((4, 6), (2, 3), (14, 14), (11, 20), {"dynamic_mask": True}, id="foreign-rectangular"),
    ],
)


def windows_of(block: Any) -> K.Windows:
    return K.Windows(block.window_size, block.shift_size, outside="token", order="roll_pad")


@IMPLS
@CASES
def test_timm_block(window, shift, native, size, options, impl):
    block: Any = swin.SwinTransformerBlock(DIM, native, HEADS, window_size=window, shift_size=shift, **options)
    randomise(block.to(DEVICES[impl]))
    check(block, size, impl)


@IMPLS
@pytest.mark.filterwarnings("ignore::UserWarning:timm")
def test_timm_block_given_another_size(impl):
    block: Any = swin.SwinTransformerBlock(DIM, (14, 14), HEADS, window_size=7, shift_size=3)
    block.set_input_size((20, 13), (6, 5))
    randomise(block.to(DEVICES[impl]))
    assert (block.window_size, block.shift_size) == ((6, 5), (3, 2))
    check(block, (20, 13), impl)


def check(block: Any, size: tuple[int, int], impl: Any) -> None:
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        out = K.window_attention(
            attn.qkv(block.norm1(x)),
            spread(attn.relative_position_bias_table),
            heads=HEADS,
            windows=windows_of(block),
            pad_token=attn.qkv.bias,
            impl=impl,
        )
        x = x + attn.proj(out)
        return x + block.mlp(block.norm2(x))

    agree(block, block, twin, torch.randn(2, *size, DIM, device=DEVICES[impl]))


@IMPLS
@CASES
def test_timm_v2_block(window, shift, native, size, options, impl):
    block: Any = swin_v2.SwinTransformerV2Block(DIM, native, HEADS, window_size=window, shift_size=shift, **options)
    randomise_v2(block.to(DEVICES[impl]))
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        qkv_bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
        out = cosine_attention(attn, x, qkv_bias, windows_of(block), impl)
        x = x + block.norm1(attn.proj(out))
        return x + block.norm2(block.mlp(x))

    agree(block, block, twin, torch.randn(2, *size, DIM, device=DEVICES[impl]), cancelling="logit_scale")
