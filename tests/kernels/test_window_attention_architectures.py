"""Window attention against what SwinIR, timm, torchvision, Swin2SR, HAT, SRFormer, DAT, OmniSR and SCUNet compute.

Each network's attention is written out literally here (slices, rolls, label masks, unfold), in float64, with tables of
standard deviation 1, so that a bias or mask read at the wrong place is far outside the tolerance.
"""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sr_kernels import functional as K

HEADS, HEAD_DIM = 2, 5
C = HEADS * HEAD_DIM
IMPLS = pytest.mark.parametrize("impl", ["reference", "torch"])


@pytest.fixture(autouse=True)
def _float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def cut(x: Tensor, h: int, w: int) -> Tensor:
    """(B,H,W,C) -> (B, windows, h*w, C), window by window."""
    _, H, W, _ = x.shape
    cells = [x[:, i : i + h, j : j + w].flatten(1, 2) for i in range(0, H, h) for j in range(0, W, w)]
    return torch.stack(cells, 1)


def paste(cells: Tensor, h: int, w: int, H: int, W: int) -> Tensor:
    out = cells.new_zeros(cells.shape[0], H, W, cells.shape[-1])
    places = [(i, j) for i in range(0, H, h) for j in range(0, W, w)]
    for n, (i, j) in enumerate(places):
        out[:, i : i + h, j : j + w] = cells[:, n].unflatten(1, (h, w))
    return out


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None = None, scale: float = HEAD_DIM**-0.5):
    """(B, windows, N, C) each, bias (heads, Nq, Nk), mask (windows, Nq, Nk) -> (B, windows, Nq, C)."""
    q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(2, 3) for t in (q, k, v))
    logits = q @ k.transpose(-1, -2) * scale + bias
    if mask is not None:
        logits = logits + mask[:, None]
    return (logits.softmax(-1) @ v).transpose(2, 3).flatten(3)


def swin_bias(table: Tensor, h: int, w: int) -> Tensor:
    """Swin's relative position bias, pair by pair."""
    bias = table.new_zeros(HEADS, h * w, h * w)
    for q in range(h * w):
        for k in range(h * w):
            bias[:, q, k] = table[(q // w - k // w + h - 1) * (2 * w - 1) + q % w - k % w + w - 1]
    return bias


def region_mask(H: int, W: int, window: tuple[int, int], shift: tuple[int, int], penalty: float = -100.0) -> Tensor:
    """The nine-region label mask of Swin's shifted windows: (windows, N, N)."""
    labels = torch.zeros(1, H, W, 1)
    rows, columns = ([0, size - w, size - s, size] for size, w, s in zip((H, W), window, shift, strict=True))
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for j, (left, right) in enumerate(pairwise(columns)):
            labels[:, top:bottom, left:right] = 3 * i + j
    cells = cut(labels, *window)[0, ..., 0]
    return torch.zeros(len(cells), cells.shape[1], cells.shape[1]).masked_fill(
        cells[:, :, None] != cells[:, None, :], penalty
    )


def shifted(qkv: Tensor, bias: Tensor, window: tuple[int, int], shift: tuple[int, int], mask: Tensor | None) -> Tensor:
    """Roll, cut, attend, paste, roll back, on a map of whole windows."""
    _, H, W, _ = qkv.shape
    q, k, v = cut(qkv.roll((-shift[0], -shift[1]), (1, 2)), *window).chunk(3, -1)
    return paste(attend(q, k, v, bias, mask), *window, H, W).roll(shift, (1, 2))


@IMPLS
@pytest.mark.parametrize(("size", "shift", "H", "W"), [(4, 0, 8, 12), (4, 2, 8, 12), (4, 2, 4, 4), (7, 3, 14, 7)])
def test_swinir(impl, size, shift, H, W):
    qkv, table = torch.randn(2, H, W, 3 * C), torch.randn((2 * size - 1) ** 2, HEADS)
    window = (size, size)
    mask = region_mask(H, W, window, (shift, shift)) if shift else None
    expected = shifted(qkv, swin_bias(table, *window), window, (shift, shift), mask)
    actual = K.window_attention(qkv, table, heads=HEADS, windows=K.Windows(size, shift), impl=impl)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (2, 1)])
def test_torchvision_pads_then_rolls_with_the_bias_of_qkv(impl, shift):
    size, H, W = 4, 10, 7
    weight, token = torch.randn(3 * C, C), torch.randn(3 * C)
    x, table = torch.randn(2, H, W, C), torch.randn(49, HEADS)
    padded = F.pad(x, (0, 0, 0, 1, 0, 2))
    mask = region_mask(12, 8, (size, size), shift) if any(shift) else None
    expected = shifted(F.linear(padded, weight, token), swin_bias(table, size, size), (size, size), shift, mask)
    windows = K.Windows(size, shift, outside="token", order="pad_roll")
    qkv = F.linear(x, weight, token)
    actual = K.window_attention(qkv, table, heads=HEADS, windows=windows, pad_token=token, impl=impl)
    torch.testing.assert_close(actual, expected[:, :H, :W], rtol=0, atol=1e-12)


