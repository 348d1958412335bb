"""window_attention against the literal roll / partition / softmax / merge of SwinIR, its shift mask built beforehand.

256 windows of 64 tokens, 6 heads. Targets on a CPU: forward >= 1.2x unshifted and >= 1.5x shifted, training >= 1x.
"""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sr_kernels import functional as K

SIZE, HEADS, MAP = 8, 6, 128


def partition(x: Tensor) -> Tensor:
    B, H, W, C = x.shape
    x = x.view(B, H // SIZE, SIZE, W // SIZE, SIZE, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, SIZE * SIZE, C)


def literal(qkv: Tensor, table: Tensor, index: Tensor, shift: int, mask: Tensor | None) -> Tensor:
    B, H, W, C = qkv.shape[0], qkv.shape[1], qkv.shape[2], qkv.shape[3] // 3
    x = qkv.roll((-shift, -shift), (1, 2)) if shift else qkv
    q, k, v = partition(x).view(-1, SIZE * SIZE, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
    scores = (q * (C // HEADS) ** -0.5) @ k.transpose(-2, -1)
    scores = scores + table[index.view(-1)].view(SIZE**2, SIZE**2, -1).permute(2, 0, 1).contiguous()[None]
    if mask is not None:
        scores = scores.view(B, len(mask), HEADS, SIZE**2, SIZE**2) + mask[None, :, None]
        scores = scores.view(-1, HEADS, SIZE**2, SIZE**2)
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, SIZE * SIZE, C)
    out = out.view(B, H // SIZE, W // SIZE, SIZE, SIZE, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, C)
    return out.roll((shift, shift), (1, 2)) if shift else out


def shift_mask(shift: int) -> Tensor:
    labels = torch.zeros(1, MAP, MAP, 1)
    edges = (0, MAP - SIZE, MAP - shift, MAP)
    for i, (top, bottom) in enumerate(pairwise(edges)):
        for j, (left, right) in enumerate(pairwise(edges)):
            labels[:, top:bottom, left:right] = 3 * i + j
    cells = partition(labels)[..., 0]
    return torch.where(cells[:, :, None] == cells[:, None, :], 0.0, -100.0)


@pytest.mark.parametrize("head_dim", [10, 30])
@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_window_attention(race, head_dim, shift, training):
    torch.manual_seed(0)
    qkv = torch.randn(1, MAP, MAP, 3 * HEADS * head_dim, requires_grad=training)
    table = torch.randn((2 * SIZE - 1) ** 2, HEADS, requires_grad=training)
    pull = torch.randn(1, MAP, MAP, HEADS * head_dim)
    windows = K.Windows(SIZE, shift)
    index, mask = windows.relative_index(), shift_mask(shift) if shift else None

    def finish(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, (qkv, table), pull) if training else (out,)

    race(
        {
            "literal": lambda: finish(literal(qkv, table, index, shift, mask)),
            "torch": lambda: finish(K.window_attention(qkv, table, heads=HEADS, windows=windows, impl="torch")),
        },
        ours="torch",
        tolerance=1e-3,
    )
