"""Rows of pictures on their way: from an array in parts, in step with each other, and into an array again."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sr_engine.infer.passes import OnTile

# Numbers that are read or rounded at a time: 16 MiB of float32.
_STRIP = 2**22


def source_rows(picture: Tensor, peak: float, device: torch.device, on_tile: OnTile | None = None) -> Iterator[Tensor]:
    """(B, C, H, W) in 0..peak of any dtype as bands (B, C, rows, W) float32 in 0..1 on the device."""
    step = _rows(picture)
    tops = range(0, picture.shape[-2], step)
    for done, top in enumerate(tops, 1):
        yield picture[..., top : top + step, :].to(device).float() / peak
        if on_tile is not None:
            on_tile(done, len(tops))


def in_step(*streams: Iterator[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Bands of pictures of one height, cut so that those given together are of the same rows, a few at a time."""
    parts: list[Tensor | None] = [None] * len(streams)
    while True:
        for i, stream in enumerate(streams):
            parts[i] = next(stream, None) if parts[i] is None else parts[i]
        given = [part for part in parts if part is not None]
        if len(given) < len(streams):
            return
        rows = min(*(part.shape[-2] for part in given), *(_rows(part) for part in given))
        yield tuple(part[..., :rows, :] for part in given)
        parts = [part[..., rows:, :] if part.shape[-2] > rows else None for part in given]
        del given  # what is used up goes before the next is made


def store(strip: Sequence[Tensor], target: Tensor, peak: float) -> int:
    """Put colour and alpha (B, C, rows, W) in 0..1 into the first rows of `target`, in 0..peak; returns the rows."""
    rows, first = strip[0].shape[-2], 0
    for part in strip:
        place = target[:, first : first + part.shape[1], :rows]
        values = part * peak
        if not place.is_floating_point():
            values.round_()
        # From a GPU bytes travel, not floats; 16 bits are converted where every version of torch can.
        place.copy_(values.to(torch.uint8) if place.dtype == torch.uint8 else values.to(place.device))
        first += part.shape[1]
    return rows


def _rows(x: Tensor) -> int:
    return max(1, _STRIP // (x.shape[0] * x.shape[1] * x.shape[3]))
