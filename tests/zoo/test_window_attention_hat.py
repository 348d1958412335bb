"""Window attention against the public blocks of HAT, DAT and SRFormer, output and every gradient.

Large and overlapping windows, rectangles on split channels, keys at half resolution.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_kernels import functional as K
from tests.zoo.modules import DEVICES, IMPLS, agree, public, randomise, spread, widen

hat = public("spandrel.architectures.HAT.__arch.HAT")
dat = public("spandrel.architectures.DAT.__arch.DAT")
srformer = public("spandrel_extra_arches.architectures.SRFormer.__arch.SRFormer")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def hat_model(window: int, native: int, device: str) -> Any:
    """One group of HAT: an unshifted block, a shifted one and the overlapping cross-attention."""
    model = hat.HAT(
        img_size=native,
        embed_dim=20,
        depths=(2,),
        num_heads=(2,),
        window_size=window,
        squeeze_factor=2,
        overlap_ratio=0.5,
        mlp_ratio=2,
    )
    randomise(model)
    return model.to(device)


@IMPLS
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window", "native", "size"), [(16, 32, (32, 32)), (16, 64, (16, 48)), (16, 64, (16, 16)), (8, 32, (24, 16))]
)
def test_hat_block(window, native, size, shifted, impl):
    model = hat_model(window, native, DEVICES[impl])
    block = model.layers[0].residual_group.blocks[int(shifted)]
    attn = block.attn
    mask = model.calculate_mask(size, torch.float32).to(DEVICES[impl])
    assert block.shift_size == (window // 2 if shifted else 0)

    def twin(x: Tensor) -> Tensor:
        y = block.norm1(x).unflatten(1, size)
        out = K.window_attention(
            attn.qkv(y),
            spread(attn.relative_position_bias_table),
            heads=2,
            windows=K.Windows(window, block.shift_size),
            impl=impl,
        )
        local = block.conv_block(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + (attn.proj(out) + local * block.conv_scale).flatten(1, 2)
        return x + block.mlp(block.norm2(x))

    x = torch.randn(2, size[0] * size[1], 20, device=DEVICES[impl])
    # The gate over channels averages over all pixels; its gradients come from a sum of both signs.
    agree(block, lambda x: block(x, size, model.relative_position_index_SA, mask), twin, x, cancelling=".attention.")


@IMPLS
@pytest.mark.parametrize(
    ("window", "native", "size"),
    [(16, 32, (32, 32)), (16, 64, (16, 48)), (16, 64, (16, 16)), (8, 32, (24, 16)), (4, 32, (12, 20))],
)
def test_hat_overlapping_cross_attention(window, native, size, impl):
    model = hat_model(window, native, DEVICES[impl])
    block = model.layers[0].residual_group.overlap_attn
    keys = block.overlap_win_size
    windows = K.Windows(window, keys=keys, key_offset=(window - keys) // 2, outside="zero")
    # The module's index is mostly negative and wraps: per row of our table, the row of the module's it means.
    ours, theirs = windows.relative_index(), model.relative_position_index_OCA.cpu() % windows.table_rows
    rows = torch.empty(windows.table_rows, dtype=torch.long).index_copy(0, ours.flatten(), theirs.flatten())
    assert torch.equal(rows[ours], theirs)
    assert torch.equal(rows.sort().values, torch.arange(windows.table_rows))

    def twin(x: Tensor) -> Tensor:
        out = K.window_attention(
            block.qkv(block.norm1(x).unflatten(1, size)),
            spread(block.relative_position_bias_table)[rows.to(x.device)],
            heads=2,
            windows=windows,
            impl=impl,
        )
        x = block.proj(out).flatten(1, 2) + x
        return x + block.mlp(block.norm2(x))

    x = torch.randn(2, size[0] * size[1], 20, device=DEVICES[impl])
    agree(block, lambda x: block(x, size, model.relative_position_index_OCA), twin, x)


class FreeTable(nn.Module):
    """A bias table of independent entries where DAT computes one from offsets, nearly constant over sectors of them."""

    def __init__(self, rows: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty(rows, heads))

    def forward(self, *_: Tensor) -> Tensor:
        return self.relative_position_bias_table


DAT_PLACES = {"unshifted": (0, 0), "shifted": (0, 2), "shifted-odd-group": (1, 0)}  # group and block in the network


@IMPLS
@pytest.mark.parametrize("place", DAT_PLACES)
@pytest.mark.parametrize(
    ("split", "native", "size"),
    [
        ((4, 8), 16, (16, 16)),
        ((4, 8), 64, (16, 24)),
        ((4, 8), 64, (13, 18)),
        ((8, 8), 64, (8, 16)),
        ((8, 16), 64, (20, 9)),
        ((8, 32), 64, (32, 40)),
    ],
)
def test_dat_spatial_layer(split, native, size, place, impl):
    layer = dat_layer(split, native, place)
    for branch in layer.attns:
        branch.pos = FreeTable(len(branch.rpe_biases), branch.num_heads)
    randomise(layer.to(DEVICES[impl]))
    check_dat(layer, size, impl)


@IMPLS
@pytest.mark.parametrize("place", DAT_PLACES)
def test_dat_spatial_layer_with_its_position_network(place, impl):
    layer, size = dat_layer((4, 8), 64, place), (16, 24)
    randomise(layer.to(DEVICES[impl]))
    for branch in layer.attns:
        widen(branch.pos.pos3[2], lambda branch=branch: branch.pos(branch.rpe_biases))
    tables = [branch.pos for branch in layer.attns]
    check_dat(layer, size, impl, tables=tables)


def dat_layer(split: tuple[int, int], native: int, place: str) -> Any:
    """Two branches of two heads of 30 channels; much narrower, and the position network makes a constant table."""
    group, block = DAT_PLACES[place]
    shift = [split[0] // 2, split[1] // 2]
    layer = dat.Adaptive_Spatial_Attention(
        120, 4, reso=native, split_size=list(split), shift_size=shift, qkv_bias=True, rg_idx=group, b_idx=block
    )
    assert (layer.attn_mask_0 is not None) == (place != "unshifted")
    return layer


def check_dat(layer: Any, size: tuple[int, int], impl: Any, tables: Sequence[nn.Module] = ()) -> None:
    def twin(x: Tensor) -> Tensor:
        q, k, v = layer.qkv(x.unflatten(1, size)).unflatten(-1, (3, 2, 2, -1)).unbind(3)
        halves = []
        for half, branch in enumerate(layer.attns):
            split, shift = (tuple(pair[::-1] if half else pair) for pair in (layer.split_size, layer.shift_size))
            windows = K.Windows(
                split,
                (0, 0) if layer.attn_mask_0 is None else shift,
                outside="zero",
                order="pad_roll",
                multiple=max(split),
            )
            qkv = (q[:, :, :, half], k[:, :, :, half], v[:, :, :, half])
            table = spread(branch.pos(branch.rpe_biases))
            halves.append(K.window_attention(qkv, table, heads=2, windows=windows, impl=impl))
        attended = torch.cat(halves, -1).permute(0, 3, 1, 2)
        local = layer.dwconv(v.flatten(3).permute(0, 3, 1, 2))
        mixed = attended * layer.channel_interaction(local).sigmoid()
        mixed = mixed + local * layer.spatial_interaction(attended).sigmoid()
        return layer.proj(mixed.flatten(2).transpose(1, 2))

    x = torch.randn(2, size[0] * size[1], 120, device=DEVICES[impl])
    # The gates between attention and convolution are averages over channels or pixels.
    agree(layer, lambda x: layer(x, *size), twin, x, tables=tables, cancelling="_interaction.")


@IMPLS
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window", "native", "size"),
    [(16, 32, (32, 32)), (16, 48, (16, 32)), (16, 48, (16, 16)), (24, 48, (24, 48)), (8, 32, (24, 16))],
)
def test_srformer_block(window, native, size, shifted, impl):
    """The block's mask parts queries and keys where the roll's seam does, at half resolution for the keys."""
    dim, heads = 36, 3  # 9 channels a pixel, 12 a head: a head of the keys straddles two pixels
    shift = window // 2 if shifted else 0
    block: Any = srformer.PSA_Block(dim, (native, native), heads, window_size=window, shift_size=shift, mlp_ratio=2)
    randomise(block.to(DEVICES[impl]))
    attn = block.attn

    def twin(x: Tensor) -> Tensor:
        y = block.norm1(x).unflatten(1, size)
        # k and v at half resolution, each with a quarter of its channels from each of 2x2 pixels.
        kv = attn.kv(y).unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).unflatten(-1, (2, -1))
        k, v = kv.permute(5, 0, 1, 3, 2, 4, 6).flatten(4).unflatten(-1, (heads, -1))
        out = K.window_attention(
            (attn.q(y).unflatten(-1, (heads, -1)), k, v),
            spread(attn.relative_position_bias_table),
            heads=heads,
            windows=K.Windows(window, shift, key_step=window // 2),
            impl=impl,
        )
        x = x + attn.proj(out).flatten(1, 2)
        return x + block.mlp(block.norm2(x), size)

    x = torch.randn(2, size[0] * size[1], dim, device=DEVICES[impl])
    agree(block, lambda x: block(x, size), twin, x)