@IMPLS
@pytest.mark.parametrize("cosine", [False, True])
def test_torchvision_itself(impl, cosine):
    swin = pytest.importorskip("torchvision.models.swin_transformer")
    size, shift, H, W = 4, [2, 1], 10, 7
    weight, token = torch.randn(3 * C, C), torch.randn(3 * C)
    x, bias, scale = torch.randn(2, H, W, C), torch.randn(HEADS, 16, 16), torch.randn(HEADS, 1, 1)
    if cosine:
        token[C : 2 * C] = 0
    expected = swin.shifted_window_attention(
        x,
        weight,
        torch.eye(C),
        bias[None],
        [size, size],
        HEADS,
        shift,
        qkv_bias=token,
        logit_scale=scale if cosine else None,
    )
    actual = K.window_attention(
        F.linear(x, weight, token),
        bias,
        heads=HEADS,
        windows=K.Windows(size, (2, 1), outside="token", order="pad_roll"),
        logit_scale=scale.clamp(max=math.log(100)).exp() if cosine else None,
        pad_token=token,
        impl=impl,
    )
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
@pytest.mark.parametrize("shift", [(2, 2), (0, 1)])
def test_timm_rolls_then_pads(impl, shift):
    size, H, W = 4, 10, 7
    weight, token = torch.randn(3 * C, C), torch.randn(3 * C)
    x, table = torch.randn(2, H, W, C), torch.randn(49, HEADS)
    padded = F.pad(x.roll((-shift[0], -shift[1]), (1, 2)), (0, 0, 0, 1, 0, 2))
    q, k, v = cut(F.linear(padded, weight, token), size, size).chunk(3, -1)
    out = attend(q, k, v, swin_bias(table, size, size), region_mask(12, 8, (size, size), shift))
    expected = paste(out, size, size, 12, 8)[:, :H, :W].roll(shift, (1, 2))
    actual = K.window_attention(
        F.linear(x, weight, token),
        table,
        heads=HEADS,
        windows=K.Windows(size, shift, outside="token", order="roll_pad"),
        pad_token=token,
        impl=impl,
    )
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
def test_swin2sr_cosine(impl):
    size, shift, H, W = 4, 2, 8, 8
    qkv, table, scale = torch.randn(2, H, W, 3 * C), 16 * torch.randn(49, HEADS).sigmoid(), torch.rand(HEADS, 1, 1) * 10
    q, k, v = (t.unflatten(-1, (HEADS, -1)) for t in cut(qkv.roll((-shift, -shift), (1, 2)), size, size).chunk(3, -1))
    cosine = F.normalize(q, dim=-1).transpose(2, 3) @ F.normalize(k, dim=-1).permute(0, 1, 3, 4, 2)
    logits = cosine * scale + swin_bias(table, size, size) + region_mask(H, W, (size, size), (shift, shift))[:, None]
    out = (logits.softmax(-1) @ v.transpose(2, 3)).transpose(2, 3).flatten(3)
    expected = paste(out, size, size, H, W).roll((shift, shift), (1, 2))
    windows = K.Windows(size, shift)
    actual = K.window_attention(qkv, table, heads=HEADS, windows=windows, logit_scale=scale, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
def test_hat_overlapping_cross_attention(impl):
    """HAT's index is negative for most pairs and wraps in its table: a fixed permutation of the rows of ours."""
    size, keys, H, W = 4, 6, 8, 12
    rows = size + keys - 1
    qkv, table = torch.randn(2, H, W, 3 * C), torch.randn(rows**2, HEADS)
    q, k, v = qkv.chunk(3, -1)
    kv = F.unfold(torch.cat([k, v], -1).permute(0, 3, 1, 2), keys, stride=size, padding=(keys - size) // 2)
    k, v = kv.unflatten(1, (2, C, keys**2)).permute(1, 0, 4, 3, 2)
    bias = table.new_zeros(HEADS, size**2, keys**2)
    permutation = torch.empty(rows**2, dtype=torch.long)
    for n in range(size**2):
        for m in range(keys**2):
            dy, dx = n // size - m // keys, n % size - m % keys
            index = (size - keys + 1 - dy) * rows + size - keys + 1 - dx
            bias[:, n, m] = table[index]
            permutation[(dy + keys - 1) * rows + dx + keys - 1] = index % rows**2
    expected = paste(attend(cut(q, size, size), k, v, bias), size, size, H, W)
    windows = K.Windows(size, keys=keys, key_offset=(size - keys) // 2, outside="zero")
    actual = K.window_attention(qkv, table[permutation], heads=HEADS, windows=windows, impl=impl)
    assert sorted(permutation.tolist()) == list(range(rows**2))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
@pytest.mark.parametrize("shift", [0, 2])
def test_srformer_permuted_attention(impl, shift):
    """PSA: a quarter of the key channels from each of 2x2 pixels. Its own mask is constant along the keys: none."""
    size, heads, H, W, c = 4, 2, 8, 12, 8
    half = size // 2
    q_map, kv_map = torch.randn(2, H, W, c), torch.randn(2, H, W, c // 2)
    table = torch.randn((2 * half - 1) ** 2, heads)
    q, kv = (cut(t.roll((-shift, -shift), (1, 2)), size, size) for t in (q_map, kv_map))
    kv = kv.unflatten(3, (2, c // 4)).unflatten(2, (half, 2, half, 2)).permute(6, 0, 1, 2, 4, 3, 5, 7)
    k, v = kv.flatten(5).flatten(3, 4).unflatten(-1, (heads, -1)).transpose(3, 4)
    index = torch.arange(size**2)
    coarse = index // size // 2 * half + index % size // 2
    logits = q.unflatten(-1, (heads, -1)).transpose(2, 3) @ k.transpose(-1, -2) * (c // heads) ** -0.5
    logits = logits + swin_bias(table, half, half)[:, coarse]
    if shift:
        rows = torch.arange(3).repeat_interleave(torch.tensor([H - size, size - shift, shift]))
        labels = cut(rows[None, :, None, None].expand(1, H, W, 1), size, size)[0, ..., 0]
        keys = torch.where(torch.arange(H // 2) < H // 2 - half, 0, 2)[None, :, None, None].expand(1, H // 2, W // 2, 1)
        logits = logits - 100.0 * (labels[:, :, None] != cut(keys, half, half)[0, ..., 0][:, None])[:, None]
    out = (logits.softmax(-1) @ v).transpose(2, 3).flatten(3)
    expected = paste(out, size, size, H, W).roll((shift, shift), (1, 2))

    def key_map(channels: slice) -> Tensor:
        cells = kv_map[..., channels].unflatten(1, (H // 2, 2)).unflatten(3, (W // 2, 2)).permute(0, 1, 3, 2, 4, 5)
        return cells.flatten(3).unflatten(-1, (heads, -1))

    qkv = (q_map.unflatten(-1, (heads, -1)), key_map(slice(0, c // 4)), key_map(slice(c // 4, None)))
    windows = K.Windows(size, shift, key_step=half, penalty=0)
    actual = K.window_attention(qkv, table, heads=heads, windows=windows, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
@pytest.mark.parametrize(("window", "shift"), [((2, 4), (1, 2)), ((4, 2), (2, 1)), ((2, 4), (0, 0))])
def test_dat_rectangles_padded_with_zeros_after_qkv(impl, window, shift):
    H, W = 6, 7
    qkv, table = torch.randn(2, H, W, 3 * C), torch.randn((2 * window[0] - 1) * (2 * window[1] - 1), HEADS)
    padded = F.pad(qkv, (0, 0, 0, 1, 0, 2))  # both axes to a multiple of the longer side, 4
    mask = region_mask(8, 8, window, shift) if any(shift) else None
    expected = shifted(padded, swin_bias(table, *window), window, shift, mask)[:, :H, :W]
    windows = K.Windows(window, shift, outside="zero", order="pad_roll", multiple=max(window))
    actual = K.window_attention(qkv, table, heads=HEADS, windows=windows, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
def test_omnisr_grid(impl):
    size, H, W = 4, 8, 12
    qkv, table = torch.randn(2, H, W, 3 * C), torch.randn(49, HEADS)
    expected = torch.zeros(2, H, W, C)
    for i in range(H // size):
        for j in range(W // size):
            taken = qkv[:, i :: H // size, j :: W // size]
            q, k, v = taken.flatten(1, 2)[:, None].chunk(3, -1)
            out = attend(q, k, v, swin_bias(table, size, size))
            expected[:, i :: H // size, j :: W // size] = out[:, 0].unflatten(1, (size, size))
    actual = K.window_attention(qkv, table, heads=HEADS, windows=K.Windows(size, layout="grid"), impl=impl)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@IMPLS
def test_scunet_forbids_pairs_across_the_seam(impl):
    size, shift, H, W = 4, 2, 8, 8
    qkv, bias = torch.randn(1, H, W, 3 * C), torch.randn(HEADS, 16, 16)
    mask = region_mask(H, W, (size, size), (shift, shift), -math.inf)
    expected = shifted(qkv, bias, (size, size), (shift, shift), mask)
    windows = K.Windows(size, shift, penalty=-math.inf)
    actual = K.window_attention(qkv, bias, heads=HEADS, windows=windows, impl=impl)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
