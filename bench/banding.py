"""Banding: what an upsampler makes of a gradient so slow that no step of it can be seen.

PSNR is a mean over pictures full of texture, which hides rounding. A sky hides nothing: where neighbouring pixels
should differ by a fiftieth of a level and a coarse number format makes it half a level, the eye sees a contour. So a
ramp of RISE levels of 255 over COLUMNS pixels, given with 16 bits, is upscaled, and the float output is compared with
the same ramp at the places of the output pixels, which linear interpolation and Magic Kernel Sharp hit exactly. What
lies within MARGIN input pixels of the edges is left out: there filters see the continuation of the picture.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sr_engine.infer.upscaler import Upscaler

ROWS, COLUMNS, MARGIN = 80, 320, 32  # input pixels
RISE = 24.0  # levels of 255 over the columns
DARKEST = (0.35, 0.5, 0.65)  # of red, green and blue: a sky


class Banding(NamedTuple):
    """rms, largest: error in levels of 255. step: largest difference of neighbouring pixels along either axis, in
    levels. levels: how many of the 256 an 8-bit result has, mean of the channels. back: how often a row of it goes
    down where the ramp goes up, mean of rows and channels."""

    rms: float
    largest: float
    step: float
    levels: float
    back: float


def banding(up: Upscaler) -> Banding:
    """Of an upsampler of any scale."""
    return measured(up(ramp()), up.scale)


def ideal(scale: int) -> Banding:
    """Of the exact ramp."""
    return measured(exact(scale), scale)


def ramp() -> Tensor:
    """The picture (1, 3, ROWS, COLUMNS) in 0..1, rounded to 16 bits."""
    return (_ramp(torch.arange(COLUMNS), ROWS) * 65535).round().div(65535).float()


def exact(scale: int) -> Tensor:
    """The ramp at the centres of the pixels of a result, (1, 3, ROWS * scale, COLUMNS * scale), float64."""
    return _ramp((torch.arange(COLUMNS * scale) + 0.5) / scale - 0.5, ROWS * scale)


def measured(result: Tensor, scale: int) -> Banding:
    """Of the float result (1, 3, ROWS * scale, COLUMNS * scale) of upscaling `ramp`."""
    edge = slice(MARGIN * scale, -MARGIN * scale)
    levels, truth = (255 * x.double()[..., edge, edge] for x in (result, exact(scale)))
    error = levels - truth
    rounded = levels.clamp(0, 255).round()
    distinct = [len(channel.unique()) for channel in rounded[0]]
    return Banding(
        rms=error.square().mean().sqrt().item(),
        largest=error.abs().max().item(),
        step=max(levels.diff(dim=axis).abs().max().item() for axis in (-1, -2)),
        levels=sum(distinct) / len(distinct),
        back=(rounded.diff(dim=-1) < 0).double().sum(-1).mean().item(),
    )


def _ramp(columns: Tensor, rows: int) -> Tensor:
    rise = RISE / 255 * columns.double() / (COLUMNS - 1)
    return (torch.tensor(DARKEST, dtype=torch.float64)[:, None, None] + rise).expand(3, rows, -1)[None]
