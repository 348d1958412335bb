"""Colour for the transparent parts of a picture, so that nothing bleeds from where nothing is seen."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of a band of rows in float32: 8 MiB, however large the picture.
_BAND = 2**21


def fill_transparent(colour: Tensor, alpha: Tensor, *, peak: float = 1.0) -> Tensor:
    """Colour with everything fully transparent replaced by its visible surroundings, so that it cannot bleed.

    What lies under alpha 0 is arbitrary (often black), but a network sees it and darkens or rings the visible edge.
    Here it becomes the alpha-weighted mean of ever larger neighbourhoods (the push-pull pyramid of Gortler et al. 1996,
    "The Lumigraph", section 3.4); visible pixels stay as they are. A picture without any visible pixel becomes grey.

    Beside the result it takes memory for a float32 copy at half the size, and for a third more while it works: levels
    are made and used band by band.

    Args:
        colour: (B, C, H, W) in 0..peak, not premultiplied, of any dtype.
        alpha: (B, 1, H, W) in 0..peak.

    Returns:
        As `colour`, integers rounded; `colour` itself where all is visible.
    """
    return _filled(colour, alpha, peak, own=False)


def _filled(colour: Tensor, alpha: Tensor, peak: float, *, own: bool) -> Tensor:
    """As `fill_transparent`; a colour that is `own` is filled where it lies."""
    height, width = colour.shape[-2:]
    if all((alpha[..., rows, :].float() > 0).all() for rows in _bands(alpha)):
        return colour
    around = None
    if max(height, width) > 1:
        around = _filled(*_halved(colour, alpha, peak), 1.0, own=True)
    filled = colour if own else colour.clone()
    for rows in _bands(colour):
        visible = alpha[..., rows, :].float() > 0
        if visible.all():
            continue
        part = colour[..., rows, :].float()
        values = torch.full_like(part, 0.5) if around is None else _enlarged(around, rows, (height, width))
        values = values * peak
        values = values if colour.is_floating_point() else values.round_()
        filled[..., rows, :].copy_(torch.where(visible, part, values))
    return filled


def _halved(colour: Tensor, alpha: Tensor, peak: float) -> tuple[Tensor, Tensor]:
    """The weighted mean of each 2x2 pixels and its weight, float32 in 0..1."""
    batch, channels, height, width = colour.shape
    size = (-(-height // 2), -(-width // 2))
    mean = colour.new_empty((batch, channels, *size), dtype=torch.float32)
    weight = colour.new_empty((batch, 1, *size), dtype=torch.float32)
    for rows in _bands(colour):
        half = slice(rows.start // 2, -(-rows.stop // 2))
        opacity = alpha[..., rows, :].float() / peak
        weight[..., half, :] = F.avg_pool2d(opacity, 2, ceil_mode=True)
        light = F.avg_pool2d((colour[..., rows, :].float() / peak) * opacity, 2, ceil_mode=True)
        mean[..., half, :] = light / weight[..., half, :].clamp_min(torch.finfo(torch.float32).tiny)
    return mean, weight


def _enlarged(x: Tensor, rows: slice, size: tuple[int, int]) -> Tensor:
    """These rows of `x` enlarged bilinearly to `size`."""
    height, width = size
    place = ((torch.arange(rows.start, rows.stop, device=x.device) + 0.5) * (x.shape[-2] / height) - 0.5).clamp_min(0)
    above = place.long()
    below = (above + 1).clamp_max(x.shape[-2] - 1)
    lines = torch.lerp(x[..., above, :], x[..., below, :], (place - above).to(x.dtype)[:, None])
    return F.interpolate(lines, size=(lines.shape[-2], width), mode="bilinear")


def _bands(x: Tensor) -> Iterator[slice]:
    """Rows to work on at a time, an even number."""
    batch, channels, height, width = x.shape
    step = max(2, _BAND // (batch * channels * width) // 2 * 2)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
