"""Window attention against the public SwinIR and Swin2SR blocks, output and every gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K
from tests.zoo.modules import DEVICES, IMPLS, agree, cosine_attention, public, randomise, randomise_v2, spread

swinir = public("spandrel.architectures.SwinIR.__arch.SwinIR")
swin2sr = public("spandrel.architectures.Swin2SR.__arch.Swin2SR")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")

CASES = pytest.mark.parametrize(
    ("window", "shift", "native", "size"),
    [
        pytest.param(8, 0, (16, 16), (16, 16), id="unshifted"),
        pytest.param(8, 4, (16, 24), (16, 24), id="shifted"),
        pytest.param(8, 3, (24, 16), (24, 16), id="shifted-unevenly"),
        pytest.param(7, 3, (14, 21), (14, 21), id="shifted-window7"),
        pytest.param(8, 0, (64, 64), (16, 24), id="foreign-unshifted"),
        pytest.param(8, 4, (64, 64), (24, 16), id="foreign-shifted"),
        pytest.param(8, 4, (64, 64), (8, 8), id="foreign-shifted-one-window"),
        pytest.param(8, 4, (64, 64), (8, 24), id="foreign-shifted-one-row"),
        pytest.param(8, 4, (6, 20), (12, 18), id="foreign-window-shrunk-to-the-map"),
    ],
)


@IMPLS
@pytest.mark.parametrize("dim", [20, 60])
@CASES
def test_swinir_block(window, shift, native, size, dim, impl):
    block: Any = swinir.SwinTransformerBlock(dim, native, 2, window_size=window, shift_size=shift, mlp_ratio=2)
    randomise(block.to(DEVICES[impl]))
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        out = K.window_attention(
            attn.qkv(block.norm1(x).unflatten(1, size)),
            spread(attn.relative_position_bias_table),
            heads=2,
            windows=K.Windows(block.window_size, block.shift_size),
            impl=impl,
        )
        x = x + attn.proj(out).flatten(1, 2)
        return x + block.mlp(block.norm2(x))

    x = torch.randn(2, size[0] * size[1], dim, device=DEVICES[impl])
    agree(block, lambda x: block(x, size), twin, x)


@IMPLS
@CASES
def test_swin2sr_block(window, shift, native, size, impl):
    dim = 36
    block: Any = swin2sr.SwinTransformerBlock(dim, native, 2, window_size=window, shift_size=shift, mlp_ratio=2)
    randomise_v2(block.to(DEVICES[impl]))
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        qkv_bias = torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
        windows = K.Windows(block.window_size, block.shift_size)
        out = cosine_attention(attn, x.unflatten(1, size), qkv_bias, windows, impl)
        x = x + block.norm1(attn.proj(out).flatten(1, 2))
        return x + block.norm2(block.mlp(x))

    x = torch.randn(2, size[0] * size[1], dim, device=DEVICES[impl])
    agree(block, lambda x: block(x, size), twin, x, cancelling="logit_scale")
