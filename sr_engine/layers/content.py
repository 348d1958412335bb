"""What the picture looks like around each pixel, and how that modulates a network."""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sr_kernels import functional as K

# Channels of both maps of `Content`: eight statistics at each of two scales.
STATISTICS = 16
# Reach of a statistic in pixels: one for the derivative, three for the 7x7 blur; the coarse ones see pairs of pixels.
STATISTICS_REACH = 2 * 4 + 1


class Content(NamedTuple):
    """Statistics of a picture, computed once and read by every content-aware part; all fp32 and of the order of 1.

    fine: (B, 16, H, W), for every pixel those of both scales.
    coarse: (B, 16, ceil(H / 2), ceil(W / 2)), the same for every cell of 2x2 pixels.
    difficulty: (B, 2, ceil(H / window), ceil(W / window)), mean and maximum of log |Laplacian| per window.
    """

    fine: Tensor
    coarse: Tensor
    difficulty: Tensor


class ContentAnalyzer(nn.Module):
    """Content statistics of a picture (B, 3 or 1, H, W) in 0..1.

    Nothing is normalised per picture, so a tile whose origin is a multiple of 2 and of `window` gives what the whole
    picture gives. There is nothing to learn here: each reader has its own 1x1 convolution of the statistics.

    Args:
        window: side of the windows of the difficulty, in pixels.
        fine, coarse: whether that map is wanted; otherwise it is left empty.
    """

    def __init__(self, window: int = 8, *, fine: bool = True, coarse: bool = True):
        super().__init__()
        self.window = window
        self.wanted = fine, coarse

    def forward(self, x: Tensor) -> Content:
        with torch.autocast(x.device.type, enabled=False):
            fine, coarse, difficulty = K.content_stats(x.float(), window=self.window)
            none = fine.new_empty(0)
            pixels, cells = self.wanted
            return Content(
                _pixel_map(fine, coarse) if pixels else none, _cell_map(fine, coarse) if cells else none, difficulty
            )


def _pixel_map(fine: Tensor, coarse: Tensor) -> Tensor:
    """Both scales for every pixel, channels last."""
    if not _in_whole_cells(fine):
        return torch.cat((fine, double(coarse, like=fine)), dim=1).contiguous(memory_format=torch.channels_last)
    by_cell = to_cells(fine)  # written once, in the layout they are read in
    return from_cells(torch.cat((by_cell, _over_cells(coarse).expand_as(by_cell)), dim=-1))


def _cell_map(fine: Tensor, coarse: Tensor) -> Tensor:
    """Both scales for every cell, channels last."""
    if not _in_whole_cells(fine):
        means = F.avg_pool2d(fine, 2, ceil_mode=True)
    else:
        rows = fine[..., ::2, :] + fine[..., 1::2, :]
        means = 0.25 * (rows[..., ::2] + rows[..., 1::2])
    return torch.cat((means, coarse), dim=1).contiguous(memory_format=torch.channels_last)


class FiLM(nn.Module):
    """Scale and shift of a feature map by the statistics of each 2x2 cell; the identity when new.

    `(B, channels, H, W), Content -> (B, channels, H, W)`; Perez et al. 2018, with a map for the vector. Cells in place
    of pixels halve what it costs to train a small network: a quarter of the projections and their gradients.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Conv2d(STATISTICS, channels, 1)
        self.shift = nn.Conv2d(STATISTICS, channels, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.ones_(self.scale.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, content: Content) -> Tensor:
        cells = content.coarse.to(self.scale.weight.dtype).permute(0, 2, 3, 1)
        # A matrix product: on so few channels a convolution takes a third longer.
        scale, shift = (
            F.linear(cells, conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2) for conv in (self.scale, self.shift)
        )
        if not _in_whole_cells(x):
            return torch.addcmul(double(shift, like=x), x, double(scale, like=x))
        return cast(Tensor, _Modulate.apply(x, scale, shift))


class _Modulate(torch.autograd.Function):
    """x * scale + shift of maps of even sides and of their cells, without a scale and shift of every pixel.

    Autograd's own gradient of such a broadcast sums over strided axes and takes ten times as long as this.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return from_cells(torch.addcmul(_over_cells(shift), to_cells(x), _over_cells(scale)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        grad, x = to_cells(grads[0]), to_cells(x)
        products = torch.addcmul(grad[:, :, 0] * x[:, :, 0], grad[:, :, 1], x[:, :, 1])
        return from_cells(grad * _over_cells(scale)), _add_columns(products), _cell_sums(grad)


def double(cells: Tensor, like: Tensor) -> Tensor:
    """(B, C, ceil(H / 2), ceil(W / 2)) -> (B, C, H, W), the size of `like`: each cell to its four pixels."""
    return F.interpolate(cells, scale_factor=2.0, mode="nearest")[..., : like.shape[-2], : like.shape[-1]]


def _in_whole_cells(x: Tensor) -> bool:
    """Whether cells can be met as views. Compilers fuse the plain form, and exported graphs have sizes to come."""
    return not torch.compiler.is_compiling() and x.shape[-2] % 2 == x.shape[-1] % 2 == 0


def to_cells(x: Tensor) -> Tensor:
    """(B, C, H, W) of even H and W -> (B, H / 2, 2, W / 2, 2, C), a view."""
    return x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))


def from_cells(blocks: Tensor) -> Tensor:
    """The inverse of `to_cells`; channels last."""
    return blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _over_cells(cells: Tensor) -> Tensor:
    """(B, C, h, w) as (B, h, 1, w, 1, C), which broadcasts over the pixels of each cell."""
    return cells.permute(0, 2, 3, 1)[:, :, None, :, None]


def _cell_sums(blocks: Tensor) -> Tensor:
    """(B, h, 2, w, 2, C) -> (B, C, h, w), channels last."""
    return _add_columns(blocks[:, :, 0] + blocks[:, :, 1])


def _add_columns(rows: Tensor) -> Tensor:
    """(B, h, w, 2, C) -> (B, C, h, w), channels last."""
    return (rows[..., 0, :] + rows[..., 1, :]).permute(0, 3, 1, 2)
