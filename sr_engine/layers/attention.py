"""Windowed self-attention as a layer over `K.window_attention`."""

from typing import cast

import torch
from torch import Tensor, nn

from sr_kernels import functional as K
from sr_kernels.dispatch import exporting


class WindowAttention(nn.Module):
    """Multi-head self-attention inside square windows without shift: (B, dim, H, W) -> the same shape.

    The relative-position bias is the compact table ((2 window - 1)^2, heads) in Swin's index order. A map whose size is
    no multiple of the window is continued by reflection (without repeating the edge), whatever its size: zero tokens
    would be keys that no training patch of whole windows has shown the network.

    Args:
        dim: channels; without `head_dim` a multiple of `heads`.
        window: side of the windows in pixels.
        head_dim: channels of a head; None = dim / heads. Another one is what pruning leaves.
    """

    def __init__(self, dim: int, heads: int, window: int, head_dim: int | None = None):
        super().__init__()
        self.heads, self.window = heads, window
        inner = dim if head_dim is None else heads * head_dim
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner)
        self.project = nn.Linear(inner, dim, bias=False)  # so that a window with gate 0 adds nothing
        self.bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)

    def forward(self, x: Tensor, gate: Tensor | None = None, windows: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            gate: (B, 1, ceil(H / window), ceil(W / window)), factor on the result of each window.
            windows: (M,) int64, numbers of windows counted over (B, windows down, windows across), each at most once.
                Only they are normalised, projected and attended to; the result is 0 elsewhere. None = all.
        """
        if windows is not None:
            return self._some(x, gate, windows)
        height, width = x.shape[-2:]
        tokens = _reflect_to_multiple(x.permute(0, 2, 3, 1), self.window)
        out = self._attend(tokens)
        if gate is not None:
            out = _scale_windows(out, gate, self.window)
        return self.project(out[:, :height, :width]).permute(0, 3, 1, 2)

    def _attend(self, tokens: Tensor) -> Tensor:
        """(B, H, W, dim), whole windows -> (B, H, W, heads * head_dim), not yet projected."""
        return K.window_attention(self.qkv(self.norm(tokens)), self.bias_table, heads=self.heads, windows=self.window)

    def _some(self, x: Tensor, gate: Tensor | None, windows: Tensor) -> Tensor:
        """`forward` with the chosen windows gathered first, so that all of it costs their share."""
        batch, dim, height, width = x.shape
        down, across = (_ceil_div(size, self.window) for size in (height, width))
        row = windows // across
        picture = row // down
        top, left = (row - picture * down) * self.window, (windows - row * across) * self.window
        inside = torch.arange(self.window, device=x.device)
        rows, columns = (top[:, None] + inside)[:, :, None], (left[:, None] + inside)[:, None, :]
        picture = picture[:, None, None]
        # Whole pixels by one index: several times as fast as indexing three axes.
        source = (picture * height + _reflected(rows, height)) * width + _reflected(columns, width)
        tokens = x.permute(0, 2, 3, 1).reshape(-1, dim).index_select(0, source.flatten())
        out = self._attend(tokens.view(-1, self.window, self.window, dim))
        if gate is not None:
            out = out * gate.to(out.dtype).flatten()[windows, None, None, None]
        high, wide = down * self.window, across * self.window
        target = (picture * high + rows) * wide + columns
        out = self.project(out).view(-1, dim)
        result = out.new_zeros(batch * high * wide, dim).index_copy_(0, target.flatten(), out)
        return result.view(batch, high, wide, dim)[:, :height, :width].permute(0, 3, 1, 2)


def _reflect_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(B, H, W, C) continued at the far edges by reflection until H and W are multiples of `multiple`."""
    for dim in (1, 2):
        size = x.shape[dim]
        if exporting() or size % multiple:
            steps = torch.arange(_ceil_div(size, multiple) * multiple, device=x.device)
            x = x.index_select(dim, _reflected(steps, size))
    return x


def _reflected(index: Tensor, size: int) -> Tensor:
    """0, 1, .., size-1, size-2, .., 0, 1, .. for 0, 1, 2, ..; all 0 for size 1."""
    # Sizes may be symbols: ONNX divides tensors by them, but takes no remainder.
    period = cast(int, torch.sym_max(2 * (size - 1), 1))
    return (size - 1) - (index - index // period * period - (size - 1)).abs()


def _ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b  # not -(-a // b): of negative numbers, ONNX has another quotient


def _scale_windows(x: Tensor, gate: Tensor, window: int) -> Tensor:
    """Multiply each window of (B, nh * window, nw * window, C) by its number in `gate` (B, 1, nh, nw)."""
    batch, height, width, channels = x.shape
    blocks = x.view(batch, height // window, window, width // window, window, channels)
    return (blocks * gate.to(x.dtype)[:, 0, :, None, :, None, None]).view(x.shape)
